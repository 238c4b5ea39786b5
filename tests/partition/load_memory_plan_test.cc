// What loading takes is part of plans.
#include "partition/load_memory.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

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
  // With one byte less than that fewer threads read.
  topology.devices[0].available_bytes = rank.most_bytes();
  EXPECT_EQ(PlanOf(request).ranks[0].load_threads, 0);
  topology.devices[0].available_bytes = rank.most_bytes() - 1;
  const Plan fewer = PlanOf(request);
  EXPECT_TRUE(fewer.fits());
  EXPECT_EQ(fewer.ranks[0].load_threads, 15);
  EXPECT_EQ(fewer.ranks[0].load_bytes, 15 * kPerThread);
  EXPECT_THAT(fewer.notes, ::testing::Contains(HasSubstr("with 15 threads of 16")));
  // What one thread takes has to be there, whatever running takes.
  const int64_t least = rank.weight_bytes + rank.overhead_bytes + kPerThread;
  ASSERT_GT(least, rank.total_bytes());
  topology.devices[0].available_bytes = least;
  EXPECT_TRUE(PlanOf(request).fits());
  topology.devices[0].available_bytes = least - 1;
  EXPECT_FALSE(PlanOf(request).fits());
  topology.devices[0].available_bytes = rank.most_bytes() - 1;
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
  EXPECT_EQ(PlanOf(request).ranks[1].load_threads, 0);
  --topology.devices[2].available_bytes;
  EXPECT_EQ(PlanOf(request).ranks[1].load_threads, 3);
  topology.devices[2].available_bytes = 2 * (2 * kPerThread + kProcessBytes);
  EXPECT_TRUE(PlanOf(request).fits());
  --topology.devices[2].available_bytes;
  const Plan small = PlanOf(request);
  EXPECT_FALSE(small.fits());
  EXPECT_THAT(small.host_shortage, HasSubstr("of the memory of host box while they load"));
  EXPECT_EQ(small.why, small.host_shortage);
  EXPECT_THAT(small.remedies,
              ElementsAre(AllOf(StartsWith("more memory: "),
                                EndsWith("makes up for what is missing of the host's"))));
}

TEST(LoadMemoryPlan, AHostsLimitIsThatOfItsOwnCpu) {
  const ModelSpec spec = PlanModel();
  Topology topology = GpuTopology({{24, 900}});
  AddCpu(64, 1, topology);
  topology.hosts.push_back({.name = "other"});
  topology.devices.push_back(topology.devices[1]);
  topology.devices.back().host = 1;
  PlanRequest request = RequestFor(spec, topology);
  request.devices = {"box/cuda:0"};
  request.load_buffers = PerThread();
  request.limits.limit_bytes["other/cpu"] = 20 * kMiB;
  EXPECT_TRUE(PlanOf(request).fits());
  request.limits.limit_bytes["box/cpu"] = 20 * kMiB;
  EXPECT_THAT(PlanOf(request).host_shortage, HasSubstr("of which 20.00 MiB are left"));
}

// A host of one CPU whose model needs more to load than to run.
class LoadShortage : public ::testing::Test {
 protected:
  static constexpr int64_t kBuffers = 3 * kGiB;

  LoadShortage() {
    topology_.hosts.push_back({.name = "box"});
    AddCpu(64, 4, topology_);
    request_ = RequestFor(spec_, topology_);
    request_.load_buffers = [](const ModelSpec&, const MemoryLayout&, int threads, bool) {
      return threads * kBuffers;
    };
    roomy_ = PlanOf(request_).ranks[0];
  }

  // What loading with one thread takes.
  static int64_t Least(const RankPlan& rank) {
    return rank.weight_bytes + rank.overhead_bytes + kBuffers;
  }
  // The rank's model with matrices in another format.
  ModelSpec In(const WeightFormat& format) const {
    ModelSpec spec = spec_;
    for (TensorSpec& tensor : spec.tensors) {
      if (tensor.shape.size() > 1) tensor.format = &format;
    }
    return spec;
  }

  const ModelSpec spec_ = PlanModel();
  Topology topology_;
  PlanRequest request_;
  RankPlan roomy_;
};

TEST_F(LoadShortage, IsToldByWhatLoadingTakes) {
  ASSERT_GT(Least(roomy_), roomy_.total_bytes());
  topology_.devices[0].available_bytes = Least(roomy_) - 2 * kMiB;
  const Plan plan = PlanOf(request_);
  EXPECT_THAT(plan.why, AllOf(HasSubstr("cpu is short by 2.00 MiB"),
                              HasSubstr("most of it buffers to load 3.00 GiB")));
  EXPECT_THAT(plan.remedies, ElementsAre(EndsWith("makes up for 2.00 MiB")));
  // Also where it would not run: with one thread it lacks least.
  topology_.devices[0].available_bytes = roomy_.total_bytes() - 1;
  EXPECT_EQ(PlanOf(request_).ranks[0].load_bytes, kBuffers);
}

// Larger weights would run, smaller ones also load; a smaller cache is of no use.
TEST_F(LoadShortage, RemediesLoadToo) {
  ModelSpec smaller = In(kQ8_0Format);
  ModelSpec small = In(*FindWeightFormat("q4_0"));
  PlanRequest of_small = request_;
  of_small.spec = &small;
  topology_.devices[0].available_bytes = Least(PlanOf(of_small).ranks[0]);
  request_.smaller_models = [&] {
    return std::vector<SmallerModel>{{"--weights=q8_0", smaller}, {"--weights=q4_0", small}};
  };
  ASSERT_GT(topology_.devices[0].available_bytes, roomy_.total_bytes());
  const Plan plan = PlanOf(request_);
  EXPECT_THAT(plan.remedies, ElementsAre(StartsWith("--weights=q4_0 (")));
}

// A CPU that is faster than the card gets all, until what loading takes is not there beside it.
TEST(LoadMemoryPlan, WhatDoesNotLoadIsLookedForAgain) {
  const ModelSpec spec = PlanModel();
  Topology topology = GpuTopology({{24, 20}});
  AddCpu(16, 1, topology);
  PlanRequest request = RequestFor(spec, topology);
  request.devices.clear();
  request.load_buffers = PerThread();
  const Plan roomy = PlanOf(request);
  ASSERT_EQ(roomy.world_size(), 1);
  const RankPlan all = roomy.ranks[0];
  ASSERT_EQ(all.device, "cpu");
  ASSERT_GT(all.most_bytes(), all.total_bytes());
  topology.devices[1].available_bytes = all.most_bytes() - 1;
  const Plan plan = PlanOf(request);
  EXPECT_TRUE(plan.fits()) << plan.why;
  EXPECT_EQ(plan.world_size(), 2);
  EXPECT_LT(plan.decode.expected, roomy.decode.expected);
  for (const RankPlan& rank : plan.ranks) EXPECT_LE(rank.most_bytes(), rank.available_bytes);
  EXPECT_THAT(plan.notes, ::testing::Contains(HasSubstr("for what loading takes of its host")));
  // It uses what it may: a layer is about 80 MB.
  const RankPlan& cpu = plan.ranks[plan.ranks[0].device == "cpu" ? 0 : 1];
  EXPECT_GT(cpu.weight_bytes, all.weight_bytes - 4 * kPerThread);
}

// A card's rank reads through its host's memory, which the CPU's rank must leave.
TEST(LoadMemoryPlan, ACpuRankLeavesWhatTheCardsNeedToLoad) {
  const ModelSpec spec = PlanModel();
  Topology topology = GpuTopology({{0.7, 900}, {24, 20}});
  AddCpu(16, 1, topology);
  PlanRequest request = RequestFor(spec, topology);
  request.devices.clear();
  request.load_buffers = PerThread();
  const Plan roomy = PlanOf(request);
  ASSERT_EQ(roomy.world_size(), 2) << roomy.why;
  const RankPlan& cpu = roomy.ranks[roomy.ranks[0].device == "cpu" ? 0 : 1];
  ASSERT_EQ(cpu.device, "cpu");
  topology.devices[2].available_bytes = cpu.most_bytes() + kProcessBytes + 2 * kPerThread;
  EXPECT_EQ(PlanOf(request).placements, roomy.placements);
  topology.devices[2].available_bytes -= 1;
  const Plan plan = PlanOf(request);
  EXPECT_TRUE(plan.fits()) << plan.why;
  EXPECT_NE(plan.placements, roomy.placements);
  // Nothing helps where it is not the CPU's rank that takes it.
  request.devices = {"cuda:0", "cuda:1"};
  topology.devices[2].available_bytes = kProcessBytes;
  EXPECT_FALSE(PlanOf(request).fits());
}

}  // namespace
}  // namespace tprun
