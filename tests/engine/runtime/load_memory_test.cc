// What reading weights takes of the host's memory against what LoadBufferBytes tells planners:
// every allocation of this thread is counted.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <new>

#include "engine/runtime/load_weights.h"
#include "engine/runtime/read_shard.h"
#include "gtest/gtest.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

namespace {

constexpr std::size_t kHeader = alignof(std::max_align_t);
thread_local int64_t now = 0;
thread_local int64_t most = 0;

void* Counted(std::size_t bytes) {
  void* memory = std::malloc(bytes + kHeader);
  if (memory == nullptr) std::abort();
  *static_cast<std::size_t*>(memory) = bytes;
  now += static_cast<int64_t>(bytes);
  most = std::max(most, now);
  return static_cast<char*>(memory) + kHeader;
}

void Uncounted(void* memory) {
  if (memory == nullptr) return;
  char* const begin = static_cast<char*>(memory) - kHeader;
  now -= static_cast<int64_t>(*reinterpret_cast<std::size_t*>(begin));
  std::free(begin);
}

}  // namespace

void* operator new(std::size_t bytes) { return Counted(bytes); }
void* operator new[](std::size_t bytes) { return Counted(bytes); }
void operator delete(void* memory) noexcept { Uncounted(memory); }
void operator delete[](void* memory) noexcept { Uncounted(memory); }
void operator delete(void* memory, std::size_t) noexcept { Uncounted(memory); }
void operator delete[](void* memory, std::size_t) noexcept { Uncounted(memory); }

namespace tprun {
namespace {

// Names and the like, which nobody counts.
constexpr int64_t kSmall = 4096;

int64_t MostWhileReading(const TestModel& model, const TensorSpec& tensor, const Shard& shard) {
  std::vector<char> out(ShardBytes(tensor, shard));
  const int64_t before = now;
  most = now;
  const absl::Status status = ReadShard(*model.checkpoint, tensor, shard, out.data());
  EXPECT_TRUE(status.ok()) << status;
  return most - before;
}

// All rows, and the middle of them with the first columns only.
std::vector<Shard> ShardsOf(const TensorSpec& tensor) {
  const int64_t rows = tensor.shape[0];
  const int64_t columns = tensor.shape.size() > 1 ? tensor.shape[1] : 1;
  std::vector<Shard> shards = {{{0, rows}, {0, columns}}};
  const int64_t block = StoredFormat(tensor).block_elements;
  if (tensor.shape.size() > 1 && tensor.experts == 0 && columns > block) {
    shards.push_back({{rows / 4, rows / 2 + 1}, {block, 2 * block}});
  }
  return shards;
}

void CheckAll(const TestModel& model, const std::string& name) {
  for (const TensorSpec& tensor : model.spec.tensors) {
    for (const Shard& shard : ShardsOf(tensor)) {
      const int64_t told = ShardBufferBytes(*model.checkpoint, tensor, shard);
      EXPECT_LE(MostWhileReading(model, tensor, shard), told + kSmall)
          << name << " " << tensor.name;
    }
  }
}

TEST(LoadMemory, NoCheckpointTakesMoreThanIsTold) {
  int checked = 0;
  for (const std::string folder : {"tests/golden", "tests/golden/quantized"}) {
    for (const auto& entry : std::filesystem::directory_iterator(SourcePath(folder))) {
      const absl::StatusOr<TestModel> model = OpenTestModel(entry.path().string());
      if (!model.ok()) continue;
      CheckAll(*model, entry.path().filename().string());
      ++checked;
    }
  }
  EXPECT_GT(checked, 25);
}

// Where matrices are large enough to count, what is told is what is taken.
TEST(LoadMemory, QuantisingTakesWhatIsTold) {
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint =
      Checkpoint::Open(SourcePath("tests/golden/llama_bf16"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  absl::StatusOr<ModelSpec> spec = ReadModelSpec(**checkpoint, &kQ8_0Format);
  ASSERT_TRUE(spec.ok()) << spec.status();
  TestModel model = {nullptr, *spec};
  model.checkpoint = *Checkpoint::Open(SourcePath("tests/golden/llama_bf16"));
  int converted = 0;
  for (const TensorSpec& tensor : model.spec.tensors) {
    if (tensor.shape.size() < 2) continue;
    const Shard all = {{0, tensor.shape[0]}, {0, tensor.shape[1]}};
    const int64_t told = ShardBufferBytes(*model.checkpoint, tensor, all);
    const int64_t taken = MostWhileReading(model, tensor, all);
    EXPECT_GE(taken, told) << tensor.name;
    EXPECT_LE(taken, told + kSmall) << tensor.name;
    converted += told > 0;
  }
  EXPECT_GT(converted, 5);
}

TEST(LoadMemory, EveryThreadAndEveryStagingCounts) {
  const absl::StatusOr<TestModel> model = OpenTestModel(SourcePath("tests/golden/llama_bf16"));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Placement> placements = TensorSplit({1}).place(model->spec);
  EngineOptions options;
  options.context = 16;
  const MemoryLayout layout = LayOutMemory(model->spec, placements, 0, options);
  const int64_t one = LoadBufferBytes(*model->checkpoint, model->spec, layout, 1, false);
  EXPECT_EQ(LoadBufferBytes(*model->checkpoint, model->spec, layout, 7, false), 7 * one);
  // On its way a thread has a matrix in both pinned buffers; beside one that the host reaches, the
  // 16 rows that it arranges when it has read them.
  int64_t largest = 0, reading = 0, rows = 0;
  for (const Region& region : layout.regions) {
    if (region.use != RegionUse::kTensor) continue;
    const TensorSpec& tensor = model->spec.tensors[region.tensor];
    reading = std::max(reading, ShardBufferBytes(*model->checkpoint, tensor, region.shard));
    largest = std::max(largest, region.bytes);
    if (tensor.shape.size() > 1) {
      rows = std::max(rows, 16 * (region.bytes / region.shard.rows.size()));
    }
  }
  EXPECT_GT(reading, 0);  // norms become f32
  EXPECT_GT(rows, reading);
  EXPECT_EQ(one, rows);
  EXPECT_EQ(LoadBufferBytes(*model->checkpoint, model->spec, layout, 3, true),
            3 * (reading + 2 * largest));
}

}  // namespace
}  // namespace tprun
