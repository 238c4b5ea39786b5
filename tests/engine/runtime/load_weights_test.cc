#include "engine/runtime/load_weights.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "base/status_macros.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

TEST(LoadWeights, ProgressEndsAtTheWeightsOfTheRank) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto placements = TensorSplit({1}).place(model->spec);
  const MemoryLayout layout = LayOutMemory(model->spec, placements, 0, {.context = 8});
  const std::unique_ptr<Device> device = MakeCpuDevice();
  auto buffer = device->Allocate(layout.weight_bytes);
  ASSERT_TRUE(buffer.ok());
  ThreadPool pool(3);
  int64_t last = 0;
  int64_t total = 0;
  int calls = 0;
  const absl::Status status =
      LoadShards(*model->checkpoint, model->spec, layout, static_cast<char*>((*buffer)->data()),
                 *device, pool, [&](int64_t done, int64_t all) {
                   EXPECT_GT(done, last);
                   last = done;
                   total = all;
                   ++calls;
                 });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(calls, 10);
  EXPECT_EQ(last, total);
  int64_t bytes = 0;
  for (const Region& region : layout.regions) {
    if (region.use == RegionUse::kTensor) bytes += region.bytes;
  }
  EXPECT_EQ(total, bytes);  // this model's head is not tied
}

TEST(LoadWeights, NoMoreThreadsReadThanAreAllowed) {
  const auto model = OpenTestModel(SourcePath("tests/golden/llama_gqa"));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto placements = TensorSplit({1}).place(model->spec);
  const MemoryLayout layout = LayOutMemory(model->spec, placements, 0, {.context = 8});
  const std::unique_ptr<Device> device = MakeCpuDevice();
  ThreadPool pool(4);
  std::vector<char> expected;
  for (int threads : {0, 1, 2, 3, 7}) {
    std::vector<char> weights(layout.weight_bytes);
    const size_t wanted = threads == 0 || threads > 4 ? 4 : threads;
    std::set<std::thread::id> readers;
    const absl::Status status = LoadShards(
        *model->checkpoint, model->spec, layout, weights.data(), *device, pool,
        [&](int64_t, int64_t) {
          readers.insert(std::this_thread::get_id());
          // One thread could have read all before another wakes.
          if (readers.size() < wanted) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        },
        threads);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(readers.size(), wanted);
    if (expected.empty()) expected = weights;
    EXPECT_EQ(weights, expected);
  }
}

// Every row once, after it is read; pieces begin and end at steps or at the ends of their matrix.
void CheckPieces(const TestModel& model, int64_t step, int least_pieces) {
  const auto placements = TensorSplit({1}).place(model.spec);
  const MemoryLayout layout = LayOutMemory(model.spec, placements, 0, {.context = 8});
  const std::unique_ptr<Device> device = MakeCpuDevice();
  ThreadPool pool(3);
  std::vector<char> expected(layout.weight_bytes), weights(layout.weight_bytes);
  const absl::Status plain =
      LoadShards(*model.checkpoint, model.spec, layout, expected.data(), *device, pool, nullptr);
  ASSERT_TRUE(plain.ok()) << plain;
  std::mutex mutex;
  std::map<const Region*, std::vector<int>> seen;
  int pieces = 0;
  const auto rows_of = [&](const Region& region) {
    const TensorSpec& tensor = model.spec.tensors[region.tensor];
    return tensor.experts > 0 ? tensor.shape[0] / tensor.experts : region.shard.rows.size();
  };
  const auto arrange = [&](const Region& region, int64_t begin, int64_t end) {
    const int64_t row_bytes = region.bytes / region.shard.rows.size();
    const int64_t at = region.offset + begin * row_bytes;
    const std::lock_guard<std::mutex> lock(mutex);
    ++pieces;
    EXPECT_EQ(std::memcmp(&weights[at], &expected[at], (end - begin) * row_bytes), 0);
    const int64_t rows = rows_of(region), first = begin / rows * rows;
    EXPECT_EQ((begin - first) % step, 0);
    EXPECT_TRUE((end - first) % step == 0 || end - first == rows) << begin << " " << end;
    EXPECT_LE(end, first + rows);
    seen[&region].resize(region.shard.rows.size());
    for (int64_t row = begin; row < end; ++row) ++seen[&region][row];
    return absl::OkStatus();
  };
  const PieceArranger arranger = {step, rows_of, arrange};
  const absl::Status status = LoadShards(*model.checkpoint, model.spec, layout, weights.data(),
                                         *device, pool, nullptr, 0, &arranger);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GE(pieces, least_pieces);
  for (const auto& [region, rows] : seen) EXPECT_THAT(rows, testing::Each(1));
}

TEST(LoadWeights, PiecesAreArrangedAsTheyAreRead) {
  const auto experts = OpenTestModel(SourcePath("tests/golden/mixtral"));
  ASSERT_TRUE(experts.ok()) << experts.status();
  CheckPieces(*experts, 16, 10);
  TestModel large;  // of which a matrix is many pieces
  large.checkpoint = *Checkpoint::Open(SourcePath("tools/geometries/llama-3.2-1b.json"));
  Json config = large.checkpoint->config();
  config["vocab_size"] = 9001;
  config["num_hidden_layers"] = 1;
  const std::string path = testing::TempDir() + "/large_config.json";
  ASSERT_TRUE(WriteFile(path, config.dump()).ok());
  large.checkpoint = *Checkpoint::Open(path);
  auto spec = ReadModelSpec(*large.checkpoint, &kQ8_0Format);
  ASSERT_TRUE(spec.ok()) << spec.status();
  large.spec = *std::move(spec);
  CheckPieces(large, 16, 20);
}

// In pieces and in any order the same as at once.
TEST(LoadWeights, RowsArrangedInPiecesAreArrangedWeights) {
  ThreadPool pool(2);
  const auto kernels = MakeCpuKernels(&pool, Activations::kInt16);
  const int64_t rows = 55, columns = 512;
  for (const WeightFormat* format : {&kQ8_0Format, &kQ4_KFormat, &kBF16Format, &kF32Format}) {
    std::vector<uint8_t> bytes(format->Bytes(rows * columns));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 37 % 251);
    std::vector<uint8_t> pieces = bytes, whole = bytes;
    ASSERT_TRUE(kernels->ArrangeWeights(*format, whole.data(), rows, columns).ok());
    const auto arrange = [&](int64_t begin, int64_t end) {
      return kernels->ArrangeRows(*format, pieces.data(), rows, columns, begin, end);
    };
    for (const auto& [begin, end] : std::vector<std::pair<int, int>>{{48, 55}, {0, 16}, {16, 48}}) {
      EXPECT_TRUE(arrange(begin, end).ok());
    }
    EXPECT_EQ(pieces, whole) << format->name;
    EXPECT_NE(whole, bytes) << format->name;
    EXPECT_TRUE(absl::IsInvalidArgument(arrange(8, 16)));
    EXPECT_TRUE(absl::IsInvalidArgument(arrange(0, 17)));
    EXPECT_TRUE(absl::IsInvalidArgument(arrange(48, 64)));
  }
}

TEST(LoadWeights, AFileThatShrinksWhileItIsReadIsAnError) {
  const std::string folder = testing::TempDir() + "/shrinking_model";
  std::filesystem::remove_all(folder);
  std::filesystem::copy(SourcePath("tests/golden/llama_gqa"), folder);
  std::filesystem::permissions(folder + "/model.safetensors", std::filesystem::perms::owner_all);
  const auto model = OpenTestModel(folder);
  ASSERT_TRUE(model.ok()) << model.status();
  std::filesystem::resize_file(folder + "/model.safetensors",
                               std::filesystem::file_size(folder + "/model.safetensors") / 2);
  for (const TestLayout& layout : {TensorSplit({1}), TensorSplit({1, 2})}) {
    const absl::Status status =
        RunEngines(*model, layout, {}, [](Engine&, Communicator&) { return absl::OkStatus(); });
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("model.safetensors"));
  }
  std::filesystem::remove_all(folder);
}

// A bare config.json: the same random weights however they are laid out.
TEST(LoadWeights, RandomWeightsDoNotDependOnTheLayout) {
  for (const WeightFormat* format : {&kF32Format, &kQ8_0Format}) {
    TestModel model;
    model.checkpoint = *Checkpoint::Open(SourcePath("tools/geometries/llama-3.2-1b.json"));
    Json config = model.checkpoint->config();
    config["hidden_size"] = 256;
    config["num_hidden_layers"] = 2;
    config["intermediate_size"] = 384;
    config["vocab_size"] = 320;
    config["num_attention_heads"] = 8;
    config["num_key_value_heads"] = 4;
    config["head_dim"] = 32;
    const std::string path = testing::TempDir() + "/random_config.json";
    ASSERT_TRUE(WriteFile(path, config.dump()).ok());
    model.checkpoint = *Checkpoint::Open(path);
    auto spec = ReadModelSpec(*model.checkpoint, format);
    ASSERT_TRUE(spec.ok()) << spec.status();
    model.spec = *std::move(spec);
    const std::vector<int32_t> tokens = {1, 2, 3, 4, 5};
    const auto alone = LogitsAt(model, TensorSplit({1}), {}, tokens, {4});
    ASSERT_TRUE(alone.ok()) << alone.status();
    float largest = 0;
    for (float logit : (*alone)[0]) largest = std::max(largest, std::abs(logit));
    EXPECT_GT(largest, 0.1f);
    EXPECT_LT(largest, 100.0f);
    for (const TestLayout& layout : {TensorSplit({1, 3}), LayerSplit(2)}) {
      const auto split = LogitsAt(model, layout, {}, tokens, {4});
      ASSERT_TRUE(split.ok()) << split.status();
      EXPECT_LT(LargestDifference((*split)[0], (*alone)[0]), 1e-4) << layout.name;
    }
  }
}

}  // namespace
}  // namespace tprun
