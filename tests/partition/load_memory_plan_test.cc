// What loading takes is part of plans.
#include "partition/load_memory.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kPerThread = 100 * kMiB;

void AddCpu(double gib, int threads, Topology& topology) {
  DeviceInfo cpu;
  cpu.id = "cpu";
  cpu.name = "processor";
  cpu.cores = cpu.threads = threads;
  cpu.memory_bytes = cpu.available_bytes = static_cast<int64_t>(gib * kGiB);
  cpu.memory_bandwidth_bytes_per_s = 50e9;
  topology.devices.push_back(cpu);
}

LoadBuffers PerThread() {
  return [](const ModelSpec&, const MemoryLayout&, int threads, bool staged) {
    return threads * kPerThread * (staged ? 2 : 1);
  };
}

Plan PlanOf(const PlanRequest& request) {
  const absl::StatusOr<Plan> plan = MakePlanner()->MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : Plan{};
}

TEST(LoadMemoryPlan, ACpuRankNeedsBuffersBeforeItsCache) {
  const ModelSpec spec = PlanModel();
  Topology topology;
  topology.hosts.push_back({.name = "box"});
  AddCpu(16, 16, topology);
  PlanRequest request = RequestFor(spec, topology);
  request.load_buffers = PerThread();
  const Plan plan = PlanOf(request);
  const RankPlan& rank = plan.ranks[0];
  EXPECT_EQ(rank.load_bytes, 16 * kPerThread);
  EXPECT_EQ(rank.most_bytes(), rank.weight_bytes + rank.overhead_bytes + 16 * kPerThread);
  EXPECT_GT(rank.most_bytes(), rank.total_bytes());
  EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("while it loads")));
  // One byte less than that is too little, whatever running takes.
  topology.devices[0].available_bytes = rank.most_bytes();
  EXPECT_TRUE(PlanOf(request).fits());
  topology.devices[0].available_bytes = rank.most_bytes() - 1;
  EXPECT_FALSE(PlanOf(request).fits());
  // With fewer threads the cache is more than the buffers.
  request.threads = 1;
  const Plan one = PlanOf(request);
  EXPECT_TRUE(one.fits());
  EXPECT_EQ(one.ranks[0].load_bytes, kPerThread);
}

TEST(LoadMemoryPlan, GpuRanksNeedTheirHost) {
  const ModelSpec spec = PlanModel();
  Topology topology = GpuTopology({{24, 900}, {24, 900}});
  AddCpu(64, 8, topology);
  PlanRequest request = RequestFor(spec, topology);
  request.devices = {"cuda:0", "cuda:1"};
  request.load_buffers = PerThread();
  const Plan plan = PlanOf(request);
  EXPECT_TRUE(plan.fits());
  // Four threads each, and what a GPU takes is not of its own memory.
  EXPECT_EQ(plan.ranks[0].load_bytes, 4 * 2 * kPerThread);
  EXPECT_EQ(plan.ranks[0].most_bytes(), plan.ranks[0].total_bytes());
  topology.devices[2].available_bytes = 2 * (4 * 2 * kPerThread + kProcessBytes);
  EXPECT_TRUE(PlanOf(request).fits());
  --topology.devices[2].available_bytes;
  const Plan small = PlanOf(request);
  EXPECT_FALSE(small.fits());
  EXPECT_THAT(small.host_shortage, HasSubstr("of the memory of host box while they load"));
  EXPECT_EQ(small.why, small.host_shortage);
}

}  // namespace
}  // namespace tprun
