#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "partition/advice.h"
#include "partition/candidates.h"
#include "partition/plan_search.h"
#include "partition/planner.h"

namespace tprun {
namespace {

// Speeds are told for this many positions in the cache unless asked otherwise.
constexpr int64_t kDefaultDepth = 512;

// Of more devices a note tells only how many they are.
constexpr size_t kMostNamed = 8;

absl::Status CheckShares(const PlanRequest& request) {
  if (request.shares.empty()) return absl::OkStatus();
  if (request.devices.empty()) {
    return absl::InvalidArgumentError("--shares: needs --devices, whose shares they are");
  }
  if (request.shares.size() != request.devices.size()) {
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
  if (largest > 0) return absl::OkStatus();
  return absl::InvalidArgumentError("--shares: at least one has to be above 0");
}

absl::Status CheckRequest(const PlanRequest& request) {
  if (request.topology->devices.empty()) {
    return absl::InvalidArgumentError("no devices to plan for");
  }
  const EngineOptions& options = request.options;
  const bool too_long =
      options.context > request.spec->context_length && !request.allow_long_context;
  if (options.context < 1 || too_long) {
    return absl::InvalidArgumentError(
        absl::StrCat("--context: wanted 1 to ", request.spec->context_length,
                     ", the context length of ", request.spec->name, ", found ", options.context));
  }
  if (options.batch < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--batch: wanted at least 1, found ", options.batch));
  }
  return CheckShares(request);
}

// Where what a process holds beside our own allocations was not measured on the card itself.
void NoteEstimatedOverheads(const Topology& topology, Plan& plan) {
  const bool nccl = plan.world_size() > 1;
  std::vector<std::string> devices;
  for (const RankPlan& rank : plan.ranks) {
    const auto ref = LocateDevice(topology, rank.device);
    if (!ref.ok() || topology.devices[ref->device].kind != DeviceKind::kGpu) continue;
    const DeviceMeasurements& measured = topology.devices[ref->device].measured;
    const bool known = measured.context_bytes > 0 &&
                       (!nccl || (measured.nccl_base_bytes > 0 && measured.nccl_channel_bytes > 0));
    const bool seen = std::find(devices.begin(), devices.end(), rank.device) != devices.end();
    if (!known && !seen) devices.push_back(rank.device);
  }
  if (devices.empty()) return;
  plan.notes.push_back(absl::StrCat(
      "the CUDA contexts", nccl ? " and NCCL's base" : "", " in \"other\" of ",
      devices.size() > kMostNamed ? absl::StrCat(devices.size(), " GPUs")
                                  : absl::StrJoin(devices, ", "),
      " are those of their type, estimates (--explain has their sources), not measured there"));
}

void AddNotes(const PlanRequest& request, Plan& plan) {
  const ModelSpec& spec = *request.spec;
  for (int layer = 0; layer < spec.num_layers(); ++layer) {
    const Placement& placement = plan.placements[spec.attention_block(layer)];
    if (placement.kv_replication == 1) continue;
    plan.notes.push_back(absl::StrCat("each of the ", spec.layers[layer].attention.kv_heads,
                                      " KV heads is cut into ", placement.kv_replication,
                                      " shares of its query heads, so that ",
                                      placement.ranks.size(), " ranks get nearly equal parts"));
    break;
  }
  if (plan.options.context > spec.context_length) {
    plan.notes.push_back(absl::StrCat("the context of ", plan.options.context, " is more than the ",
                                      spec.context_length,
                                      " positions that the model was made for"));
  }
  std::map<std::string, int> count;
  for (const RankPlan& rank : plan.ranks) ++count[rank.device];
  for (const auto& [device, ranks] : count) {
    if (ranks > 1) plan.notes.push_back(absl::StrCat(ranks, " ranks share ", device));
  }
  std::set<std::string> reserved;
  for (const RankPlan& rank : plan.ranks) {
    const auto ref = LocateDevice(*request.topology, rank.device);
    if (!ref.ok() || request.limits.reserve_bytes != kReserveByUse) continue;
    const int64_t bytes = ReserveOf(request.topology->devices[ref->device], request.limits);
    if (bytes == 0 || !reserved.insert(rank.device).second) continue;
    plan.notes.push_back(absl::StrCat(FormatBytes(bytes), " stay free on ", rank.device,
                                      ", which others use too (a display?); --reserve=0B takes "
                                      "them"));
  }
  NoteEstimatedOverheads(*request.topology, plan);
  for (const RankPlan& rank : plan.ranks) {
    const auto ref = LocateDevice(*request.topology, rank.device);
    if (!ref.ok()) continue;
    const DeviceInfo& device = request.topology->devices[ref->device];
    if (device.measured.memory_bandwidth_bytes_per_s > 0) continue;
    plan.notes.push_back(
        "speeds rest on nominal or estimated memory bandwidth, not on a measurement");
    break;
  }
}

Plan EmptyPlan(const PlanRequest& request) {
  const ModelSpec& spec = *request.spec;
  Plan plan;
  plan.model_name = spec.name;
  plan.architecture = spec.architecture;
  plan.fingerprint = ModelFingerprint(spec);
  plan.parameters = ParameterCount(spec);
  plan.options = request.options;
  plan.objective = std::string(ObjectiveName(request.objective));
  plan.depth = request.depth;
  return plan;
}

// All GPUs, or all CPUs where there are none: what a split that is asked for goes over.
std::vector<std::string> DevicesToSplitOver(const Topology& topology) {
  std::vector<std::string> gpus;
  std::vector<std::string> cpus;
  for (const DeviceRef& ref : AllDeviceRefs(topology)) {
    const bool gpu = topology.devices[ref.device].kind == DeviceKind::kGpu;
    (gpu ? gpus : cpus).push_back(DeviceId(topology, ref));
  }
  return gpus.empty() ? cpus : gpus;
}

// Placements in given shares or the best, and what loading them takes.
absl::Status Place(const PlanRequest& request, const Candidates& candidates, Plan& plan) {
  if (request.shares.empty()) {
    RETURN_IF_ERROR(FindPlan(request, candidates, plan));
  } else {
    RETURN_IF_ERROR(PlaceAsGiven(request, candidates, plan));
  }
  return DescribeLoading(*request.topology, *request.spec, request.load_buffers, request.threads,
                         request.limits, plan);
}

// A plan that fits when it runs and not while it loads is looked for again with less of the memory
// that was short; where none is found, the first stays.
absl::Status PlaceSoThatItLoads(const PlanRequest& request, const Candidates& candidates,
                                Plan& plan) {
  constexpr int kMostRounds = 8;
  const Plan before = plan;
  RETURN_IF_ERROR(Place(request, candidates, plan));
  std::map<std::string, int64_t> less;
  Plan attempt = plan;
  for (int round = 0; round < kMostRounds && request.shares.empty(); ++round) {
    const auto wanted = LessToLoad(*request.topology, request.limits, attempt);
    if (wanted.empty()) break;
    for (const auto& [device, bytes] : wanted) less[device] = std::max(less[device], bytes);
    attempt = before;
    RETURN_IF_ERROR(Place(request, WithLess(request, candidates, less), attempt));
    if (!attempt.fits()) continue;
    plan = std::move(attempt);
    for (const auto& [device, bytes] : less) {
      plan.notes.push_back(absl::StrCat(
          "a rank on ", device, " leaves ", FormatBytes(bytes),
          " for what loading takes of its host: a layout with more there would not load"));
    }
    break;
  }
  return absl::OkStatus();
}

// Frames have to come in real time for as long as a conversation lasts: with the window full.
int64_t DefaultDepth(const ModelSpec& spec) {
  const int64_t window = spec.layers.front().attention.window;
  return spec.streams > 1 && window > 0 ? window - 1 : kDefaultDepth;
}

class SearchPlanner : public Planner {
 public:
  absl::StatusOr<Plan> MakePlan(const PlanRequest& given) const override {
    RETURN_IF_ERROR(CheckRequest(given));
    PlanRequest request = given;
    if (request.depth < 0) {
      request.depth = std::min(DefaultDepth(*request.spec), request.options.context - 1);
    }
    if (request.min_tokens_per_s <= 0) {
      request.min_tokens_per_s = request.spec->tokens_per_second_needed;
    }
    if (request.devices.empty() && request.split != SplitMode::kAuto) {
      request.devices = DevicesToSplitOver(*request.topology);
    }
    ASSIGN_OR_RETURN(const Candidates candidates, MakeCandidates(request));
    Plan plan = EmptyPlan(request);
    plan.notes = candidates.notes;
    RETURN_IF_ERROR(PlaceSoThatItLoads(request, candidates, plan));
    AddNotes(request, plan);
    if (request.advise) RETURN_IF_ERROR(Advise(*this, request, candidates, plan));
    return plan;
  }
};

}  // namespace

std::unique_ptr<Planner> MakePlanner() { return std::make_unique<SearchPlanner>(); }

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

absl::StatusOr<SplitMode> ParseSplitMode(absl::string_view name) {
  if (name == "auto") return SplitMode::kAuto;
  if (name == "tensor") return SplitMode::kTensor;
  if (name == "layer") return SplitMode::kLayer;
  return absl::InvalidArgumentError(
      absl::StrCat("--split: wanted auto, tensor or layer, found \"", name, "\""));
}

}  // namespace tprun
