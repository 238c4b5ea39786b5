#include <cmath>
#include <filesystem>
#include <random>

#include "base/status_macros.h"
#include "engine/arch/assume_formats.h"
#include "engine/runtime/load_weights.h"
#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/runtime/engine_harness.h"

// What ranks hold after loading with --weights=T against a file that was quantised as a whole.

namespace tprun {
namespace {

// Four KV heads, each with query heads of 256 columns: blocks of 256 fall to four ranks.
const Json& Metadata() {
  static const Json metadata = {{"general.architecture", "llama"},
                                {"llama.block_count", 1},
                                {"llama.context_length", 64},
                                {"llama.embedding_length", 256},
                                {"llama.feed_forward_length", 1024},
                                {"llama.attention.head_count", 8},
                                {"llama.attention.head_count_kv", 4},
                                {"llama.attention.key_length", 128},
                                {"llama.attention.layer_norm_rms_epsilon", 1e-5}};
  return metadata;
}

std::vector<float> Noise(const std::string& name, int64_t count) {
  std::minstd_rand random(static_cast<uint32_t>(std::hash<std::string>()(name)));
  std::vector<float> values(count);
  // Whole numbers of 512ths, which every source format holds exactly.
  for (float& value : values)
    value = static_cast<float>(static_cast<int>(random() % 255) - 127) / 512;
  return values;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> Shapes() {
  std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
      {"token_embd.weight", {96, 256}},
      {"output_norm.weight", {256}},
      {"output.weight", {96, 256}}};
  const std::string layer = "blk.0.";
  shapes.push_back({layer + "attn_norm.weight", {256}});
  shapes.push_back({layer + "attn_q.weight", {1024, 256}});
  shapes.push_back({layer + "attn_k.weight", {512, 256}});
  shapes.push_back({layer + "attn_v.weight", {512, 256}});
  shapes.push_back({layer + "attn_output.weight", {256, 1024}});
  shapes.push_back({layer + "ffn_norm.weight", {256}});
  shapes.push_back({layer + "ffn_gate.weight", {1024, 256}});
  shapes.push_back({layer + "ffn_up.weight", {1024, 256}});
  shapes.push_back({layer + "ffn_down.weight", {256, 1024}});
  return shapes;
}

// The model with its matrices stored in the format of the same tensor of `like`, or in `format`.
std::unique_ptr<Checkpoint> WriteModel(const std::string& name, const WeightFormat& format,
                                       const ModelSpec* like = nullptr) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [tensor, shape] : Shapes()) {
    const WeightFormat* stored = shape.size() > 1 ? &format : &kF32Format;
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    if (like != nullptr) {
      for (const TensorSpec& spec : like->tensors) {
        if (spec.name == tensor) stored = spec.format;
      }
    }
    tensors.push_back(MakeTensor(tensor, shape, *stored, Noise(tensor, count)));
  }
  const std::string path = testing::TempDir() + "/" + name + ".gguf";
  EXPECT_TRUE(WriteFile(path, GgufFile(Metadata(), tensors)).ok());
  auto checkpoint = Checkpoint::Open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

// The weights of one rank, as they are in its memory.
std::string Load(const Checkpoint& checkpoint, const ModelSpec& spec, const TestLayout& layout,
                 int rank) {
  const MemoryLayout memory = LayOutMemory(spec, layout.place(spec), rank, {.context = 8});
  const std::unique_ptr<Device> device = MakeCpuDevice();
  std::string weights(memory.weight_bytes, '\0');
  ThreadPool pool(3);
  int64_t total = 0;
  const absl::Status status = LoadShards(checkpoint, spec, memory, weights.data(), *device, pool,
                                         [&](int64_t, int64_t all) { total = all; });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_GT(total, 0);
  EXPECT_LE(total, memory.weight_bytes);
  return weights;
}

// From `source`, on the ranks of `layouts`.
void ExpectAsQuantisedAsAWhole(const std::string& name, const WeightFormat& source,
                               const std::vector<TestLayout>& layouts) {
  const WeightFormat& wanted = *FindWeightFormat(name);
  const auto wide = WriteModel("wide_" + name, source);
  const auto spec = ReadModelSpec(*wide, &wanted);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto quantised = WriteModel("quantised_" + name, wanted, &*spec);
  const auto direct = ReadModelSpec(*quantised);
  ASSERT_TRUE(direct.ok()) << direct.status();
  for (const TestLayout& layout : layouts) {
    for (int rank = 0; rank < layout.world_size; ++rank) {
      const std::string expected = Load(*quantised, *direct, layout, rank);
      // EQ would print megabytes.
      EXPECT_TRUE(Load(*wide, *spec, layout, rank) == expected) << layout.name << " " << rank;
    }
  }
}

class QuantizeOnLoad : public testing::TestWithParam<std::string> {};

TEST_P(QuantizeOnLoad, EqualsAFileThatWasQuantisedAsAWhole) {
  ExpectAsQuantisedAsAWhole(GetParam(), kF32Format,
                            {TensorSplit({1}), TensorSplit({2, 1, 1}), TensorSplit({1, 1, 1, 1})});
}

INSTANTIATE_TEST_SUITE_P(Formats, QuantizeOnLoad,
                         testing::Values("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0",
                                         "q5_1", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "mxfp4",
                                         "q4_k_m"),
                         [](const auto& info) { return info.param; });

TEST(QuantizeOnLoad, FromEveryFloatFormatOnEveryLayout) {
  for (const WeightFormat* source : {&kF32Format, &kF16Format, &kBF16Format}) {
    ExpectAsQuantisedAsAWhole(
        "q8_0", *source, {TensorSplit({1}), TensorSplit({1, 1}), LayerSplit(2), BlocksApart()});
  }
}

TEST(QuantizeOnLoad, MixturesFollowLlamaCpp) {
  const auto wide = WriteModel("mixture", kF32Format);
  const auto spec = ReadModelSpec(*wide, FindWeightFormat("q4_k_m"));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(FindTensor(*spec, spec->head_block(), TensorRole::kHead)->format, &kQ6_KFormat);
  EXPECT_EQ(FindTensor(*spec, 0, TensorRole::kEmbedding)->format, &kQ4_KFormat);
  EXPECT_EQ(FindTensor(*spec, 1, TensorRole::kQuery)->format, &kQ4_KFormat);
  EXPECT_EQ(FindTensor(*spec, 1, TensorRole::kNorm)->format, &kF32Format);
}

TEST(QuantizeOnLoad, QuantisedWeightsAreNotQuantisedAgainButWidened) {
  const auto quantised = WriteModel("already", kQ8_0Format);
  const auto again = ReadModelSpec(*quantised, &kQ4_0Format);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(again.status().message()),
              testing::HasSubstr("holds q8_0 weights (\"token_embd.weight\")"));
  const auto wide = ReadModelSpec(*quantised, &kF32Format);
  ASSERT_TRUE(wide.ok()) << wide.status();
  const std::string weights = Load(*quantised, *wide, TensorSplit({1}), 0);
  std::vector<float> expected = Noise("token_embd.weight", 256);
  std::string blocks(kQ8_0Format.Bytes(256), '\0');
  kQ8_0Format.quantize(expected.data(), blocks.data(), 256);
  kQ8_0Format.dequantize(blocks.data(), expected.data(), 256);
  EXPECT_EQ(std::memcmp(weights.data(), expected.data(), 1024), 0);
}

// Rows of 96 elements are whole blocks of 32 but not of 256: ggml's quantiser takes another type.
TEST(QuantizeOnLoad, RowsThatDoNotFitAreToldWithWhatTheyGot) {
  std::vector<TensorToWrite> tensors;
  Json metadata = Metadata();
  metadata["llama.feed_forward_length"] = 96;
  for (auto [tensor, shape] : Shapes()) {
    for (int64_t& extent : shape) {
      if (extent == 1024 && tensor.find("ffn") != std::string::npos) extent = 96;
    }
    int64_t count = 1;
    for (int64_t extent : shape) count *= extent;
    tensors.push_back(MakeTensor(tensor, shape, kF32Format, Noise(tensor, count)));
  }
  const std::string path = testing::TempDir() + "/odd_rows.gguf";
  ASSERT_TRUE(WriteFile(path, GgufFile(metadata, tensors)).ok());
  const auto checkpoint = Checkpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto spec = ReadModelSpec(**checkpoint, &kQ4_KFormat);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(FindTensor(*spec, spec->mlp_block(0), TensorRole::kDown)->format, &kQ5_0Format);
  EXPECT_EQ(FindTensor(*spec, spec->mlp_block(0), TensorRole::kUp)->format, &kQ4_KFormat);
  EXPECT_EQ(FallbackNote(kQ4_KFormat, *spec),
            "rows of 96 elements are no whole number of q4_k's blocks of 256: matrices by format "
            "they got instead: q5_0 1");
}

}  // namespace
}  // namespace tprun
