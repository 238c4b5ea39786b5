// What the objectives promise, against plans for every batch and for longer contexts: the layouts
// of those are proven by layout_search_test.
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

constexpr int kRounds = 100;
constexpr int kMostSequences = 1024;

Plan MakePlan(const PlanRequest& request) {
  auto plan = MakePlanner()->MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

// One to three cards that hold from a part of the model to many times it, half of them with a CPU.
Topology RandomBox(std::mt19937& random, double model_gib) {
  std::vector<std::pair<double, double>> gpus(1 + random() % 3);
  for (auto& [gib, rate] : gpus) {
    gib = 0.7 + model_gib * static_cast<double>(20 + random() % 500) / 100;
    rate = static_cast<double>(100 + random() % 900);
  }
  Topology topology = GpuTopology(gpus);
  if (random() % 2 == 0) return topology;
  DeviceInfo cpu;
  cpu.id = "cpu";
  cpu.kind = DeviceKind::kCpu;
  cpu.name = "cpu";
  cpu.cores = 4 + static_cast<int>(random() % 28);
  cpu.memory_bytes = cpu.available_bytes = int64_t{32} * kGiB;
  cpu.memory_bandwidth_bytes_per_s = static_cast<double>(20 + random() % 200) * 1e9;
  cpu.measured.memory_bandwidth_bytes_per_s = cpu.memory_bandwidth_bytes_per_s;
  topology.devices.push_back(cpu);
  return topology;
}

PlanRequest FreeRequest(const ModelSpec& spec, const Topology& topology) {
  PlanRequest request = RequestFor(spec, topology);
  request.devices.clear();
  request.advise = false;
  return request;
}

// Decode of all sequences together, 0 where it does not fit or each is slower than is wanted.
double RateWith(PlanRequest request, int batch) {
  request.objective = Objective::kLatency;
  request.options.batch = batch;
  const Plan plan = MakePlan(request);
  const bool slow = plan.decode.expected / batch < request.min_tokens_per_s;
  return plan.fits() && !slow ? plan.decode.expected : 0;
}

TEST(Objectives, NoBatchHasMoreThroughput) {
  std::mt19937 random(1);
  const ModelSpec spec = PlanModel();
  int several = 0, bounded = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Topology topology = RandomBox(random, 0.9);
    PlanRequest request = FreeRequest(spec, topology);
    const double alone = RateWith(request, 1);
    if (alone == 0) continue;
    if (round % 2 == 1) request.min_tokens_per_s = alone / static_cast<double>(2 + random() % 8);
    double best = 0;
    for (int batch = 1; batch <= kMostSequences; batch *= 2) {
      best = std::max(best, RateWith(request, batch));
    }
    request.objective = Objective::kThroughput;
    request.choose_batch = true;
    const Plan plan = MakePlan(request);
    EXPECT_TRUE(plan.fits());
    EXPECT_LE(plan.decode.expected, best * (1 + 1e-9)) << round;
    EXPECT_GE(plan.decode.expected * 1.01, best) << round << ", batch " << plan.options.batch;
    EXPECT_GE(plan.decode.expected / plan.options.batch, request.min_tokens_per_s);
    several += plan.options.batch > 1;
    bounded += request.min_tokens_per_s > 0;
  }
  EXPECT_GT(several, kRounds / 4);
  EXPECT_GT(bounded, kRounds / 4);
}

// "room for 4711 positions of each of 1 sequence"
int64_t PositionsOf(const Plan& plan) {
  for (const std::string& note : plan.notes) {
    const std::vector<std::string> words = absl::StrSplit(note, ' ');
    int64_t positions = 0;
    if (words[0] == "room" && absl::SimpleAtoi(words[2], &positions)) return positions;
  }
  return 0;
}

TEST(Objectives, NoLongerContextFits) {
  std::mt19937 random(2);
  ModelSpec spec = PlanModel();
  spec.context_length = 1 << 30;
  int found = 0, longer = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Topology topology = RandomBox(random, 0.9);
    PlanRequest request = FreeRequest(spec, topology);
    request.options.context = 1;
    request.objective = Objective::kContext;
    const Plan plan = MakePlan(request);
    const int64_t positions = PositionsOf(plan);
    if (positions == 0) continue;
    ++found;
    request.objective = Objective::kLatency;
    request.depth = 0;
    request.options.context = positions;
    EXPECT_TRUE(MakePlan(request).fits()) << round << ": " << positions;
    request.options.context = positions + positions / 500 + 2;
    longer += MakePlan(request).fits();
  }
  EXPECT_GT(found, kRounds / 2);
  EXPECT_EQ(longer, 0);
}

}  // namespace
}  // namespace tprun
