#include "engine/runtime/source_rows.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "engine/checkpoint/tensor_reader.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// Rows of tensors that a checkpoint keeps in another order.

namespace tprun {
namespace {

// A checkpoint of one tensor of bytes 0, 1, 2, ... as f32.
class Source {
 public:
  Source(const std::string& name, const std::vector<int64_t>& shape) {
    folder_ = absl::StrCat(testing::TempDir(), "/source_rows_", ++count_);
    int64_t elements = 1;
    for (int64_t extent : shape) elements *= extent;
    std::vector<float> values(elements);
    for (int64_t i = 0; i < elements; ++i) values[i] = static_cast<float>(i);
    Write({MakeTensor(name, shape, kF32Format, values)});
  }
  std::vector<float> Read(const TensorSpec& tensor, const Shard& shard) const {
    std::vector<float> values(shard.rows.size() * shard.columns.size());
    const absl::Status status = ReadSourceRows(*checkpoint_, tensor, shard, values.data());
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

 private:
  void Write(const std::vector<TensorToWrite>& tensors) {
    EXPECT_TRUE(WriteFile(folder_ + ".safetensors", SafetensorsFile(tensors)).ok());
    EXPECT_TRUE(WriteFile(testing::TempDir() + "/config.json", "{}").ok());
    auto checkpoint = Checkpoint::Open(folder_ + ".safetensors");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
  }
  static inline int count_ = 0;
  std::string folder_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST(SourceRows, InTurnsWithinEachExpert) {
  // Two experts, each gate 0, up 0, gate 1, up 1 of two columns.
  const Source source("w", {2, 4, 2});
  TensorSpec up = {
      .name = "w", .shape = {4, 2}, .first_row = 1, .row_step = 2, .source_rows = 4, .experts = 2};
  EXPECT_EQ(source.Read(up, {{0, 4}, {0, 2}}), (std::vector<float>{2, 3, 6, 7, 10, 11, 14, 15}));
  EXPECT_EQ(source.Read(up, {{1, 3}, {0, 2}}), (std::vector<float>{6, 7, 10, 11}));
}

TEST(SourceRows, TransposedAndInTurns) {
  // Two experts of three inputs and two outputs each of gate and up.
  const Source source("w", {2, 3, 4});
  TensorSpec gate = {.name = "w",
                     .shape = {4, 3},
                     .first_row = 0,
                     .row_step = 2,
                     .source_rows = 4,
                     .experts = 2,
                     .transposed = true};
  EXPECT_EQ(source.Read(gate, {{0, 2}, {0, 3}}), (std::vector<float>{0, 4, 8, 2, 6, 10}));
  EXPECT_EQ(source.Read(gate, {{3, 4}, {0, 3}}), (std::vector<float>{14, 18, 22}));
  TensorSpec down = {.name = "w", .shape = {8, 3}, .experts = 2, .transposed = true};
  EXPECT_EQ(source.Read(down, {{5, 6}, {1, 3}}), (std::vector<float>{17, 21}));
}

TEST(SourceRows, OneBelowTheOtherWithinEachHead) {
  const Source source("w", {6, 1});  // two heads of two key rows and one value row
  TensorSpec value = {.name = "w", .shape = {2, 1}, .first_row = 2, .source_rows = 3, .experts = 2};
  EXPECT_EQ(source.Read(value, {{0, 2}, {0, 1}}), (std::vector<float>{2, 5}));
}

// Newer checkpoints: gate and up of all experts in one tensor, down in another.
TEST(SourceRows, FusedExpertsGiveTheSameLogits) {
  const std::string golden = SourcePath("tests/golden/mixtral");
  const auto model = OpenTestModel(golden);
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, tensor] : model->checkpoint->tensors()) {
    if (name.find(".experts.") != std::string::npos) continue;
    TensorToWrite copy = {name, tensor.shape, tensor.format, std::string(tensor.bytes, 0)};
    ASSERT_TRUE(ReadTensor(*model->checkpoint, tensor, copy.bytes.data()).ok());
    tensors.push_back(std::move(copy));
  }
  const auto bytes = [&](int layer, int expert, const char* which) {
    const CheckpointTensor* tensor = model->checkpoint->Find(absl::StrCat(
        "model.layers.", layer, ".block_sparse_moe.experts.", expert, ".", which, ".weight"));
    std::string result(tensor->bytes, 0);
    EXPECT_TRUE(ReadTensor(*model->checkpoint, *tensor, result.data()).ok());
    return result;
  };
  for (int layer = 0; layer < 2; ++layer) {
    std::string gate_up, down;
    for (int expert = 0; expert < 5; ++expert) {
      gate_up += bytes(layer, expert, "w1") + bytes(layer, expert, "w3");
      down += bytes(layer, expert, "w2");
    }
    const std::string prefix = absl::StrCat("model.layers.", layer, ".block_sparse_moe.experts.");
    tensors.push_back({prefix + "gate_up_proj", {5, 64, 32}, &kF32Format, gate_up});
    tensors.push_back({prefix + "down_proj", {5, 32, 32}, &kF32Format, down});
  }
  const std::string file = testing::TempDir() + "/fused.safetensors";
  ASSERT_TRUE(WriteFile(file, SafetensorsFile(tensors)).ok());
  const auto config = ReadFile(golden + "/config.json");
  ASSERT_TRUE(config.ok());
  ASSERT_TRUE(WriteFile(testing::TempDir() + "/config.json", *config).ok());
  const auto fused = OpenTestModel(file);
  ASSERT_TRUE(fused.ok()) << fused.status();
  const std::vector<int32_t> tokens = {5, 17, 3, 88, 42, 9};
  const auto expected = LogitsAt(*model, TensorSplit({1}), {}, tokens, {5});
  const auto logits = LogitsAt(*fused, TensorSplit({2, 3}), {}, tokens, {5});
  ASSERT_TRUE(expected.ok() && logits.ok()) << logits.status();
  EXPECT_LT(LargestDifference(logits->back(), expected->back()), 1e-4);
}

}  // namespace
}  // namespace tprun
