#include <algorithm>
#include <map>
#include <vector>

#include "partition/layout_search.h"

// What is mended in layouts whose stages were found one by one.

namespace tprun {
namespace {

// Bounds are sums in another order than what they bound.
constexpr double kRounding = 1 - 1e-12;

// Sums of equal times in another order are within this.
constexpr double kSameTime = 1 + 1e-10;

// What stages together take of their server: what each rank has besides its MLPs they share.
int64_t ServerBytes(const Layout& layout, int server) {
  int64_t bytes = 0;
  int64_t shared = 0;
  for (const LayoutStage& stage : layout.stages) {
    if (stage.plan.offloaded == 0 || stage.request.server != server) continue;
    bytes += stage.plan.server_bytes - stage.plan.server_shared_bytes;
    shared = std::max(shared, stage.plan.server_shared_bytes);
  }
  return bytes + shared;
}

}  // namespace

// Stages that together ask more of a server than there is are solved again with a part of it each:
// first come first served, from either end, or in proportion to what they asked for. False where
// none of it fits.
bool LayoutSearch::ShareServers(Layout& layout) {
  std::map<int, std::vector<size_t>> users;
  for (size_t i = 0; i < layout.stages.size(); ++i) {
    if (layout.stages[i].plan.offloaded > 0) users[layout.stages[i].request.server].push_back(i);
  }
  for (auto& [server, stages] : users) {
    const int64_t usable = devices_[server].usable_bytes;
    const int64_t asked = ServerBytes(layout, server);
    if (asked <= usable) continue;
    absl::optional<Layout> best;
    for (const bool in_proportion : {false, false, true}) {
      std::reverse(stages.begin(), stages.end());
      absl::optional<Layout> shared = Shared(layout, stages, in_proportion, asked);
      if (shared && (!best || shared->seconds < best->seconds)) best = std::move(shared);
    }
    if (!best) return false;
    layout = *std::move(best);
  }
  return true;
}

absl::optional<Layout> LayoutSearch::Shared(const Layout& layout, const std::vector<size_t>& stages,
                                            bool in_proportion, int64_t asked) const {
  Layout shared = layout;
  const int server = layout.stages[stages[0]].request.server;
  const int64_t usable = devices_[server].usable_bytes;
  int64_t left = usable;
  for (size_t i : stages) {
    LayoutStage& stage = shared.stages[i];
    const double part = static_cast<double>(stage.plan.server_bytes) /
                        static_cast<double>(std::max<int64_t>(1, asked));
    stage.request.server_bytes =
        in_proportion ? static_cast<int64_t>(part * static_cast<double>(usable)) : left;
    const absl::optional<StagePlan> plan = solver_.Solve(stage.request);
    if (!plan) return absl::nullopt;
    shared.seconds += plan->seconds - stage.plan.seconds;
    stage.plan = *plan;
    left -= plan->server_bytes - plan->server_shared_bytes;
  }
  if (ServerBytes(shared, server) > usable) return absl::nullopt;
  return shared;
}

// The part of its devices' memory that a stage takes, were it spread over them evenly.
double LayoutSearch::FillOf(const StageRequest& request, const StagePlan& plan) const {
  int64_t bytes = 0;
  int64_t usable = 0;
  for (int layer = request.first_layer; layer < request.end_layer; ++layer) {
    bytes = std::min(kMostBytes, bytes + solver_.LayerBytes(tables_.ClassOf(layer)));
  }
  for (int device : request.group) {
    bytes += tables_.EndsBytes(request.has_embed ? &plan.embed : nullptr,
                               request.has_head ? &plan.head : nullptr, device,
                               device == request.first_rank);
    usable += devices_[device].usable_bytes;
  }
  return static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(1, usable));
}

// Where layers may lie here or there for the same time (equal cards, one after the other), the
// fuller stage gives some to its neighbour.
void LayoutSearch::EvenOut(Layout& layout) {
  if (layout.stages.size() < 2) return;
  for (int round = 0, moved = 1; moved > 0 && round < layers_; ++round) {
    moved = 0;
    for (size_t i = 0; i + 1 < layout.stages.size(); ++i) {
      LayoutStage& left = layout.stages[i];
      LayoutStage& right = layout.stages[i + 1];
      if (left.plan.offloaded > 0 || right.plan.offloaded > 0) continue;
      const double before =
          std::max(FillOf(left.request, left.plan), FillOf(right.request, right.plan));
      const double seconds = left.plan.seconds + right.plan.seconds;
      for (const int step : {1, -1}) {
        LayoutStage new_left = left;
        LayoutStage new_right = right;
        new_left.request.end_layer += step;
        new_right.request.first_layer += step;
        if (new_left.request.end_layer <= new_left.request.first_layer ||
            new_right.request.end_layer <= new_right.request.first_layer) {
          continue;
        }
        const absl::optional<StagePlan> left_plan = solver_.Solve(new_left.request);
        if (!left_plan || left_plan->offloaded > 0) continue;
        const absl::optional<StagePlan> right_plan = solver_.Solve(new_right.request);
        if (!right_plan || right_plan->offloaded > 0) continue;
        if (left_plan->seconds + right_plan->seconds > seconds * kSameTime) continue;
        new_left.plan = *left_plan;
        new_right.plan = *right_plan;
        if (std::max(FillOf(new_left.request, *left_plan),
                     FillOf(new_right.request, *right_plan)) >= before * kRounding) {
          continue;
        }
        left = std::move(new_left);
        right = std::move(new_right);
        ++moved;
        break;
      }
    }
  }
}

}  // namespace tprun
