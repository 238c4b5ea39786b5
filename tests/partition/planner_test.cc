#include "partition/planner.h"

#include <numeric>
#include <random>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "tests/partition/plan_fixture.h"
#include "topology/gpu_overheads.h"

namespace tprun {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

Plan MakePlan(const PlanRequest& request) {
  auto plan = MakePlanner()->MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  const absl::Status sound = CheckPlanFor(*plan, *request.spec);
  EXPECT_TRUE(sound.ok()) << sound;
  return *std::move(plan);
}

TEST(Apportion, IsWholeFairAndComplete) {
  EXPECT_THAT(Apportion(8, {5, 2, 1}), ElementsAre(5, 2, 1));
  EXPECT_THAT(Apportion(4, {5, 2, 1}), ElementsAre(3, 1, 0));  // 2.5, 1, 0.5
  EXPECT_THAT(Apportion(4, {1, 1, 1}), ElementsAre(2, 1, 1));
  EXPECT_THAT(Apportion(1, {1, 3}), ElementsAre(0, 1));
  EXPECT_THAT(Apportion(7, {0, 1, 0}), ElementsAre(0, 7, 0));
  EXPECT_THAT(Apportion(0, {1, 2}), ElementsAre(0, 0));
  EXPECT_THAT(Apportion(8, {1e308, 1e308}), ElementsAre(4, 4));
  EXPECT_THAT(Apportion(8, {1e308, 1e-308}), ElementsAre(8, 0));
}

TEST(Apportion, IsNeverOffByAWholeUnit) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    const int64_t total = random() % 1000;
    std::vector<double> proportions(1 + random() % 9);
    for (double& value : proportions) value = random() % 4 == 0 ? 0 : 1 + random() % 100;
    proportions[0] += 1;
    const double sum = std::accumulate(proportions.begin(), proportions.end(), 0.0);
    const auto shares = Apportion(total, proportions);
    EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), int64_t{0}), total);
    for (size_t i = 0; i < shares.size(); ++i) {
      EXPECT_LT(std::abs(shares[i] - total * proportions[i] / sum), 1.0);
      EXPECT_TRUE(proportions[i] > 0 || shares[i] == 0);
    }
  }
}

// One token reads weights, of which quantised ones are fewer.
TEST(DefaultEfficiencies, OnACpuSmallerWeightsAreReadSooner) {
  constexpr int64_t kElements = 1 << 13;
  const DeviceRates cpu = {.kind = DeviceKind::kCpu};
  const Coefficients coefficients = DefaultCoefficients();
  const auto read = [&](const WeightFormat& format) {
    const double part = EfficiencyOf(coefficients, cpu, KernelFamily::kMatMul, format.name).memory;
    return static_cast<double>(format.Bytes(kElements)) / part;
  };
  int smaller = 0;
  for (const EfficiencyRule& rule : coefficients.rules) {
    if (rule.device != "cpu" || rule.family != KernelFamilyName(KernelFamily::kMatMul)) continue;
    const WeightFormat* format = FindWeightFormat(rule.format);
    if (format == nullptr || format->Bytes(kElements) >= kBF16Format.Bytes(kElements)) continue;
    EXPECT_LT(read(*format), read(kBF16Format)) << rule.format;
    ++smaller;
  }
  EXPECT_GT(smaller, 20);
}

TEST(Planner, SharesFollowBandwidth) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 300}});
  const Plan plan = MakePlan(RequestFor(spec, topology));
  EXPECT_TRUE(plan.fits());
  EXPECT_THAT(plan.placements[spec.attention_block(3)].shares, ElementsAre(6, 2));
  EXPECT_THAT(plan.placements[spec.mlp_block(3)].shares, ElementsAre(132, 44));  // of 32 columns
  EXPECT_GT(plan.decode.expected, 0);
}

TEST(Planner, SharesMoveOffAFullCard) {
  const ModelSpec spec = PlanModel(32, 8, 40);  // about 4 GiB of weights
  const Topology topology = GpuTopology({{1.6, 900}, {24, 900}});
  const Plan plan = MakePlan(RequestFor(spec, topology));
  EXPECT_TRUE(plan.fits()) << FormatBytes(plan.ranks[0].total_bytes());
  const auto& shares = plan.placements[spec.mlp_block(0)].shares;
  EXPECT_LT(shares[0], shares[1]);
  EXPECT_GT(shares[0], 0);
}

// Once everything the model knows fits, speed counts again.
TEST(Planner, ContextObjectiveStopsAtTheModelsContext) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 900}});
  PlanRequest request = RequestFor(spec, topology);
  const Plan fastest = MakePlan(request);
  request.objective = Objective::kContext;
  const Plan plan = MakePlan(request);
  EXPECT_THAT(
      plan.notes,
      testing::Contains(HasSubstr(absl::StrCat("room for ", spec.context_length, " positions"))));
  EXPECT_GE(plan.decode.expected, 0.99 * fastest.decode.expected);
}

TEST(Planner, ContextObjectiveFollowsMemory) {
  ModelSpec spec = PlanModel();
  spec.context_length = 1 << 30;  // memory is the limit, not the model
  const Topology topology = GpuTopology({{6, 900}, {18, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.objective = Objective::kContext;
  const Plan plan = MakePlan(request);
  const Placement& attention = plan.placements[spec.attention_block(0)];
  EXPECT_EQ(KvHeads(spec, spec.attention_block(0), attention, 0).size(), 2);
  EXPECT_EQ(KvHeads(spec, spec.attention_block(0), attention, 1).size(), 6);
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("room for")));
}

TEST(Planner, GivenSharesAreKept) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 300}, {24, 300}});
  PlanRequest request = RequestFor(spec, topology);
  request.shares = {5, 2, 1};
  EXPECT_THAT(MakePlan(request).placements[spec.attention_block(0)].shares, ElementsAre(5, 2, 1));
}

TEST(Planner, LayersGoOneAfterTheOther) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 300}, {24, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.split = SplitMode::kLayer;
  const Plan plan = MakePlan(request);
  // The slow card has to have a layer, so it gets one, and the fast one the rest and the head.
  EXPECT_THAT(plan.placements[spec.embed_block()].ranks, ElementsAre(0));
  EXPECT_THAT(plan.placements[spec.mlp_block(0)].ranks, ElementsAre(0));
  EXPECT_THAT(plan.placements[spec.attention_block(1)].ranks, ElementsAre(1));
  EXPECT_THAT(plan.placements[spec.head_block()].ranks, ElementsAre(1));
}

TEST(Planner, GivenSharesOfLayersAreKept) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 300}});
  PlanRequest request = RequestFor(spec, topology);
  request.split = SplitMode::kLayer;
  request.shares = {3, 1};
  const Plan plan = MakePlan(request);
  EXPECT_THAT(plan.placements[spec.embed_block()].ranks, ElementsAre(0));
  EXPECT_THAT(plan.placements[spec.mlp_block(5)].ranks, ElementsAre(0));
  EXPECT_THAT(plan.placements[spec.attention_block(6)].ranks, ElementsAre(1));
  EXPECT_THAT(plan.placements[spec.head_block()].ranks, ElementsAre(1));
}

TEST(Planner, MoreRanksThanKvHeadsReplicatesThemAndSaysSo) {
  const ModelSpec spec = PlanModel(32, 2);
  const Topology topology = GpuTopology({{24, 900}, {24, 900}, {24, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.split = SplitMode::kTensor;
  const Plan plan = MakePlan(request);
  const Placement& attention = plan.placements[spec.attention_block(0)];
  EXPECT_GT(attention.kv_replication, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(static_cast<double>(QueryHeads(spec, spec.attention_block(0), attention, i).size()),
                32 / 3.0, 1);
  }
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("KV heads")));
}

TEST(Planner, LeavesOutADeviceThatWouldOnlySlowItDown) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 30}});
  PlanRequest request = RequestFor(spec, topology);
  request.devices.clear();
  const Plan plan = MakePlan(request);
  ASSERT_EQ(plan.world_size(), 1);
  EXPECT_EQ(plan.ranks[0].device, "cuda:0");
  EXPECT_TRUE(plan.fits());
  for (const Alternative& other : plan.rejected) {
    EXPECT_LT(other.tokens_per_s, plan.decode.expected) << other.layout;
  }
  EXPECT_FALSE(plan.rejected.empty());
}

// A card over a thin link, which the user asked for all the same.
TEST(Planner, SaysThatSomeOfTheAskedForDevicesWouldBeFaster) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 90}});
  const Plan both = MakePlan(RequestFor(spec, topology));
  ASSERT_EQ(both.world_size(), 2);
  EXPECT_THAT(both.why, MatchesRegex("as asked for; cuda:0 alone would be faster \\([0-9.]+ "
                                     "tokens/s instead of [0-9.]+\\)"));
  PlanRequest one = RequestFor(spec, topology);
  one.devices = {"cuda:0"};
  const Plan alone = MakePlan(one);
  EXPECT_GT(alone.decode.expected, both.decode.expected);
  EXPECT_THAT(both.why, HasSubstr(absl::StrFormat("(%.1f tokens/s", alone.decode.expected)));
  // Not where all of them are of use, and not of the planner's own choice.
  const Topology equal = GpuTopology({{0.8, 900}, {0.8, 900}});
  EXPECT_THAT(MakePlan(RequestFor(spec, equal)).why, Not(HasSubstr("faster (")));
  PlanRequest any = RequestFor(spec, topology);
  any.devices.clear();
  EXPECT_THAT(MakePlan(any).why, Not(HasSubstr("would be faster")));
}

// Two cards of one type of which somebody measured what a process holds.
TEST(Planner, OverheadsMeasuredOnACardGoBeforeThoseOfItsType) {
  const ModelSpec spec = PlanModel();
  Topology topology = GpuTopology({{24, 900}, {24, 900}});
  for (DeviceInfo& gpu : topology.devices) gpu.name = "card";
  const Plan nominal = MakePlan(RequestFor(spec, topology));
  const int64_t of_type = nominal.ranks[1].overhead_bytes;
  ASSERT_EQ(nominal.ranks[0].overhead_bytes, of_type);
  DeviceMeasurements& measured = topology.devices[1].measured;
  measured.date = "2026-11-20";
  measured.context_bytes = OverheadsOfGpu(topology.devices[0]).context_bytes + 100;
  const Plan plan = MakePlan(RequestFor(spec, topology));
  EXPECT_EQ(plan.ranks[0].overhead_bytes, of_type);
  EXPECT_EQ(plan.ranks[1].overhead_bytes, of_type + 100);
  EXPECT_THAT(plan.basis,
              Contains(testing::Field(&Basis::text,
                                      HasSubstr("measured on this card 2026-11-20: context"))));
  // Those of the type are told to be no measurement of the cards.
  EXPECT_THAT(nominal.notes, Contains(HasSubstr("of cuda:0, cuda:1 are those of their type")));
  EXPECT_THAT(plan.notes, Contains(HasSubstr("of cuda:0, cuda:1 are those of their type")));
  for (DeviceInfo& gpu : topology.devices) {
    gpu.measured.context_bytes = gpu.measured.nccl_base_bytes = kMiB;
    gpu.measured.nccl_channel_bytes = kMiB;
  }
  EXPECT_THAT(MakePlan(RequestFor(spec, topology)).notes,
              Not(Contains(HasSubstr("are those of their type"))));
  // They are no longer alike: the one with room for the model is found, whatever its number.
  measured = {};
  topology.devices[0].measured.context_bytes = 30 * kGiB;
  PlanRequest any = RequestFor(spec, topology);
  any.devices.clear();
  const Plan other = MakePlan(any);
  ASSERT_TRUE(other.fits()) << other.why;
  ASSERT_EQ(other.world_size(), 1);
  EXPECT_EQ(other.ranks[0].device, "cuda:1");
}

TEST(Planner, KvHeadsAreNotReplicatedAcrossFormatBlocks) {
  ModelSpec spec = PlanModel(8, 2);  // 4 query heads of 64 columns per KV head
  static constexpr WeightFormat kWideBlocks = {
      .name = "wide", .block_elements = 256, .block_bytes = 144};
  for (TensorSpec& tensor : spec.tensors) tensor.format = &kWideBlocks;
  const Topology topology = GpuTopology({{24, 900}, {24, 900}, {24, 900}, {24, 900}});
  const Plan plan = MakePlan(RequestFor(spec, topology));
  EXPECT_EQ(plan.placements[spec.attention_block(0)].kv_replication, 1);
}

TEST(Planner, AbsurdRequestsDoNotFitInsteadOfWrappingAround) {
  ModelSpec spec = PlanModel(32, 8, 64);
  spec.context_length = 1 << 30;
  const Topology topology = GpuTopology({{24, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.options.context = 1 << 30;
  request.options.batch = 65536;
  const Plan plan = MakePlan(request);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan.ranks[0].kv_bytes, kMostBytes);
}

TEST(Planner, TellsWhatIsShortAndWhatWouldHelp) {
  const ModelSpec spec = PlanModel(32, 8, 40);
  const Topology topology = GpuTopology({{5.5, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.options.context = 8192;
  request.options.kv_type = &kF32Format;
  request.options.batch = 4;
  const Plan plan = MakePlan(request);
  ASSERT_FALSE(plan.fits());
  EXPECT_GT(plan.ranks[0].short_bytes(), 0);
  EXPECT_THAT(plan.remedies, testing::Contains(HasSubstr("--context=")));
  // The remedy is true.
  for (const std::string& remedy : plan.remedies) {
    const size_t at = remedy.find("--context=");
    if (at == std::string::npos) continue;
    request.options.context = std::stoll(remedy.substr(at + 10));
    EXPECT_TRUE(MakePlan(request).fits());
    request.options.context += 1;
    EXPECT_FALSE(MakePlan(request).fits());
  }
}

TEST(Planner, RanksOnOneDeviceShareIt) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}});
  PlanRequest request = RequestFor(spec, topology);
  request.devices = {"cuda:0", "cuda:0", "cuda:0"};
  const Plan plan = MakePlan(request);
  EXPECT_EQ(plan.ranks[2].available_bytes, 8 * kGiB);
  EXPECT_THAT(plan.notes, testing::Contains(HasSubstr("3 ranks share cuda:0")));
}

TEST(Planner, WeightsOfAllRanksAreTheModel) {
  const ModelSpec spec = PlanModel(32, 32);  // no KV head can be held twice
  const Topology topology = GpuTopology({{24, 900}, {24, 300}, {24, 500}});
  PlanRequest request = RequestFor(spec, topology);
  request.split = SplitMode::kTensor;
  const Plan plan = MakePlan(request);
  int64_t bytes = 0;
  for (const RankPlan& rank : plan.ranks) bytes += rank.weight_bytes;
  int64_t norms = 0;  // f32, on every rank
  int64_t matrices = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    (tensor.shape.size() == 1 ? norms : matrices) += ElementCount(tensor);
  }
  EXPECT_EQ(bytes, matrices * 2 + 3 * norms * 4);
}

TEST(Planner, RequestsThatMakeNoSenseAreErrors) {
  const ModelSpec spec = PlanModel();
  const Topology topology = GpuTopology({{24, 900}, {24, 300}});
  const auto error = [&](auto change) {
    PlanRequest request = RequestFor(spec, topology);
    change(request);
    return std::string(MakePlanner()->MakePlan(request).status().message());
  };
  EXPECT_THAT(error([](PlanRequest& r) { r.devices = {"cuda:7"}; }), HasSubstr("cuda:7"));
  const Topology nothing;
  EXPECT_THAT(error([&](PlanRequest& r) {
                r.devices.clear();
                r.topology = &nothing;
              }),
              HasSubstr("no devices"));
  EXPECT_THAT(error([](PlanRequest& r) {
                r.devices.clear();
                r.shares = {1, 1};
              }),
              HasSubstr("--devices"));
  EXPECT_THAT(error([](PlanRequest& r) { r.options.context = 8193; }), HasSubstr("8192"));
  EXPECT_THAT(error([](PlanRequest& r) { r.options.context = 0; }), HasSubstr("--context"));
  EXPECT_THAT(error([](PlanRequest& r) { r.options.batch = 0; }), HasSubstr("--batch"));
  EXPECT_THAT(error([](PlanRequest& r) { r.shares = {1}; }), HasSubstr("--shares"));
  EXPECT_THAT(error([](PlanRequest& r) { r.shares = {0, 0}; }), HasSubstr("--shares"));
  EXPECT_THAT(error([](PlanRequest& r) { r.shares = {1, -1}; }), HasSubstr("--shares"));
}

}  // namespace
}  // namespace tprun
