#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "partition/planner.h"

namespace tprun {
namespace {

// What a process holds on a device beside our own allocations. CUDA: context with kernels, cuBLAS
// and NCCL of a bare C++ process, 551 MB as measured by NVIDIA's aiconfigurator; CPU: program, MPI
// and thread stacks, 18 MiB resident on Debian 12 with Open MPI 4.1 (2026-11), and a tokenizer.
constexpr int64_t kCudaOverheadBytes = 551'000'000;
constexpr int64_t kCpuOverheadBytes = 24 * kMiB;

// An exchange costs at least this much: shared memory between ranks of a host (measured 5 us for
// 8 KiB with Open MPI on one socket, 2026-11), where the topology has no link with a latency.
constexpr double kExchangeSeconds = 5e-6;

// Shares are moved off full devices step by step; more steps than this change nothing.
constexpr int kMaxMoves = 64;

absl::Status CheckRequest(const PlanRequest& request) {
  if (request.devices.empty()) return absl::InvalidArgumentError("no devices to plan for");
  const EngineOptions& options = request.options;
  if (options.context < 1 || options.context > request.spec->context_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context: wanted 1 to ", request.spec->context_length,
                     ", the context length of ", request.spec->name, ", found ", options.context));
  }
  if (options.batch < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--batch: wanted at least 1, found ", options.batch));
  }
  if (!request.shares.empty() && request.shares.size() != request.devices.size()) {
    return absl::InvalidArgumentError(absl::StrCat("--shares: wanted one number per device, ",
                                                   request.devices.size(), ", found ",
                                                   request.shares.size()));
  }
  double largest = 0;
  for (double share : request.shares) {
    if (!std::isfinite(share) || share < 0) {
      return absl::InvalidArgumentError("--shares: wanted numbers of at least 0");
    }
    largest = std::max(largest, share);
  }
  if (!request.shares.empty() && largest == 0) {
    return absl::InvalidArgumentError("--shares: at least one has to be above 0");
  }
  return absl::OkStatus();
}

std::vector<double> StartingProportions(const PlanRequest& request,
                                        const std::vector<RankPlan>& ranks) {
  if (!request.shares.empty()) return request.shares;
  std::vector<double> proportions;
  for (const RankPlan& rank : ranks) {
    proportions.push_back(request.objective == Objective::kContext
                              ? static_cast<double>(rank.available_bytes)
                              : rank.bandwidth_bytes_per_s);
  }
  const bool unknown = std::any_of(proportions.begin(), proportions.end(),
                                   [](double value) { return !(value > 0); });
  if (unknown) std::fill(proportions.begin(), proportions.end(), 1.0);
  return proportions;
}

// The least replication that gives every rank some query heads, or 1 where there is none.
int KvReplication(const ModelSpec& spec, int layer, int ranks) {
  const int block = spec.attention_block(layer);
  const AttentionSpec& attention = spec.layers[layer].attention;
  const int group = attention.heads / attention.kv_heads;
  for (int replication = 1; replication <= group; ++replication) {
    const bool enough = int64_t{attention.kv_heads} * replication >= ranks;
    if (enough && CanReplicateKv(spec, block, replication)) return replication;
  }
  return 1;
}

std::vector<Placement> TensorPlacements(const ModelSpec& spec,
                                        const std::vector<double>& proportions) {
  const int world = static_cast<int>(proportions.size());
  std::vector<int> all(world);
  std::iota(all.begin(), all.end(), 0);
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const Block& what = spec.blocks[block];
    Placement placement = {.ranks = all};
    if (what.kind == BlockKind::kAttention) {
      placement.kv_replication = KvReplication(spec, what.layer, world);
    }
    placement.shares = Apportion(UnitsOf(spec, block, placement.kv_replication).count, proportions);
    placements.push_back(std::move(placement));
  }
  return placements;
}

std::vector<Placement> LayerPlacements(const ModelSpec& spec,
                                       const std::vector<double>& proportions) {
  const std::vector<int64_t> layers = Apportion(spec.num_layers(), proportions);
  std::vector<int> rank_of_layer;
  for (size_t rank = 0; rank < layers.size(); ++rank) {
    rank_of_layer.insert(rank_of_layer.end(), layers[rank], static_cast<int>(rank));
  }
  std::vector<Placement> placements;
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const BlockKind kind = spec.blocks[block].kind;
    const int rank = kind == BlockKind::kEmbed  ? rank_of_layer.front()
                     : kind == BlockKind::kHead ? rank_of_layer.back()
                                                : rank_of_layer[spec.blocks[block].layer];
    placements.push_back({.ranks = {rank}, .shares = {UnitsOf(spec, block).count}});
  }
  return placements;
}

void Place(const PlanRequest& request, const std::vector<double>& proportions, Plan& plan) {
  plan.placements = request.split == SplitMode::kLayer
                        ? LayerPlacements(*request.spec, proportions)
                        : TensorPlacements(*request.spec, proportions);
  PredictPlan(*request.spec, plan);
}

// Lowers the proportions of ranks that are too full until all fit, or nothing moves any more.
void MoveOffFullRanks(const PlanRequest& request, std::vector<double> proportions, Plan& plan) {
  for (int move = 0; move < kMaxMoves && !plan.fits(); ++move) {
    bool room = false;
    for (const RankPlan& rank : plan.ranks) room = room || rank.short_bytes() < 0;
    if (!room) return;
    for (size_t i = 0; i < plan.ranks.size(); ++i) {
      const RankPlan& rank = plan.ranks[i];
      if (rank.short_bytes() <= 0) continue;
      const double held = static_cast<double>(rank.weight_bytes + rank.kv_bytes);
      const double allowed = held - static_cast<double>(rank.short_bytes());
      proportions[i] *= held > 0 ? std::clamp(allowed / held, 0.0, 0.98) : 0;
    }
    if (std::accumulate(proportions.begin(), proportions.end(), 0.0) <= 0) return;
    Place(request, proportions, plan);
  }
}

void AddNotes(const PlanRequest& request, Plan& plan) {
  const ModelSpec& spec = *request.spec;
  for (int layer = 0; layer < spec.num_layers(); ++layer) {
    const Placement& placement = plan.placements[spec.attention_block(layer)];
    if (placement.kv_replication == 1) continue;
    plan.notes.push_back(absl::StrCat(
        "each of the ", spec.layers[layer].attention.kv_heads, " KV heads is held by ",
        placement.kv_replication, " shares, because there are ", placement.ranks.size(), " ranks"));
    break;
  }
  std::map<std::string, int> count;
  for (const RankPlan& rank : plan.ranks) ++count[rank.device];
  for (const auto& [device, ranks] : count) {
    if (ranks > 1) plan.notes.push_back(absl::StrCat(ranks, " ranks share ", device));
  }
  for (const std::string& id : request.devices) {
    const auto index = FindDevice(*request.topology, id);
    if (!index.ok() || request.topology->devices[*index].bandwidth_measured) continue;
    plan.notes.push_back(
        "speeds rest on nominal or estimated memory bandwidth, not on a measurement");
    break;
  }
}

// The largest context with which the plan's placements fit, 0 if none does.
int64_t LargestContext(const PlanRequest& request, const Plan& plan) {
  int64_t low = 0;
  int64_t high = request.options.context;
  while (low + 1 < high) {
    const int64_t middle = low + (high - low) / 2;
    Plan smaller = plan;
    smaller.options.context = middle;
    PredictPlan(*request.spec, smaller);
    (smaller.fits() ? low : high) = middle;
  }
  return low;
}

void AddRemedies(const PlanRequest& request, Plan& plan) {
  if (plan.fits()) return;
  if (plan.options.kv_type == DType::kF32) {
    Plan smaller = plan;
    smaller.options.kv_type = DType::kF16;
    PredictPlan(*request.spec, smaller);
    if (smaller.fits()) plan.remedies.push_back("--kv_type=f16");
  }
  if (const int64_t context = LargestContext(request, plan); context > 0) {
    plan.remedies.push_back(absl::StrCat("--context=", context));
  }
  int64_t short_bytes = 0;
  for (const RankPlan& rank : plan.ranks) {
    short_bytes += std::max<int64_t>(0, rank.short_bytes());
  }
  plan.remedies.push_back(absl::StrCat("another device with at least ", FormatBytes(short_bytes),
                                       " free, or ", "weights of a smaller type"));
}

class ProportionalPlanner : public Planner {
 public:
  absl::StatusOr<Plan> MakePlan(const PlanRequest& request) const override {
    RETURN_IF_ERROR(CheckRequest(request));
    const ModelSpec& spec = *request.spec;
    Plan plan;
    plan.model_name = spec.name;
    plan.architecture = spec.architecture;
    plan.fingerprint = ModelFingerprint(spec);
    plan.parameters = ParameterCount(spec);
    plan.options = request.options;
    plan.objective = std::string(ObjectiveName(request.objective));
    for (const std::string& device : request.devices) {
      plan.ranks.emplace_back();
      plan.ranks.back().device = device;
    }
    RETURN_IF_ERROR(DescribeDevices(*request.topology, plan));
    const std::vector<double> proportions = StartingProportions(request, plan.ranks);
    Place(request, proportions, plan);
    if (request.shares.empty()) MoveOffFullRanks(request, proportions, plan);
    AddNotes(request, plan);
    AddRemedies(request, plan);
    return plan;
  }
};

}  // namespace

std::unique_ptr<Planner> MakeProportionalPlanner() {
  return std::make_unique<ProportionalPlanner>();
}

absl::StatusOr<Objective> ParseObjective(absl::string_view name) {
  for (Objective objective : {Objective::kLatency, Objective::kThroughput, Objective::kContext}) {
    if (ObjectiveName(objective) == name) return objective;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--objective: wanted latency, throughput or context, found \"", name, "\""));
}

absl::string_view ObjectiveName(Objective objective) {
  switch (objective) {
    case Objective::kLatency:
      return "latency";
    case Objective::kThroughput:
      return "throughput";
    case Objective::kContext:
      return "context";
  }
  return "?";
}

std::vector<int64_t> Apportion(int64_t total, const std::vector<double>& given) {
  // Scaled by a power of two, which is exact, so that no sum or product overflows.
  std::vector<double> proportions = given;
  int exponent = 0;
  std::frexp(*std::max_element(given.begin(), given.end()), &exponent);
  for (double& proportion : proportions) proportion = std::ldexp(proportion, -exponent);
  const double sum = std::accumulate(proportions.begin(), proportions.end(), 0.0);
  std::vector<int64_t> result;
  std::vector<std::pair<double, int>> remainders;  // negated, so that sorting puts large ones first
  for (size_t i = 0; i < proportions.size(); ++i) {
    const double exact = static_cast<double>(total) * proportions[i] / sum;
    result.push_back(static_cast<int64_t>(exact));
    remainders.emplace_back(-(exact - static_cast<double>(result.back())), static_cast<int>(i));
  }
  std::sort(remainders.begin(), remainders.end());
  int64_t left = total - std::accumulate(result.begin(), result.end(), int64_t{0});
  for (size_t i = 0; left > 0; i = (i + 1) % remainders.size()) {
    if (proportions[remainders[i].second] <= 0) continue;
    ++result[remainders[i].second];
    --left;
  }
  return result;
}

absl::Status DescribeDevices(const Topology& topology, Plan& plan) {
  std::vector<int> indices;
  std::map<int, int> ranks_on_device;
  for (const RankPlan& rank : plan.ranks) {
    ASSIGN_OR_RETURN(const int index, FindDevice(topology, rank.device));
    indices.push_back(index);
    ++ranks_on_device[index];
  }
  for (size_t i = 0; i < indices.size(); ++i) {
    const DeviceInfo& device = topology.devices[indices[i]];
    const int sharing = ranks_on_device[indices[i]];
    RankPlan& rank = plan.ranks[i];
    rank.device_name = device.name;
    rank.available_bytes = device.available_bytes / sharing;
    rank.bandwidth_bytes_per_s = device.memory_bandwidth_bytes_per_s / sharing;
    rank.overhead_bytes = device.kind == DeviceKind::kGpu ? kCudaOverheadBytes : kCpuOverheadBytes;
  }
  return absl::OkStatus();
}

void PredictPlan(const ModelSpec& spec, Plan& plan) {
  SetRankBytes(spec, plan);
  // One token: every block takes as long as its slowest rank needs to read its weights, and an
  // exchange where its group has several ranks.
  double seconds = 0;
  for (int block = 0; block < static_cast<int>(plan.placements.size()); ++block) {
    const Placement& placement = plan.placements[block];
    double slowest = 0;
    for (size_t i = 0; i < placement.ranks.size(); ++i) {
      const double bandwidth = plan.ranks[placement.ranks[i]].bandwidth_bytes_per_s;
      if (bandwidth <= 0) return;
      const int64_t bytes = BlockBytesPerToken(spec, block, placement, static_cast<int>(i));
      slowest = std::max(slowest, static_cast<double>(bytes) / bandwidth);
    }
    seconds += slowest + (placement.ranks.size() > 1 ? kExchangeSeconds : 0);
  }
  plan.decode_tokens_per_s = seconds > 0 ? 1 / seconds : 0;
}

}  // namespace tprun
