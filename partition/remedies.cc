#include "partition/remedies.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "partition/advice.h"
#include "partition/changes.h"
#include "partition/plan_search.h"

namespace tprun {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// More of them would not be read.
constexpr size_t kMostPairs = 4;

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
      RETURN_IF_ERROR(Try(kind, base_, /*also_slow=*/true).status());
    }
    for (std::string& text : enough_) plan_.remedies.push_back(std::move(text));
    for (std::string& text : too_slow_) plan_.remedies.push_back(std::move(text));
    if (plan_.remedies.empty() && !plan_.fits()) plan_.remedies.push_back(MoreMemory());
    return absl::OkStatus();
  }

 private:
  // The cheapest change of the kind that makes the request fit and fast enough; else, where it does
  // not fit and `also_slow`, the one that makes it fit at least. True: the first was found.
  absl::StatusOr<bool> Try(ChangeKind kind, const Change& base, bool also_slow) {
    for (const double limit : {limit_, kNoLimit}) {
      ASSIGN_OR_RETURN(const absl::optional<Change> change, Cheapest(kind, base, limit));
      if (change) {
        RETURN_IF_ERROR(Report(kind, *change));
        return limit == limit_;
      }
      if (limit_ == kNoLimit || plan_.fits() || !also_slow) break;
    }
    return false;
  }

  // What can be run comes before what can only be planned.
  absl::StatusOr<absl::optional<Change>> Cheapest(ChangeKind kind, const Change& base,
                                                  double limit) const {
    if (IsNumber(kind)) return LargestNumber(kind, base, limit);
    std::vector<Change> changes = ChangesOf(kind, base);
    std::stable_partition(changes.begin(), changes.end(),
                          [&](const Change& change) { return PlanOnly(change).empty(); });
    for (Change& change : changes) {
      ASSIGN_OR_RETURN(const bool enough, IsEnough(change.request, limit));
      if (enough) return absl::make_optional(std::move(change));
    }
    return absl::optional<Change>();
  }

  absl::StatusOr<absl::optional<Change>> LargestNumber(ChangeKind kind, const Change& base,
                                                       double limit) const {
    const NumberRange range = NumbersOf(kind, base.request);
    if (range.least >= range.most) return absl::optional<Change>();
    const auto enough = [&](int64_t number) {
      return IsEnough(WithNumber(kind, base, number).request, limit);
    };
    ASSIGN_OR_RETURN(const bool any, enough(range.least));
    if (!any) return absl::optional<Change>();
    int64_t low = range.least;
    int64_t high = range.most;
    while (low + 1 < high) {
      const int64_t middle = low + (high - low) / 2;
      ASSIGN_OR_RETURN(const bool good, enough(middle));
      (good ? low : high) = middle;
    }
    return absl::make_optional(WithNumber(kind, base, low));
  }

  // Some layout fits and takes less than `limit` seconds per step.
  absl::StatusOr<bool> IsEnough(const PlanRequest& request, double limit) const {
    if (!request.shares.empty()) {
      ASSIGN_OR_RETURN(const Plan plan, planner_.MakePlan(request));
      const double rate = plan.decode.expected;
      return plan.fits() &&
             (limit == kNoLimit || rate >= request.min_tokens_per_s * plan.options.batch);
    }
    ASSIGN_OR_RETURN(const Candidates candidates, MakeCandidates(request));
    return LayoutFinder(request, candidates, request.options).Any(0, limit);
  }

  absl::Status Report(ChangeKind kind, const Change& change) {
    ASSIGN_OR_RETURN(const Plan plan, planner_.MakePlan(change.request));
    if (!plan.fits()) return absl::OkStatus();
    std::string text = change.text;
    if (kind == ChangeKind::kAllDevices) absl::StrAppend(&text, ": ", LayoutName(plan));
    std::vector<std::string> facts;
    const double each = plan.decode.expected / plan.options.batch;
    const bool slow = plan.decode.expected > 0 && each < change.request.min_tokens_per_s;
    const bool of_each = slow && plan.options.batch > 1;
    absl::StrAppendFormat(&text, " (%.1f tokens/s%s", of_each ? each : plan.decode.expected,
                          of_each ? " of each sequence" : "");
    if (slow) absl::StrAppendFormat(&text, ", of the %.1f needed", change.request.min_tokens_per_s);
    absl::StrAppend(&text, PlanOnly(change), ")");
    (slow ? too_slow_ : enough_).push_back(std::move(text));
    return absl::OkStatus();
  }

  // What the change asks for and the engine does not have.
  std::string PlanOnly(const Change& change) const {
    const bool kv_type =
        !CheckRunnable(change.request.options).ok() && CheckRunnable(base_.request.options).ok();
    const bool weights =
        !change.request.spec->not_runnable.empty() && base_.request.spec->not_runnable.empty();
    return kv_type || weights ? ", can be planned but not run" : "";
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
          ASSIGN_OR_RETURN(const bool found, Try(second, change, /*also_slow=*/false));
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
                                 [&](const Change& change) { return !PlanOnly(change).empty(); }),
                  changes.end());
    return changes;
  }

  std::string MoreMemory() const {
    int64_t missing = 0;
    for (const RankPlan& rank : plan_.ranks) missing += std::max<int64_t>(0, rank.short_bytes());
    return absl::StrCat("more memory: no option, nor two together, makes up for ",
                        FormatBytes(missing));
  }

  const Planner& planner_;
  Plan& plan_;
  Change base_;
  const double limit_;
  std::vector<std::string> enough_;
  std::vector<std::string> too_slow_;
};

}  // namespace

absl::Status FindRemedies(const Planner& planner, const PlanRequest& request, Plan& plan) {
  return Remedies(planner, request, plan).Run();
}

}  // namespace tprun
