#include "partition/remedies.h"

#include "absl/strings/match.h"
#include "comm/peer_options.h"
#include "gmock/gmock.h"
#include "partition/predict.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

Plan MakePlan(const PlanRequest& request) {
  const auto plan = MakePlanner()->MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *plan;
}

ModelSpec In(ModelSpec spec, const WeightFormat& format) {
  for (TensorSpec& tensor : spec.tensors) {
    if (tensor.shape.size() > 1) tensor.format = &format;
  }
  return spec;
}

// 3.4 GiB of weights, 8 GiB of cache in f16 at 65536 positions.
PlanRequest TooLarge(const ModelSpec& spec, const Topology& topology) {
  PlanRequest request = RequestFor(spec, topology);
  request.options.context = 65536;
  request.allow_long_context = true;
  return request;
}

TEST(Remedies, TwoChangesWhereOneIsNotEnough) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{2.5, 900}});
  PlanRequest request = TooLarge(spec, topology);
  request.smaller_models = [&] {
    return std::vector<SmallerModel>{{"--weights=q8_0", In(spec, kQ8_0Format)}};
  };
  const Plan plan = MakePlan(request);
  ASSERT_FALSE(plan.fits());
  EXPECT_THAT(plan.remedies, Contains(StartsWith("--weights=q8_0 and --context=")));
  EXPECT_THAT(plan.remedies, Not(Contains(StartsWith("--context="))));
}

TEST(Remedies, WeightsAreOfferedOnlyAsTheyCanBeHad) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{2.5, 900}});
  const Plan plan = MakePlan(TooLarge(spec, topology));
  for (const std::string& remedy : plan.remedies) EXPECT_THAT(remedy, Not(HasSubstr("weights")));
}

TEST(Remedies, WhatFitsButIsTooSlowIsToldAsSuch) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{6, 400}});
  PlanRequest request = TooLarge(spec, topology);
  request.min_tokens_per_s = 5000;
  const Plan plan = MakePlan(request);
  ASSERT_FALSE(plan.fits());
  EXPECT_THAT(plan.remedies,
              Contains(AllOf(StartsWith("--context="), HasSubstr(", of the 5000.0 needed"))));
}

// There are no CUDA kernels for a cache in q4_0; CPUs have them.
TEST(Remedies, WhatCannotBeRunThereComesLast) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  Topology topology = GpuTopology({{6, 400}});  // q8_0 is too large
  const Plan plan = MakePlan(TooLarge(spec, topology));
  ASSERT_FALSE(plan.fits());
  ASSERT_THAT(plan.remedies, Contains(StartsWith("--context=")));
  EXPECT_THAT(plan.remedies.back(),
              AllOf(StartsWith("--kv_type=q4_0 ("), EndsWith(", can be planned but not run)")));
  topology.devices[0].id = "cpu";
  topology.devices[0].kind = DeviceKind::kCpu;
  const Plan on_cpu = MakePlan(TooLarge(spec, topology));
  EXPECT_THAT(on_cpu.remedies.front(),
              AllOf(StartsWith("--kv_type=q4_0 ("), Not(HasSubstr("planned"))));
}

// What can be run of a kind comes before what is milder and cannot.
TEST(Remedies, OfAKindOneThatCanBeRunIsTold) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{8, 400}});
  ModelSpec first = In(spec, kQ8_0Format);
  first.not_runnable = "packed";
  PlanRequest request = TooLarge(spec, topology);
  request.smaller_models = [&] {
    return std::vector<SmallerModel>{{"--weights=first", first},
                                     {"--weights=second", In(spec, kQ8_0Format)}};
  };
  const Plan plan = MakePlan(request);
  ASSERT_FALSE(plan.fits());
  EXPECT_THAT(plan.remedies, Contains(StartsWith("--weights=second (")));
  EXPECT_THAT(plan.remedies, Not(Contains(StartsWith("--weights=first"))));
}

TEST(Remedies, ACardThatWouldDoIsPlannedAnew) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  Topology topology = GpuTopology({{6, 400}});
  GpuFacts small;
  small.name = "small";
  small.device_class = "geforce";
  small.memory_bytes = 8 * kGiB;
  small.memory_bandwidth_bytes_per_s = 5e11;
  GpuFacts large = small;
  large.name = "large";
  large.memory_bytes = 24 * kGiB;
  const GpuCatalogue catalogue({small, large});
  PlanRequest request = TooLarge(spec, topology);
  request.catalogue = &catalogue;
  const Plan plan = MakePlan(request);
  EXPECT_THAT(plan.remedies, Contains(StartsWith("a large (24.00 GiB) in place of cuda:0 (")));
  EXPECT_THAT(plan.remedies, Not(Contains(HasSubstr("small"))));
}

TEST(Remedies, OneMoreOfTheSameCard) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{8, 400}});
  const Plan plan = MakePlan(TooLarge(spec, topology));
  ASSERT_FALSE(plan.fits());
  EXPECT_THAT(plan.remedies, Contains(StartsWith("one more card 0 (")));
}

TEST(Remedies, MemoryLeftToADisplayCanBeTaken) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  Topology topology = GpuTopology({{8, 400}});
  topology.devices[0].memory_bytes = 10 * kGiB;  // others use two of them
  PlanRequest request = RequestFor(spec, topology);
  request.allow_long_context = true;
  const Plan roomy = MakePlan(request);
  EXPECT_THAT(roomy.notes, Contains(HasSubstr("256.0 MiB stay free on cuda:0")));
  EXPECT_EQ(roomy.ranks[0].available_bytes, 8 * kGiB - 256 * kMiB);
  // As many positions as fit without the reserve.
  request.limits.reserve_bytes = 0;
  request.options.context = 1;
  const int64_t kv = MakePlan(request).ranks[0].kv_bytes;
  const int64_t left = -MakePlan(request).ranks[0].short_bytes();
  request.options.context = (left - 100 * kMiB) / kv;
  EXPECT_TRUE(MakePlan(request).fits());
  request.limits.reserve_bytes = kReserveByUse;
  const Plan tight = MakePlan(request);
  ASSERT_FALSE(tight.fits());
  EXPECT_THAT(tight.remedies, Contains(StartsWith("--reserve=0B (")));
}

// NCCL joins GPUs: a CPU rank is nobody's peer.
TEST(RankRoles, OnlyGpusAreNcclPeers) {
  const std::vector<Placement> placements = {{.ranks = {0}, .shares = {1}},
                                             {.ranks = {0, 1}, .shares = {1, 1}},
                                             {.ranks = {2}, .shares = {1}}};
  const RankRole beside_cpu = RoleOf(placements, 0, {true, true, false});
  EXPECT_EQ(beside_cpu.group_peers, 1);
  EXPECT_EQ(beside_cpu.hop_peers, 0);
  EXPECT_EQ(RoleOf(placements, 0, {true, true, true}).hop_peers, 2);
  const RankRole alone = RoleOf(placements, 0, {true, false, false});
  EXPECT_EQ(alone.group_peers + alone.hop_peers, 0);
}

// A window of the communicator of all ranks, and one of a group's where that is not the same.
TEST(RankRoles, NcclHoldsItsWindows) {
  const Topology topology = GpuTopology({{12, 360}});
  DeviceInfo gpu = topology.devices[0];
  gpu.measured.nccl_base_bytes = 1;
  gpu.measured.nccl_channel_bytes = 1;
  const auto nccl = [&](const RankRole& role) -> int64_t {
    for (const Overhead& overhead : OverheadsOf(gpu, role)) {
      if (overhead.name == "NCCL buffers") return overhead.bytes;
    }
    return 0;
  };
  const int64_t channels = NcclOptions().channels;
  EXPECT_EQ(nccl({0, 0}), 0);
  EXPECT_EQ(nccl({0, 1}), 1 + channels + kNcclWindowBytes);
  EXPECT_EQ(nccl({1, 0}), 1 + channels + kNcclWindowBytes);
  EXPECT_EQ(nccl({1, 2}), 1 + 3 * channels + 2 * kNcclWindowBytes);
}

// Where all cuts are as fast as each other, the fullest card decides.
TEST(LayerSplit, EqualCardsGetEqualParts) {
  const ModelSpec spec = PlanModel(32, 8, 32);
  const Topology topology = GpuTopology({{12, 360}, {12, 360}});
  PlanRequest request = RequestFor(spec, topology);
  request.split = SplitMode::kLayer;
  const Plan plan = MakePlan(request);
  ASSERT_TRUE(plan.fits());
  const double a = static_cast<double>(plan.ranks[0].total_bytes());
  const double b = static_cast<double>(plan.ranks[1].total_bytes());
  EXPECT_LT(std::max(a, b) / std::min(a, b), 1.15);
}

}  // namespace
}  // namespace tprun
