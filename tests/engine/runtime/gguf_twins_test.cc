#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/runtime/source_rows.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Golden checkpoints in GGUF's names and shapes, as llama.cpp's converter writes them
// (shared/data/models/GGUF-FACTS.md, sections 2 and 3), give the logits of Hugging Face
// transformers.

namespace tprun {
namespace {

constexpr double kTolerance = 1e-4;  // as golden_logits_test.cc

const std::map<TensorRole, std::string>& LayerNames() {
  static const auto& names = *new std::map<TensorRole, std::string>{
      {TensorRole::kQuery, "attn_q.weight"},
      {TensorRole::kKey, "attn_k.weight"},
      {TensorRole::kValue, "attn_v.weight"},
      {TensorRole::kQueryBias, "attn_q.bias"},
      {TensorRole::kKeyBias, "attn_k.bias"},
      {TensorRole::kValueBias, "attn_v.bias"},
      {TensorRole::kAttentionOut, "attn_output.weight"},
      {TensorRole::kAttentionOutBias, "attn_output.bias"},
      {TensorRole::kQueryNorm, "attn_q_norm.weight"},
      {TensorRole::kKeyNorm, "attn_k_norm.weight"},
      {TensorRole::kSinks, "attn_sinks.weight"},
      {TensorRole::kGate, "ffn_gate.weight"},
      {TensorRole::kUp, "ffn_up.weight"},
      {TensorRole::kDown, "ffn_down.weight"},
      {TensorRole::kRouter, "ffn_gate_inp.weight"},
      {TensorRole::kRouterBias, "ffn_gate_inp.bias"},
      {TensorRole::kChoiceBias, "exp_probs_b.bias"},
      {TensorRole::kExpertGate, "ffn_gate_exps.weight"},
      {TensorRole::kExpertUp, "ffn_up_exps.weight"},
      {TensorRole::kExpertDown, "ffn_down_exps.weight"},
      {TensorRole::kExpertGateBias, "ffn_gate_exps.bias"},
      {TensorRole::kExpertUpBias, "ffn_up_exps.bias"},
      {TensorRole::kExpertDownBias, "ffn_down_exps.bias"},
      {TensorRole::kSharedGate, "ffn_gate_shexp.weight"},
      {TensorRole::kSharedUp, "ffn_up_shexp.weight"},
      {TensorRole::kSharedDown, "ffn_down_shexp.weight"},
      {TensorRole::kSharedRouter, "ffn_gate_inp_shexp.weight"},
      {TensorRole::kQueryDown, "attn_q_a.weight"},
      {TensorRole::kQueryDownNorm, "attn_q_a_norm.weight"},
      {TensorRole::kQueryUp, "attn_q_b.weight"},
      {TensorRole::kKvDownNorm, "attn_kv_a_norm.weight"},
  };
  return names;
}

struct Twin {
  std::string model;
  std::string architecture;  // general.architecture
  Json metadata;             // of the architecture, without its prefix
  std::string mlp_norm = "ffn_norm.weight";
  bool permuted = false;           // rows of q and k, to interleaved pairs
  bool split_projections = false;  // attn_k_b and attn_v_b for attn_kv_b
};

class Converter {
 public:
  Converter(const TestModel& model, const Twin& twin) : model_(model), twin_(twin) {}

  std::string Convert() {
    for (const TensorSpec& tensor : model_.spec.tensors) Add(tensor);
    Json metadata = {{"general.architecture", twin_.architecture}};
    for (const auto& [key, value] : twin_.metadata.items()) {
      metadata[absl::StrCat(twin_.architecture, ".", key)] = value;
    }
    return GgufFile(metadata, tensors_);
  }

 private:
  // Rows as they are stored.
  std::string Bytes(const TensorSpec& tensor) const {
    const int64_t columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
    std::string bytes(tensor.format->Bytes(ElementCount(tensor)), '\0');
    const absl::Status status = ReadSourceRows(*model_.checkpoint, tensor,
                                               {{0, tensor.shape[0]}, {0, columns}}, bytes.data());
    EXPECT_TRUE(status.ok()) << status;
    return bytes;
  }

  void Write(const std::string& name, std::vector<int64_t> shape, const WeightFormat& format,
             std::string bytes) {
    tensors_.push_back({name, std::move(shape), &format, std::move(bytes)});
  }

  void Add(const TensorSpec& tensor) {
    const Block& block = model_.spec.blocks[tensor.block];
    if (block.kind == BlockKind::kEmbed || block.kind == BlockKind::kHead) {
      const char* name = tensor.role == TensorRole::kEmbedding ? "token_embd.weight"
                         : tensor.role == TensorRole::kNorm    ? "output_norm.weight"
                                                               : "output.weight";
      return Write(name, tensor.shape, *tensor.format, Bytes(tensor));
    }
    const std::string layer = absl::StrCat("blk.", block.layer, ".");
    if (tensor.role == TensorRole::kNorm) {
      const bool mlp = block.kind == BlockKind::kMlp;
      return Write(layer + (mlp ? twin_.mlp_norm : "attn_norm.weight"), tensor.shape,
                   *tensor.format, Bytes(tensor));
    }
    if (AddLatent(layer, tensor)) return;
    std::vector<int64_t> shape = tensor.shape;
    if (tensor.experts > 0) {
      shape[0] /= tensor.experts;
      shape.insert(shape.begin(), tensor.experts);
    }
    const bool rotated = tensor.role == TensorRole::kQuery || tensor.role == TensorRole::kKey;
    std::string bytes = Bytes(tensor);
    if (rotated && twin_.permuted) bytes = Permuted(tensor, bytes);
    Write(layer + LayerNames().at(tensor.role), shape, *tensor.format, std::move(bytes));
  }

  std::string Permuted(const TensorSpec& tensor, const std::string& bytes) const {
    const int64_t row = tensor.format->Bytes(tensor.shape[1]);
    const int64_t dim = model_.spec.layers[0].attention.head_dim;
    std::string result(bytes.size(), '\0');
    for (int64_t r = 0; r < tensor.shape[0]; ++r) {
      const int64_t i = r % dim;
      const int64_t from = r - i + i % 2 * (dim / 2) + i / 2;
      std::memcpy(&result[r * row], &bytes[from * row], row);
    }
    return result;
  }

  // What this program holds apart and GGUF does not, or the other way round.
  bool AddLatent(const std::string& layer, const TensorSpec& tensor) {
    const AttentionSpec& attention = model_.spec.layers[0].attention;
    const int64_t rank = attention.latent.kv_rank, heads = attention.heads;
    if (tensor.role == TensorRole::kKvDown) {
      first_ = Bytes(tensor);
    } else if (tensor.role == TensorRole::kKeyDown) {
      Write(layer + "attn_kv_a_mqa.weight", {rank + tensor.shape[0], tensor.shape[1]}, kF32Format,
            first_ + Bytes(tensor));
    } else if (tensor.role == TensorRole::kKeyUp) {
      first_ = Bytes(tensor);
    } else if (tensor.role == TensorRole::kValueUp) {
      AddUp(layer, heads, rank, attention.head_dim - attention.latent.rope_dim, attention.values(),
            Bytes(tensor));
    } else {
      return false;
    }
    return true;
  }

  void AddUp(const std::string& layer, int64_t heads, int64_t rank, int64_t plain, int64_t values,
             const std::string& value_bytes) {
    const int64_t key_size = plain * rank * 4, value_size = values * rank * 4;
    std::string fused, keys(first_.size(), '\0');
    for (int64_t h = 0; h < heads; ++h) {
      fused +=
          first_.substr(h * key_size, key_size) + value_bytes.substr(h * value_size, value_size);
      for (int64_t r = 0; r < plain; ++r) {
        for (int64_t c = 0; c < rank; ++c) {
          std::memcpy(&keys[h * key_size + (c * plain + r) * 4],
                      &first_[h * key_size + (r * rank + c) * 4], 4);
        }
      }
    }
    if (!twin_.split_projections) {
      return Write(layer + "attn_kv_b.weight", {heads * (plain + values), rank}, kF32Format, fused);
    }
    Write(layer + "attn_k_b.weight", {heads, rank, plain}, kF32Format, keys);
    Write(layer + "attn_v_b.weight", {heads, values, rank}, kF32Format, value_bytes);
  }

  const TestModel& model_;
  const Twin& twin_;
  std::vector<TensorToWrite> tensors_;
  std::string first_;  // of two tensors that GGUF has as one
};

Json Common(int layers, int ffn, double eps) {
  return {{"block_count", layers},
          {"embedding_length", 32},
          {"feed_forward_length", ffn},
          {"context_length", 128},
          {"vocab_size", 96},
          {"attention.head_count", 4},
          {"attention.head_count_kv", 2},
          {"attention.layer_norm_rms_epsilon", eps},
          {"rope.freq_base", 10000.0}};
}

Json With(Json metadata, const Json& more) {
  metadata.update(more);
  return metadata;
}

Json DeepSeek(bool split, const Json& more) {
  return With(
      With(Common(2, 48, 1e-6), {{"attention.head_count_kv", split ? 1 : 4},
                                 {"attention.kv_lora_rank", 16},
                                 {"attention.key_length", split ? 24 : 20},
                                 {"attention.value_length", split ? 16 : 10},
                                 {"rope.dimension_count", 8},
                                 {"expert_count", 6},
                                 {"expert_used_count", 2},
                                 {"expert_shared_count", 2},
                                 {"expert_feed_forward_length", 16},
                                 {"leading_dense_block_count", 1}}),
      split ? With(more, {{"attention.key_length_mla", 20}, {"attention.value_length_mla", 10}})
            : more);
}

const Json& Yarn() {
  static const Json& yarn = *new Json{{"rope.scaling.type", "yarn"},
                                      {"rope.scaling.factor", 4.0},
                                      {"rope.scaling.original_context_length", 16}};
  return yarn;
}

std::vector<Twin> Twins() {
  std::vector<Twin> twins;
  twins.push_back({"mixtral", "llama",
                   With(Common(2, 32, 1e-5),
                        {{"rope.freq_base", 1e6}, {"expert_count", 5}, {"expert_used_count", 2}})});
  twins.back().permuted = true;
  twins.push_back({"qwen2_moe", "qwen2moe",
                   With(Common(2, 32, 1e-5), {{"expert_count", 6},
                                              {"expert_used_count", 3},
                                              {"expert_feed_forward_length", 16},
                                              {"expert_shared_feed_forward_length", 48}})});
  twins.push_back({"qwen3_moe", "qwen3moe",
                   With(Common(2, 32, 1e-5), {{"attention.key_length", 16},
                                              {"attention.value_length", 16},
                                              {"expert_count", 8},
                                              {"expert_used_count", 3},
                                              {"expert_feed_forward_length", 16}})});
  for (const bool split : {false, true}) {
    twins.push_back({"deepseek_v2_groups", "deepseek2",
                     DeepSeek(split, {{"attention.q_lora_rank", 20},
                                      {"expert_group_count", 3},
                                      {"expert_group_used_count", 2},
                                      {"expert_weights_scale", 2.5}})});
    twins.back().split_projections = split;
    twins.push_back({"deepseek_v3", "deepseek2",
                     DeepSeek(split, With(Yarn(), {{"attention.q_lora_rank", 20},
                                                   {"expert_count", 8},
                                                   {"expert_used_count", 3},
                                                   {"expert_group_count", 4},
                                                   {"expert_group_used_count", 2},
                                                   {"expert_gating_func", 2},
                                                   {"expert_weights_norm", true},
                                                   {"expert_weights_scale", 2.5},
                                                   {"rope.scaling.yarn_log_multiplier", 0.1}}))});
    twins.back().split_projections = split;
  }
  for (const char* model : {"gpt_oss", "gpt_oss_mxfp4"}) {
    twins.push_back(
        {model, "gpt-oss",
         With(With(Common(2, 32, 1e-5), Yarn()), {{"attention.key_length", 8},
                                                  {"attention.value_length", 8},
                                                  {"attention.sliding_window", 8},
                                                  {"expert_count", 5},
                                                  {"expert_used_count", 2},
                                                  {"expert_feed_forward_length", 32}})});
    twins.back().mlp_norm = "post_attention_norm.weight";
  }
  return twins;
}

class GgufTwins : public testing::TestWithParam<Twin> {};

TEST_P(GgufTwins, GiveTheSameLogits) {
  const Twin& twin = GetParam();
  const std::string folder = SourcePath("tests/golden/" + twin.model);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string path = absl::StrCat(testing::TempDir(), "/", twin.model, "_",
                                        twin.split_projections ? "split" : "whole", ".gguf");
  ASSERT_TRUE(WriteFile(path, Converter(*model, twin).Convert()).ok());
  const auto gguf = OpenTestModel(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(ParameterCount(gguf->spec), ParameterCount(model->spec));
  const auto expected = ReadJsonFile(folder + "/expected.json");
  ASSERT_TRUE(expected.ok());
  const auto tokens = (*expected)["input_ids"].get<std::vector<int32_t>>();
  const auto last = static_cast<int64_t>(tokens.size()) - 1;
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 0, 2})}) {
    const auto logits = LogitsAt(*gguf, layout, {}, tokens, {last - 32, last});
    ASSERT_TRUE(logits.ok()) << logits.status();
    const auto golden = (*expected)["last_logits"].get<std::vector<float>>();
    EXPECT_LT(LargestDifference(logits->back(), golden), kTolerance) << layout.name;
  }
  std::remove(path.c_str());
}

INSTANTIATE_TEST_SUITE_P(All, GgufTwins, testing::ValuesIn(Twins()), [](const auto& info) {
  return info.param.model + (info.param.split_projections ? "_split" : "");
});

}  // namespace
}  // namespace tprun
