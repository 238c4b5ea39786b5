#include "partition/plan_search.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/kernels/cuda_kernels.h"

namespace tprun {
namespace {

// Batches that throughput is looked for with are powers of two up to this.
constexpr int kMostSequences = 1024;

// A batch has to be worth it: at least so much faster than the one before.
constexpr double kWorthIt = 1.01;

// The longest context is found to one part of so many.
constexpr int kContextParts = 512;

// How exactly the missing bytes are found where nothing fits.
constexpr int64_t kShortageStep = 4 * kMiB;

// Devices in the order of the plan's ranks: those the request names, else those in use, by number,
// but one that has the head first.
std::vector<int> RankOrder(const PlanRequest& request, const Candidates& candidates,
                           const Layout& layout) {
  std::vector<int> order;
  if (!request.devices.empty()) {
    order.resize(candidates.devices.size());
    std::iota(order.begin(), order.end(), 0);
    return order;
  }
  std::set<int> used;
  for (const LayoutStage& stage : layout.stages) {
    used.insert(stage.request.group.begin(), stage.request.group.end());
    if (stage.plan.offloaded > 0) used.insert(stage.request.server);
  }
  order.assign(used.begin(), used.end());
  const int head = layout.stages.back().plan.head.ranks[0];
  std::stable_partition(order.begin(), order.end(), [&](int device) { return device == head; });
  return order;
}

Placement WithRanks(Placement placement, const std::vector<int>& rank_of) {
  for (int& rank : placement.ranks) rank = rank_of[rank];
  return placement;
}

void PlaceLayer(const ModelSpec& spec, const LayoutStage& stage, int layer, int layer_class,
                const std::vector<int>& rank_of, std::vector<Placement>& placements) {
  Placement attention = {.ranks = stage.request.group,
                         .shares = stage.plan.attention.at(layer_class),
                         .kv_replication = stage.plan.replication};
  placements[spec.attention_block(layer)] = WithRanks(attention, rank_of);
  const int mlp_block = spec.mlp_block(layer);
  Placement mlp;
  if (layer < stage.request.first_layer + stage.plan.offloaded) {
    mlp = {.ranks = {stage.request.server}, .shares = {UnitsOf(spec, mlp_block).count}};
  } else {
    mlp = {.ranks = stage.request.group, .shares = stage.plan.mlp.at(layer_class)};
  }
  placements[mlp_block] = WithRanks(mlp, rank_of);
}

// What blocks on GPUs need that no CUDA kernel does yet.
void NoteMissingOps(const ModelSpec& spec, Plan& plan) {
  std::set<std::string> missing;
  for (size_t b = 0; b < plan.placements.size(); ++b) {
    const Block& block = spec.blocks[b];
    const bool of_layer = block.kind == BlockKind::kAttention || block.kind == BlockKind::kMlp;
    const char* op = of_layer ? MissingOnCuda(spec.layers[block.layer], block.kind) : nullptr;
    const bool cache =
        block.kind == BlockKind::kAttention && !HasCudaCacheOf(*plan.options.kv_type);
    if (op == nullptr && !cache) continue;
    const Placement& placement = plan.placements[b];
    for (size_t i = 0; i < placement.ranks.size(); ++i) {
      const bool gpu = absl::StrContains(plan.ranks[placement.ranks[i]].device, "cuda:");
      if (!gpu || placement.shares[i] == 0) continue;
      if (op != nullptr) missing.insert(op);
      if (cache) missing.insert(absl::StrCat("a KV cache of type ", KvTypeName(plan.options)));
    }
  }
  if (missing.empty()) return;
  plan.notes.push_back(absl::StrCat("there are no CUDA kernels for ", absl::StrJoin(missing, ", "),
                                    " yet: this can be planned but not run on these GPUs"));
}

// How fast another layout could be at most.
std::string MostSpeed(const PlanRequest& request, const Layout& layout, const Plan& plan) {
  if (layout.least_seconds <= 0) return "";
  const double step = layout.least_seconds + request.coefficients.step_seconds;
  return absl::StrFormat(", but none%s has more than %.1f tokens/s",
                         plan.options.batch > 1 ? " with this batch" : "",
                         plan.options.batch / step);
}

absl::Status FillIn(const PlanRequest& request, const Candidates& candidates, Plan& plan) {
  NoteMissingOps(*request.spec, plan);
  RETURN_IF_ERROR(DescribeDevices(*request.topology, plan, request.limits));
  for (size_t i = 0; i < candidates.sidecar_devices.size(); ++i) {
    const Sidecar& sidecar = request.spec->sidecars[i];
    const int device = candidates.sidecar_devices[i];
    const std::string id = device == kNoCandidate ? "cpu" : candidates.devices[device].id;
    const auto rank = std::find_if(plan.ranks.begin(), plan.ranks.end(),
                                   [&](const RankPlan& r) { return r.device == id; });
    if (rank != plan.ranks.end()) rank->sidecar_bytes += sidecar.bytes;
    plan.notes.push_back(absl::StrCat(sidecar.name, " (", FormatBytes(sidecar.bytes), ") on ", id));
  }
  return PredictPlan(*request.spec, *request.topology, request.coefficients, plan);
}

// The most positions per sequence, up to those that the model knows, with which a layout of at
// least the wanted speed fits.
int64_t MostPositions(const PlanRequest& request, const Candidates& candidates) {
  const auto fits = [&](int64_t context) {
    EngineOptions options = request.options;
    options.context = context;
    return LayoutFinder(request, candidates, options).Any(0, StepLimit(request));
  };
  const int64_t known = request.spec->context_length;
  const int64_t most = std::max(known > 0 ? known : int64_t{1} << 30, request.options.context);
  if (known > 0 && fits(most)) return most;
  if (!fits(1)) return 0;
  int64_t low = 1;
  int64_t high = 2;
  while (high < most && fits(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > std::max<int64_t>(1, low / kContextParts)) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

void NoteRoom(int64_t positions, Plan& plan) {
  plan.notes.push_back(absl::StrCat("room for ", positions, " positions of each of ",
                                    plan.options.batch,
                                    plan.options.batch == 1 ? " sequence" : " sequences"));
}

absl::optional<Layout> BestForContext(const PlanRequest& request, const Candidates& candidates,
                                      Plan& plan, int64_t& positions) {
  positions = MostPositions(request, candidates);
  if (positions < request.options.context) return absl::nullopt;
  EngineOptions options = request.options;
  options.context = positions;
  NoteRoom(positions, plan);
  return LayoutFinder(request, candidates, options).Best(0, StepLimit(request));
}

absl::optional<Layout> BestForThroughput(const PlanRequest& request, const Candidates& candidates,
                                         Plan& plan) {
  absl::optional<Layout> best;
  double best_rate = 0;
  for (int batch = 1; batch <= kMostSequences; batch *= 2) {
    EngineOptions options = request.options;
    options.batch = batch;
    // What is slower is not worth it.
    const double step_seconds = request.coefficients.step_seconds;
    double limit = StepLimit(request);
    if (best) limit = std::min(limit, batch / (best_rate * kWorthIt) - step_seconds);
    absl::optional<Layout> layout = LayoutFinder(request, candidates, options).Best(0, limit);
    if (!layout) break;
    best_rate = batch / (layout->seconds + step_seconds);
    best = std::move(layout);
    plan.options.batch = batch;
  }
  return best;
}

// `positions`: of the longest context, where that is the objective and there is one.
absl::optional<Layout> BestForObjective(const PlanRequest& request, const Candidates& candidates,
                                        Plan& plan, int64_t& positions) {
  absl::optional<Layout> best;
  if (request.objective == Objective::kContext) {
    best = BestForContext(request, candidates, plan, positions);
  }
  if (request.objective == Objective::kThroughput && request.choose_batch) {
    best = BestForThroughput(request, candidates, plan);
  }
  // Also where the speed that is wanted cannot be had.
  return best ? best : LayoutFinder(request, candidates, plan.options).Best();
}

// The layout that fits with the least that every device would have to have more.
absl::optional<Layout> LeastShort(const PlanRequest& request, const Candidates& candidates) {
  const LayoutFinder finder(request, candidates, request.options);
  int64_t high = kShortageStep;
  do {
    high *= 4;
    if (high >= kMostBytes) return absl::nullopt;
  } while (!finder.Any(high));
  int64_t low = high / 4;
  while (high - low > std::max(kShortageStep, high / 64)) {
    const int64_t middle = low + (high - low) / 2;
    (finder.Any(middle) ? high : low) = middle;
  }
  return finder.Best(high);
}

}  // namespace

double StepLimit(const PlanRequest& request) {
  if (request.min_tokens_per_s <= 0) return std::numeric_limits<double>::infinity();
  return 1 / request.min_tokens_per_s - request.coefficients.step_seconds;
}

SearchSpace SpaceFor(const PlanRequest& request) {
  SearchSpace space;
  space.use_all = !request.devices.empty();
  space.first_rank = request.devices.empty() ? -1 : 0;
  space.one_stage = request.split == SplitMode::kTensor;
  space.single_devices = request.split == SplitMode::kLayer;
  // Of remedies and layouts to compare with there are many.
  if (!request.advise) space.most_work = kMostWork / 4;
  space.bounded = request.advise;
  return space;
}

LayoutFinder::LayoutFinder(const PlanRequest& request, const Candidates& candidates,
                           const EngineOptions& options)
    : request_(request),
      candidates_(candidates),
      options_(options),
      tables_(*request.spec, options_,
              {options.batch, options.batch, std::min(request.depth, options.context - 1)},
              request.coefficients, candidates.rates) {}

std::vector<SearchDevice> LayoutFinder::DevicesWith(int64_t more_bytes) const {
  std::vector<SearchDevice> devices = candidates_.devices;
  for (SearchDevice& device : devices) {
    device.usable_bytes = std::min(kMostBytes, device.usable_bytes + more_bytes);
  }
  return devices;
}

absl::optional<Layout> LayoutFinder::Best(int64_t more_bytes, double limit) const {
  const std::vector<SearchDevice> devices = DevicesWith(more_bytes);
  SearchSpace space = SpaceFor(request_);
  // With memory that is not there a fast layout is as good as the fastest.
  if (more_bytes > 0) space.most_work = std::min(space.most_work, kMostWork / 16);
  return LayoutSearch(tables_, devices, candidates_.classes, *candidates_.exchanges, space)
      .Best(limit);
}

bool LayoutFinder::Any(int64_t more_bytes, double limit) const {
  const std::vector<SearchDevice> devices = DevicesWith(more_bytes);
  return LayoutSearch(tables_, devices, candidates_.classes, *candidates_.exchanges,
                      SpaceFor(request_))
      .Any(limit);
}

absl::Status ApplyLayout(const PlanRequest& request, const Candidates& candidates,
                         const Layout& layout, Plan& plan) {
  const ModelSpec& spec = *request.spec;
  std::vector<int> rank_of(candidates.devices.size(), -1);
  plan.ranks.clear();
  for (int device : RankOrder(request, candidates, layout)) {
    rank_of[device] = plan.world_size();
    plan.ranks.emplace_back();
    plan.ranks.back().device = candidates.devices[device].id;
  }
  plan.placements.assign(spec.blocks.size(), {});
  plan.placements[spec.embed_block()] = WithRanks(layout.stages.front().plan.embed, rank_of);
  plan.placements[spec.head_block()] = WithRanks(layout.stages.back().plan.head, rank_of);
  for (const LayoutStage& stage : layout.stages) {
    for (int layer = stage.request.first_layer; layer < stage.request.end_layer; ++layer) {
      PlaceLayer(spec, stage, layer, layout.layer_classes[layer], rank_of, plan.placements);
    }
  }
  RETURN_IF_ERROR(FillIn(request, candidates, plan));
  // Of what does not fit nobody asks whether it is the fastest.
  if (!layout.proven && plan.fits()) {
    plan.notes.push_back(
        absl::StrCat("the search was ended early: that no other layout is faster "
                     "is not proven",
                     MostSpeed(request, layout, plan)));
  }
  return absl::OkStatus();
}

// Takes `attempt` where it fits and is faster.
void TakeFaster(Plan attempt, absl::optional<Plan>& fastest) {
  if (!attempt.fits()) return;
  if (fastest && attempt.decode.expected <= fastest->decode.expected) return;
  fastest = std::move(attempt);
}

// The fastest that fits of layouts that take no long search: every block over all of `candidates`
// (also with the shares that suit them best) or layer after layer, in proportion to memory or in
// equal parts.
absl::Status TrySimple(const PlanRequest& request, const Candidates& candidates, const Plan& plan,
                       absl::optional<Plan>& fastest) {
  for (SplitMode split : {SplitMode::kTensor, SplitMode::kLayer}) {
    if (request.split != SplitMode::kAuto && request.split != split) continue;
    PlanRequest simple = request;
    simple.split = split;
    for (bool by_memory : {true, false}) {
      simple.shares.clear();
      if (!by_memory) simple.shares.assign(candidates.devices.size(), 1.0);
      Plan attempt = plan;
      RETURN_IF_ERROR(PlaceAsGiven(simple, candidates, attempt));
      TakeFaster(std::move(attempt), fastest);
    }
    simple.shares.clear();
    if (split != SplitMode::kTensor || request.split == split) continue;
    const absl::optional<Layout> layout = LayoutFinder(simple, candidates, plan.options).Best();
    if (!layout) continue;
    Plan attempt = plan;
    RETURN_IF_ERROR(ApplyLayout(simple, candidates, *layout, attempt));
    TakeFaster(std::move(attempt), fastest);
  }
  return absl::OkStatus();
}

// What remains where a search was ended before it knew.
absl::StatusOr<absl::optional<Plan>> FastestSimple(const PlanRequest& request,
                                                   const Candidates& candidates, const Plan& plan) {
  absl::optional<Plan> fastest;
  RETURN_IF_ERROR(TrySimple(request, candidates, plan, fastest));
  std::vector<int> gpus;
  for (size_t i = 0; i < candidates.devices.size(); ++i) {
    if (candidates.devices[i].info->kind == DeviceKind::kGpu) gpus.push_back(static_cast<int>(i));
  }
  const bool some = !gpus.empty() && gpus.size() < candidates.devices.size();
  if (!request.devices.empty() || !some) return fastest;
  PlanRequest of_gpus = request;
  for (int gpu : gpus) of_gpus.devices.push_back(candidates.devices[gpu].id);
  RETURN_IF_ERROR(TrySimple(of_gpus, Subset(of_gpus, candidates, gpus), plan, fastest));
  return fastest;
}

// A search for a context may end before it finds a layout that takes no search: the placements with
// which more than `positions` have room, of `before` otherwise; nullopt: there are none.
absl::StatusOr<absl::optional<Plan>> LongerSimple(const PlanRequest& request,
                                                  const Candidates& candidates, const Plan& before,
                                                  int64_t positions) {
  absl::optional<Plan> longest;
  const int64_t known = request.spec->context_length;
  const int64_t most = known > 0 ? known : int64_t{1} << 30;
  const auto fits = [&](int64_t context) -> absl::StatusOr<bool> {
    Plan attempt = before;
    attempt.options.context = context;
    ASSIGN_OR_RETURN(absl::optional<Plan> simple, FastestSimple(request, candidates, attempt));
    if (!simple || simple->decode.expected < request.min_tokens_per_s) return false;
    longest = std::move(simple);
    return true;
  };
  int64_t low = std::max(positions, request.options.context - 1);
  int64_t high = low + low / kContextParts + 1;
  while (high <= most) {
    ASSIGN_OR_RETURN(const bool more, fits(high));
    if (!more) break;
    low = high;
    high = std::min(2 * high, std::max(most, high + 1));
  }
  while (longest && high - low > std::max<int64_t>(1, low / kContextParts)) {
    const int64_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(const bool more, fits(middle));
    (more ? low : high) = middle;
  }
  if (!longest) return longest;
  Plan plan = before;
  plan.ranks.clear();
  for (const RankPlan& rank : longest->ranks) {
    plan.ranks.emplace_back();
    plan.ranks.back().device = rank.device;
  }
  plan.placements = longest->placements;
  NoteRoom(low, plan);
  RETURN_IF_ERROR(FillIn(request, candidates, plan));
  return plan;
}

absl::Status FindPlan(const PlanRequest& request, const Candidates& candidates, Plan& plan) {
  const Plan before = plan;
  int64_t positions = 0;
  absl::optional<Layout> layout = BestForObjective(request, candidates, plan, positions);
  if (request.objective == Objective::kContext) {
    ASSIGN_OR_RETURN(absl::optional<Plan> longer,
                     LongerSimple(request, candidates, before, positions));
    if (longer) {
      plan = *std::move(longer);
      return absl::OkStatus();
    }
  }
  if (layout && layout->proven) return ApplyLayout(request, candidates, *layout, plan);
  absl::optional<Plan> given;
  if (!layout || request.objective == Objective::kLatency) {
    ASSIGN_OR_RETURN(given, FastestSimple(request, candidates, before));
  }
  if (!layout && !given && request.advise) layout = LeastShort(request, candidates);
  if (layout) {
    RETURN_IF_ERROR(ApplyLayout(request, candidates, *layout, plan));
    if (!given || given->decode.expected <= plan.decode.expected) return absl::OkStatus();
  }
  if (!given) return PlaceAsGiven(request, candidates, plan);
  plan = *std::move(given);
  plan.notes.push_back(
      absl::StrCat("the search was ended before it found a layout as fast as this one, which took "
                   "none: a better one may exist",
                   layout ? MostSpeed(request, *layout, plan) : ""));
  return absl::OkStatus();
}

absl::Status PlaceAsGiven(const PlanRequest& request, const Candidates& candidates, Plan& plan) {
  std::vector<double> shares = request.shares;
  plan.ranks.clear();
  for (const SearchDevice& device : candidates.devices) {
    plan.ranks.emplace_back();
    plan.ranks.back().device = device.id;
    if (request.shares.empty()) {
      shares.push_back(static_cast<double>(std::max<int64_t>(1, device.usable_bytes)));
    }
  }
  plan.placements = request.split == SplitMode::kLayer ? LayerPlacements(*request.spec, shares)
                                                       : TensorPlacements(*request.spec, shares);
  return FillIn(request, candidates, plan);
}

}  // namespace tprun
