#include <cstdio>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "engine/arch/read_model_spec.h"
#include "engine/checkpoint/gguf_types.h"
#include "engine/format/planned_formats.h"
#include "engine/model/placement.h"
#include "gmock/gmock.h"
#include "tests/sparse_gguf.h"
#include "tests/test_data.h"

// Headers of published GGUF files, rebuilt: names and shapes as llama.cpp's converter writes them,
// types by its rules for the mixture.

namespace tprun {
namespace {

using testing::HasSubstr;

class GgufModel : public testing::Test {
 protected:
  GgufModel() : path_(testing::TempDir() + "/sparse_model.gguf") {}
  ~GgufModel() override { std::remove(path_.c_str()); }

  void Add(const std::string& name, std::vector<int64_t> shape, const std::string& format) {
    tensors_.push_back({name, std::move(shape), format});
  }
  void AddLayer(int layer, const std::string& name, std::vector<int64_t> shape,
                const std::string& format) {
    Add(absl::StrCat("blk.", layer, ".", name), std::move(shape), format);
  }

  // Llama's attention and norms with everything in `format` but the value projection.
  void AddAttention(int i, int64_t dim, int64_t query, int64_t kv, const std::string& format,
                    const std::string& value_format) {
    AddLayer(i, "attn_norm.weight", {dim}, "f32");
    AddLayer(i, "attn_q.weight", {query, dim}, format);
    AddLayer(i, "attn_k.weight", {kv, dim}, format);
    AddLayer(i, "attn_v.weight", {kv, dim}, value_format);
    AddLayer(i, "attn_output.weight", {dim, query}, format);
    AddLayer(i, "ffn_norm.weight", {dim}, "f32");
  }

  void AddExperts(int i, int64_t experts, int64_t ffn, int64_t dim, const std::string& format,
                  const std::string& down_format) {
    AddLayer(i, "ffn_gate_inp.weight", {experts, dim}, "f32");
    AddLayer(i, "ffn_gate_exps.weight", {experts, ffn, dim}, format);
    AddLayer(i, "ffn_up_exps.weight", {experts, ffn, dim}, format);
    AddLayer(i, "ffn_down_exps.weight", {experts, dim, ffn}, down_format);
  }

  ModelSpec Read(const Json& metadata) {
    const absl::Status written = WriteSparseGguf(path_, metadata, tensors_);
    EXPECT_TRUE(written.ok()) << written;
    const auto checkpoint = Checkpoint::Open(path_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return {};
    auto spec = ReadModelSpec(**checkpoint);
    EXPECT_TRUE(spec.ok()) << spec.status();
    return spec.ok() ? *std::move(spec) : ModelSpec{};
  }

  // Every byte of the file's tensors is some rank's, once: for one rank, and for three with unequal
  // shares (replicated tensors counted once).
  static int64_t MatrixBytes(const ModelSpec& spec, int ranks) {
    int64_t bytes = 0;
    for (const TensorSpec& tensor : spec.tensors) {
      if (tensor.role == TensorRole::kHead && spec.tied_head) continue;
      const int64_t units = UnitsOf(spec, tensor.block).count;
      Placement placement = {.ranks = {0}, .shares = {units}};
      if (ranks == 3) placement = {{0, 1, 2}, {units / 2, 0, units - units / 2}};
      for (int i = 0; i < ranks; ++i) {
        if (i > 0 && tensor.split == SplitRule::kReplicate) break;
        bytes += ShardBytes(tensor, ShardOf(spec, tensor, placement, i));
      }
    }
    return bytes;
  }

  std::string path_;
  std::vector<SparseTensor> tensors_;
};

bool MoreBits(int i, int n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

Json Metadata(const std::string& a, int layers, int64_t dim, int64_t ffn, int heads, int kv_heads,
              int64_t context) {
  return {{"general.architecture", a},
          {a + ".block_count", layers},
          {a + ".context_length", context},
          {a + ".embedding_length", dim},
          {a + ".feed_forward_length", ffn},
          {a + ".attention.head_count", heads},
          {a + ".attention.head_count_kv", kv_heads},
          {a + ".attention.layer_norm_rms_epsilon", 1e-5}};
}

TEST(PlannedFormats, HaveTheSizesOfTheContainer) {
  int found = 0;
  for (const WeightFormat* format : AllWeightFormats()) {
    if (format->ggml_type < 0) continue;
    const GgmlType* type = FindGgmlTypeInfo(format->ggml_type);
    ASSERT_NE(type, nullptr) << format->name;
    EXPECT_EQ(type->block_elements, format->block_elements) << format->name;
    EXPECT_EQ(type->block_bytes, format->block_bytes) << format->name;
    ++found;
  }
  for (const WeightFormat& format : PlannedFormats()) {
    EXPECT_FALSE(format.decodable()) << format.name;
    if (format.ggml_type < 0) continue;
    const GgmlType* type = FindGgmlTypeInfo(format.ggml_type);
    ASSERT_NE(type, nullptr) << format.name;
    EXPECT_EQ(type->block_elements, format.block_elements) << format.name;
    EXPECT_EQ(type->block_bytes, format.block_bytes) << format.name;
    EXPECT_EQ(FindPlannedFormat(type->name), &format);
    ++found;
  }
  EXPECT_GT(found, 25);
  EXPECT_EQ(FindPlannedFormat("F8_E4M3"), FindWeightFormat("fp8_e4m3"));
  EXPECT_EQ(FindPlannedFormat("I32"), nullptr);
}

TEST_F(GgufModel, Llama3Q4_K_M) {
  Add("token_embd.weight", {128256, 4096}, "q4_k");
  for (int i = 0; i < 32; ++i) {
    const std::string wide = MoreBits(i, 32) ? "q6_k" : "q4_k";
    AddAttention(i, 4096, 4096, 1024, "q4_k", wide);
    AddLayer(i, "ffn_gate.weight", {14336, 4096}, "q4_k");
    AddLayer(i, "ffn_up.weight", {14336, 4096}, "q4_k");
    AddLayer(i, "ffn_down.weight", {4096, 14336}, wide);
  }
  Add("output_norm.weight", {4096}, "f32");
  Add("output.weight", {128256, 4096}, "q6_k");
  Json metadata = Metadata("llama", 32, 4096, 14336, 32, 8, 8192);
  metadata["llama.rope.dimension_count"] = 128;
  const ModelSpec spec = Read(metadata);
  EXPECT_EQ(ParameterCount(spec), 8030261248);
  // model-specs: sum of the published file's tensors, norms included.
  EXPECT_EQ(MatrixBytes(spec, 1), 4912898048);
  EXPECT_EQ(MatrixBytes(spec, 3), 4912898048);
  // A unit of attention is one KV head: its 4 * 128 columns are whole blocks of 256.
  EXPECT_EQ(UnitsOf(spec, spec.attention_block(0)).count, 8);
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(0)).elements, 256);
}

TEST_F(GgufModel, WithTypesThatCannotBeDecodedIsPlannedNotRun) {
  Add("token_embd.weight", {512, 256}, "nvfp4");
  AddAttention(0, 256, 256, 256, "iq3_s", "iq1_m");
  AddLayer(0, "ffn_gate.weight", {256, 256}, "iq2_xxs");
  AddLayer(0, "ffn_up.weight", {256, 256}, "tq1_0");
  AddLayer(0, "ffn_down.weight", {256, 256}, "tq2_0");
  Add("output_norm.weight", {256}, "f32");
  const ModelSpec spec = Read(Metadata("llama", 1, 256, 256, 4, 4, 512));
  EXPECT_EQ(MatrixBytes(spec, 1), 512 * 144 + 256 * (3 * 110 + 56 + 66 + 54 + 66) + 3 * 256 * 4);
  EXPECT_THAT(spec.not_runnable, HasSubstr("\"token_embd.weight\" is of type nvfp4, which cannot"));
  EXPECT_EQ(CheckRunnable(spec).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GgufModel, Mixtral) {
  Add("token_embd.weight", {32000, 4096}, "q4_k");
  for (int i = 0; i < 32; ++i) {
    AddAttention(i, 4096, 4096, 1024, "q4_k", "q8_0");
    AddExperts(i, 8, 14336, 4096, "q4_k", MoreBits(i, 32) ? "q6_k" : "q4_k");
  }
  Add("output_norm.weight", {4096}, "f32");
  Add("output.weight", {32000, 4096}, "q6_k");
  Json metadata = Metadata("llama", 32, 4096, 14336, 32, 8, 32768);
  metadata["llama.expert_count"] = 8;
  metadata["llama.expert_used_count"] = 2;
  metadata["llama.rope.freq_base"] = 1e6;
  const ModelSpec spec = Read(metadata);
  EXPECT_EQ(spec.architecture, "mixtral");
  EXPECT_EQ(ParameterCount(spec), 46702792704);
  EXPECT_EQ(ActiveParameterCount(spec), 12879925248);  // "12.9B", arXiv 2401.04088
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(3)).count, 8);
  EXPECT_EQ(MatrixBytes(spec, 1), MatrixBytes(spec, 3));
}

TEST_F(GgufModel, Qwen3MoE) {
  Add("token_embd.weight", {151936, 2048}, "q4_k");
  for (int i = 0; i < 48; ++i) {
    const std::string wide = MoreBits(i, 48) ? "q6_k" : "q4_k";
    AddAttention(i, 2048, 4096, 512, "q4_k", wide);
    AddLayer(i, "attn_q_norm.weight", {128}, "f32");
    AddLayer(i, "attn_k_norm.weight", {128}, "f32");
    AddExperts(i, 128, 768, 2048, "q4_k", wide);
  }
  Add("output_norm.weight", {2048}, "f32");
  Add("output.weight", {151936, 2048}, "q6_k");
  Json metadata = Metadata("qwen3moe", 48, 2048, 6144, 32, 4, 40960);
  metadata["qwen3moe.attention.key_length"] = 128;
  metadata["qwen3moe.attention.value_length"] = 128;
  metadata["qwen3moe.expert_count"] = 128;
  metadata["qwen3moe.expert_used_count"] = 8;
  metadata["qwen3moe.expert_feed_forward_length"] = 768;
  const ModelSpec spec = Read(metadata);
  EXPECT_EQ(ParameterCount(spec), 30532122624);
  EXPECT_EQ(MatrixBytes(spec, 1), MatrixBytes(spec, 3));
  // The published file has 18,556,686,912 bytes, 6 MB of them the vocabulary.
  EXPECT_NEAR(static_cast<double>(MatrixBytes(spec, 1)), 18.556e9, 0.02e9);
}

TEST_F(GgufModel, DeepSeekV2LiteInBothForms) {
  for (const bool split : {false, true}) {
    tensors_.clear();
    Add("token_embd.weight", {102400, 2048}, "q4_k");
    for (int i = 0; i < 27; ++i) {
      AddLayer(i, "attn_norm.weight", {2048}, "f32");
      AddLayer(i, "attn_q.weight", {16 * 192, 2048}, "q4_k");
      AddLayer(i, "attn_kv_a_mqa.weight", {576, 2048}, "q4_k");
      AddLayer(i, "attn_kv_a_norm.weight", {512}, "f32");
      if (split) {
        AddLayer(i, "attn_k_b.weight", {16, 512, 128}, "q5_0");
        AddLayer(i, "attn_v_b.weight", {16, 128, 512}, "q4_k");
      } else {
        AddLayer(i, "attn_kv_b.weight", {16 * 256, 512}, "q4_k");
      }
      AddLayer(i, "attn_output.weight", {2048, 16 * 128}, "q4_k");
      AddLayer(i, "ffn_norm.weight", {2048}, "f32");
      if (i == 0) {
        AddLayer(i, "ffn_gate.weight", {10944, 2048}, "q4_k");
        AddLayer(i, "ffn_up.weight", {10944, 2048}, "q4_k");
        AddLayer(i, "ffn_down.weight", {2048, 10944}, "q5_0");
        continue;
      }
      AddExperts(i, 64, 1408, 2048, "q4_k", "q5_0");
      AddLayer(i, "ffn_gate_shexp.weight", {2816, 2048}, "q4_k");
      AddLayer(i, "ffn_up_shexp.weight", {2816, 2048}, "q4_k");
      AddLayer(i, "ffn_down_shexp.weight", {2048, 2816}, "q6_k");
    }
    Add("output_norm.weight", {2048}, "f32");
    Add("output.weight", {102400, 2048}, "q6_k");
    Json metadata = Metadata("deepseek2", 27, 2048, 10944, 16, split ? 1 : 16, 163840);
    metadata["deepseek2.attention.kv_lora_rank"] = 512;
    metadata["deepseek2.attention.key_length"] = split ? 576 : 192;
    metadata["deepseek2.attention.value_length"] = split ? 512 : 128;
    if (split) {
      metadata["deepseek2.attention.key_length_mla"] = 192;
      metadata["deepseek2.attention.value_length_mla"] = 128;
    }
    metadata["deepseek2.rope.dimension_count"] = 64;
    metadata["deepseek2.rope.scaling.type"] = "yarn";
    metadata["deepseek2.rope.scaling.factor"] = 40.0;
    metadata["deepseek2.expert_count"] = 64;
    metadata["deepseek2.expert_used_count"] = 6;
    metadata["deepseek2.expert_shared_count"] = 2;
    metadata["deepseek2.expert_feed_forward_length"] = 1408;
    metadata["deepseek2.leading_dense_block_count"] = 1;
    const ModelSpec spec = Read(metadata);
    EXPECT_EQ(ParameterCount(spec), 15706484224);
    EXPECT_EQ(MatrixBytes(spec, 1), MatrixBytes(spec, 3));
    EXPECT_EQ(spec.layers[1].attention.latent_cache(), 576);
    EXPECT_EQ(UnitsOf(spec, spec.attention_block(1)).count, 8);  // pairs of heads: 256 columns
    EXPECT_EQ(spec.not_runnable, "");
  }
}

TEST_F(GgufModel, Gemma2) {
  Add("token_embd.weight", {256000, 3584}, "q6_k");
  for (int i = 0; i < 42; ++i) {
    const std::string wide = MoreBits(i, 42) ? "q6_k" : "q4_k";
    AddAttention(i, 3584, 4096, 2048, "q4_k", wide);
    AddLayer(i, "post_attention_norm.weight", {3584}, "f32");
    AddLayer(i, "post_ffw_norm.weight", {3584}, "f32");
    AddLayer(i, "ffn_gate.weight", {14336, 3584}, "q4_k");
    AddLayer(i, "ffn_up.weight", {14336, 3584}, "q4_k");
    AddLayer(i, "ffn_down.weight", {3584, 14336}, wide);
  }
  Add("output_norm.weight", {3584}, "f32");
  Json metadata = Metadata("gemma2", 42, 3584, 14336, 16, 8, 8192);
  metadata["gemma2.attention.key_length"] = 256;
  metadata["gemma2.attention.value_length"] = 256;
  metadata["gemma2.attention.sliding_window"] = 4096;
  metadata["gemma2.attn_logit_softcapping"] = 50.0;
  metadata["gemma2.final_logit_softcapping"] = 30.0;
  const ModelSpec spec = Read(metadata);
  EXPECT_EQ(ParameterCount(spec), 9241705984);
  EXPECT_TRUE(spec.tied_head);
  EXPECT_EQ(spec.layers[0].attention.window, 4096);
  EXPECT_EQ(spec.layers[1].attention.window, 0);
  // The published file has 5.76e9 bytes.
  EXPECT_NEAR(static_cast<double>(MatrixBytes(spec, 1)), 5.755e9, 0.01e9);
}

TEST_F(GgufModel, OfAnUnknownArchitectureIsPlannedByItsNames) {
  Add("token_embd.weight", {1024, 256}, "q4_k");
  Add("blk.0.attn_norm.weight", {256}, "f32");
  Add("blk.0.attn_q.weight", {256, 256}, "q4_k");
  Add("blk.0.attn_k.weight", {128, 256}, "q4_k");
  Add("blk.0.attn_v.weight", {128, 256}, "q4_k");
  Add("blk.0.attn_output.weight", {256, 256}, "q4_k");
  Add("blk.0.attn_odd.weight", {3, 5, 7, 256}, "f16");
  Add("blk.0.ffn_up_exps.weight", {4, 512, 256}, "q4_k");
  Add("blk.0.ffn_down_exps.weight", {4, 256, 512}, "q6_k");
  Add("output_norm.weight", {256}, "f32");
  Json metadata = Metadata("unheard", 1, 256, 512, 4, 2, 4096);
  metadata["unheard.expert_count"] = 4;
  metadata["unheard.expert_used_count"] = 2;
  const ModelSpec spec = Read(metadata);
  EXPECT_EQ(spec.architecture, "unheard");
  EXPECT_TRUE(spec.tied_head);
  EXPECT_THAT(spec.not_runnable, HasSubstr("does not know the architecture \"unheard\""));
  EXPECT_EQ(ParameterCount(spec),
            1024 * 256 + 3 * 256 * 256 + 3 * 5 * 7 * 256 + 512 + 2 * 4 * 512 * 256);
  EXPECT_EQ(UnitsOf(spec, spec.mlp_block(0)).count, 4);
  EXPECT_EQ(MatrixBytes(spec, 1), MatrixBytes(spec, 3));
}

TEST_F(GgufModel, BytesOfAMixAreToldFromAConfigAlone) {
  TPRUN_NEEDS_TEST_DATA();
  const auto bytes = [](const std::string& config, const std::string& mix) {
    const auto checkpoint =
        Checkpoint::Open(TestDataDirectory() + "/models/configs/" + config + "/config.json");
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    const auto spec = ReadModelSpec(**checkpoint, *ParseWeightFormat(mix));
    EXPECT_TRUE(spec.ok()) << spec.status();
    return static_cast<double>(MatrixBytes(*spec, 1));
  };
  EXPECT_EQ(bytes("Meta-Llama-3-8B", "q4_k_m"), 4912898048);
  // Published files; the vocabulary is up to 10 MB of them.
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", "q5_k_m"), 5.7330e9, 0.01e9);
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", "q4_k_s"), 4.6927e9, 0.01e9);
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", "q3_k_m"), 4.0189e9, 0.01e9);
  EXPECT_NEAR(bytes("Meta-Llama-3-8B", "q6_k"), 6.5960e9, 0.01e9);
  EXPECT_NEAR(bytes("Qwen3-30B-A3B", "q4_k_m"), 18.556e9, 0.02e9);
}

// The layers whose down projections have 6 bits in the published Llama 3 8B of this mixture: the
// first and last eighth, and every third between.
TEST_F(GgufModel, LayersOfAMixWithMoreBits) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint =
      Checkpoint::Open(TestDataDirectory() + "/models/configs/Meta-Llama-3-8B/config.json");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto spec = ReadModelSpec(**checkpoint, *ParseWeightFormat("q4_k_m"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  std::vector<int> more;
  for (const TensorSpec& tensor : spec->tensors) {
    if (tensor.role != TensorRole::kDown || tensor.format != &kQ6_KFormat) continue;
    more.push_back(spec->blocks[tensor.block].layer);
  }
  EXPECT_EQ(more, (std::vector<int>{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}));
}

}  // namespace
}  // namespace tprun
