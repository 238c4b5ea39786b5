#include "partition/remedies.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/kernels/cuda_kernels.h"
#include "partition/advice.h"
#include "partition/changes.h"
#include "partition/plan_search.h"

namespace tprun {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// More of them would not be read.
constexpr size_t kMostPairs = 4;

// A GPU's rank keeps a cache of a type that the CUDA kernels do not have.
bool LacksCache(const PlanRequest& request, const Plan& plan) {
  if (HasCudaCacheOf(*request.options.kv_type)) return false;
  for (int layer = 0; layer < request.spec->num_layers(); ++layer) {
    const Placement& placement = plan.placements[request.spec->attention_block(layer)];
    for (size_t i = 0; i < placement.ranks.size(); ++i) {
      const auto ref = LocateDevice(*request.topology, plan.ranks[placement.ranks[i]].device);
      const bool on_gpu =
          ref.ok() && request.topology->devices[ref->device].kind == DeviceKind::kGpu;
      if (on_gpu && placement.shares[i] > 0) return true;
    }
  }
  return false;
}

class Remedies {
 public:
  Remedies(const Planner& planner, const PlanRequest& request, Plan& plan)
      : planner_(planner), plan_(plan), limit_(StepLimit(request)) {
    base_.request = request;
    base_.request.advise = false;
  }

  absl::Status Run() {
    for (ChangeKind kind : kChangeKinds) {
      // What can be done with what is there comes before what has to be bought.
      if (kind == ChangeKind::kSecondCard && enough_.empty()) RETURN_IF_ERROR(TryPairs());
      RETURN_IF_ERROR(Try(kind, base_, /*in_pair=*/false).status());
    }
    for (const std::vector<std::string>* texts : {&enough_, &too_slow_, &plan_only_}) {
      plan_.remedies.insert(plan_.remedies.end(), texts->begin(), texts->end());
    }
    if (plan_.remedies.empty() && !plan_.fits()) plan_.remedies.push_back(MoreMemory());
    return absl::OkStatus();
  }

 private:
  struct Found {
    Change change;
    Plan plan;
  };

  // The cheapest change of the kind that makes the request fit and fast enough; else, where it does
  // not fit, the one that makes it fit at least. Of two together neither what is too slow nor what
  // cannot be run. True: the first was found.
  absl::StatusOr<bool> Try(ChangeKind kind, const Change& base, bool in_pair) {
    for (const double limit : {limit_, kNoLimit}) {
      ASSIGN_OR_RETURN(const absl::optional<Found> found, Cheapest(kind, base, limit));
      if (found && in_pair && IsPlanOnly(*found)) return false;
      if (found) {
        Report(kind, *found);
        return limit == limit_;
      }
      if (limit_ == kNoLimit || plan_.fits() || in_pair) break;
    }
    return false;
  }

  // What can be run comes before what can only be planned.
  absl::StatusOr<absl::optional<Found>> Cheapest(ChangeKind kind, const Change& base,
                                                 double limit) const {
    if (IsNumber(kind)) return LargestNumber(kind, base, limit);
    absl::optional<Found> plan_only;
    for (Change& change : ChangesOf(kind, base)) {
      if (plan_only && IsPlanOnly(change.request)) continue;
      ASSIGN_OR_RETURN(absl::optional<Plan> plan, PlanIfEnough(change.request, limit));
      if (!plan) continue;
      absl::optional<Found> found = Found{std::move(change), *std::move(plan)};
      if (!IsPlanOnly(*found)) return found;
      if (!plan_only) plan_only = std::move(found);
    }
    return plan_only;
  }

  // The largest number of the range that is enough, as a change and its plan.
  absl::StatusOr<absl::optional<Found>> LargestNumber(ChangeKind kind, const Change& base,
                                                      double limit) const {
    const NumberRange range = NumbersOf(kind, base.request);
    if (range.least >= range.most) return absl::optional<Found>();
    // To see that a layout fits is quick; only a plan knows whether it loads.
    for (const bool planned : {false, true}) {
      const auto enough = [&](int64_t number) -> absl::StatusOr<bool> {
        const Change change = WithNumber(kind, base, number);
        if (!planned) return MayBeEnough(change.request, limit);
        ASSIGN_OR_RETURN(const absl::optional<Plan> plan, PlanIfEnough(change.request, limit));
        return plan.has_value();
      };
      ASSIGN_OR_RETURN(const bool any, enough(range.least));
      if (!any) break;
      int64_t low = range.least;
      int64_t high = range.most;
      while (low + 1 < high) {
        const int64_t middle = low + (high - low) / 2;
        ASSIGN_OR_RETURN(const bool good, enough(middle));
        (good ? low : high) = middle;
      }
      Change change = WithNumber(kind, base, low);
      ASSIGN_OR_RETURN(absl::optional<Plan> plan, PlanIfEnough(change.request, limit));
      if (plan) return absl::make_optional(Found{std::move(change), *std::move(plan)});
    }
    return absl::optional<Found>();
  }

  // Some layout fits when it runs, whatever loading takes, at less than `limit` seconds per step.
  absl::StatusOr<bool> MayBeEnough(const PlanRequest& request, double limit) const {
    if (!request.shares.empty()) return true;
    ASSIGN_OR_RETURN(const Candidates candidates, MakeCandidates(request));
    return LayoutFinder(request, candidates, request.options).Any(0, limit);
  }

  // The request's plan where it fits and, unless there is no limit, is fast enough.
  absl::StatusOr<absl::optional<Plan>> PlanIfEnough(const PlanRequest& request,
                                                    double limit) const {
    ASSIGN_OR_RETURN(const bool may_be, MayBeEnough(request, limit));
    if (!may_be) return absl::optional<Plan>();
    ASSIGN_OR_RETURN(Plan plan, planner_.MakePlan(request));
    if (!plan.fits() || (limit != kNoLimit && IsSlow(plan))) return absl::optional<Plan>();
    return absl::make_optional(std::move(plan));
  }

  bool IsSlow(const Plan& plan) const {
    return plan.decode.expected > 0 &&
           plan.decode.expected / plan.options.batch < base_.request.min_tokens_per_s;
  }

  void Report(ChangeKind kind, const Found& found) {
    const Plan& plan = found.plan;
    std::string text = found.change.text;
    if (kind == ChangeKind::kAllDevices) absl::StrAppend(&text, ": ", LayoutName(plan));
    const bool slow = IsSlow(plan);
    const bool of_each = slow && plan.options.batch > 1;
    absl::StrAppendFormat(&text, " (%.1f tokens/s%s",
                          plan.decode.expected / (of_each ? plan.options.batch : 1),
                          of_each ? " of each sequence" : "");
    if (slow) absl::StrAppendFormat(&text, ", of the %.1f needed", base_.request.min_tokens_per_s);
    const bool plan_only = IsPlanOnly(found);
    absl::StrAppend(&text, plan_only ? ", can be planned but not run" : "", ")");
    (plan_only ? plan_only_ : slow ? too_slow_ : enough_).push_back(std::move(text));
  }

  // The change asks for what the engine does not have.
  bool IsPlanOnly(const PlanRequest& request) const {
    const bool kv_type =
        !CheckRunnable(request.options).ok() && CheckRunnable(base_.request.options).ok();
    const bool weights =
        !request.spec->not_runnable.empty() && base_.request.spec->not_runnable.empty();
    return kv_type || weights;
  }

  bool IsPlanOnly(const Found& found) const {
    return IsPlanOnly(found.change.request) ||
           (LacksCache(found.change.request, found.plan) && !LacksCache(base_.request, plan_));
  }

  // Every change of one kind, mildest first, with as mild a change of another as is enough.
  absl::Status TryPairs() {
    for (const ChangeKind first : kChangeKinds) {
      if (first > ChangeKind::kWeights) break;
      for (const ChangeKind second : kChangeKinds) {
        if (second <= first && second != ChangeKind::kContext) continue;
        if (first == ChangeKind::kContext || second >= ChangeKind::kSecondCard) continue;
        for (const Change& change : FirstOfPair(first)) {
          if (enough_.size() >= kMostPairs) return absl::OkStatus();
          ASSIGN_OR_RETURN(const bool found, Try(second, change, /*in_pair=*/true));
          if (found) break;
        }
      }
    }
    return absl::OkStatus();
  }

  // Of numbers only the strongest; only what can be run.
  std::vector<Change> FirstOfPair(ChangeKind kind) const {
    std::vector<Change> changes;
    if (IsNumber(kind)) {
      const NumberRange range = NumbersOf(kind, base_.request);
      if (range.least < range.most) changes.push_back(WithNumber(kind, base_, range.least));
    } else {
      changes = ChangesOf(kind, base_);
    }
    changes.erase(std::remove_if(changes.begin(), changes.end(),
                                 [&](const Change& change) { return IsPlanOnly(change.request); }),
                  changes.end());
    return changes;
  }

  std::string MoreMemory() const {
    int64_t missing = 0;
    for (const RankPlan& rank : plan_.ranks) missing += std::max<int64_t>(0, rank.short_bytes());
    const std::string of_ranks = missing > 0 ? FormatBytes(missing) : "";
    const std::string of_host = plan_.host_shortage.empty() ? "" : "what is missing of the host's";
    return absl::StrCat("more memory: no option, nor two together, makes up for ", of_ranks,
                        of_ranks.empty() || of_host.empty() ? "" : " and ", of_host);
  }

  const Planner& planner_;
  Plan& plan_;
  Change base_;
  const double limit_;
  std::vector<std::string> enough_;
  std::vector<std::string> too_slow_;
  std::vector<std::string> plan_only_;
};

}  // namespace

absl::Status FindRemedies(const Planner& planner, const PlanRequest& request, Plan& plan) {
  return Remedies(planner, request, plan).Run();
}

}  // namespace tprun
