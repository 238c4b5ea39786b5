#include "partition/advice.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "partition/plan_search.h"
#include "partition/remedies.h"

namespace tprun {
namespace {

// Layouts over more devices than this are not compared: their names would fill the page.
constexpr size_t kMostCompared = 16;

std::string DeviceList(const Plan& plan, const std::vector<int>& ranks) {
  std::vector<std::string> names;
  for (int rank : ranks) names.push_back(plan.ranks[rank].device);
  return absl::StrJoin(names, ", ");
}

// Ranks with a part of the block, in order.
std::vector<int> Holders(const Placement& placement) {
  std::vector<int> ranks;
  for (size_t i = 0; i < placement.ranks.size(); ++i) {
    if (placement.shares[i] > 0) ranks.push_back(placement.ranks[i]);
  }
  return ranks;
}

int WorstRank(const Plan& plan) {
  int worst = 0;
  for (int rank = 1; rank < plan.world_size(); ++rank) {
    if (plan.ranks[rank].short_bytes() > plan.ranks[worst].short_bytes()) worst = rank;
  }
  return worst;
}

// The part of a rank's memory that there is most of, when it needs most.
std::string LargestPart(const RankPlan& rank) {
  const bool loading = rank.most_bytes() > rank.total_bytes();
  const std::pair<int64_t, const char*> parts[] = {
      {rank.weight_bytes, "weights"},
      {loading ? 0 : rank.kv_bytes, "KV cache"},
      {loading ? 0 : rank.workspace_bytes, "buffers"},
      {loading ? rank.load_bytes : 0, "buffers to load"},
      {rank.sidecar_bytes, "sidecars"},
      {rank.overhead_bytes, "driver and libraries"}};
  const auto largest = std::max_element(std::begin(parts), std::end(parts));
  return absl::StrCat(largest->second, " ", FormatBytes(largest->first),
                      loading ? " while it loads" : "");
}

// Speeds closer than this are the same: what is between them is not known so well.
constexpr double kSamePart = 0.01;

std::string ComparedWith(double ours, double theirs) {
  if (std::fabs(theirs - ours) <= kSamePart * ours) return "as fast";
  return theirs > ours ? "faster" : "slower";
}

class Comparison {
 public:
  Comparison(const PlanRequest& request, const Candidates& candidates, Plan& plan)
      : request_(request), candidates_(candidates), plan_(plan) {
    seen_.insert(LayoutName(plan));
  }

  absl::Status Run() {
    std::vector<int> gpus;
    std::set<int> classes;
    for (int i = 0; i < static_cast<int>(candidates_.devices.size()); ++i) {
      const bool gpu = candidates_.devices[i].info->kind == DeviceKind::kGpu;
      if (gpu) gpus.push_back(i);
      if (classes.insert(candidates_.classes[i]).second && classes.size() <= kMostCompared) {
        RETURN_IF_ERROR(Add({i}, SplitMode::kTensor, ""));
      }
    }
    std::vector<int> all = gpus;
    if (gpus.empty() || !request_.devices.empty()) {
      all.clear();
      for (int i = 0; i < static_cast<int>(candidates_.devices.size()); ++i) all.push_back(i);
    }
    if (all.size() < 2 || all.size() > kMostCompared) return absl::OkStatus();
    if (!request_.devices.empty()) RETURN_IF_ERROR(AddSome(all));
    RETURN_IF_ERROR(Add(all, SplitMode::kTensor, ""));
    RETURN_IF_ERROR(Add(all, SplitMode::kLayer, ""));
    RETURN_IF_ERROR(AddGiven(all, false));
    RETURN_IF_ERROR(AddGiven(all, true));
    return absl::OkStatus();
  }

 private:
  PlanRequest RequestFor(const std::vector<int>& members, SplitMode split) const {
    PlanRequest request = request_;
    request.split = split;
    request.objective = Objective::kLatency;
    request.options = plan_.options;
    request.advise = false;
    request.devices.clear();
    for (int member : members) request.devices.push_back(candidates_.devices[member].id);
    return request;
  }

  // The best layout of this kind on these devices.
  absl::Status Add(const std::vector<int>& members, SplitMode split, const std::string& name) {
    const PlanRequest request = RequestFor(members, split);
    Plan plan = plan_;
    plan.notes.clear();
    RETURN_IF_ERROR(FindPlan(request, Subset(request, candidates_, members), plan));
    return Record(plan, name.empty() ? LayoutName(plan) : name);
  }

  // The best layout on as many of these devices as are of use.
  absl::Status AddSome(const std::vector<int>& members) {
    PlanRequest request = RequestFor(members, SplitMode::kAuto);
    request.devices.clear();
    Plan plan = plan_;
    plan.notes.clear();
    RETURN_IF_ERROR(FindPlan(request, Subset(request, candidates_, members), plan));
    return Record(plan, LayoutName(plan));
  }

  // Equal shares, or shares in proportion to memory.
  absl::Status AddGiven(const std::vector<int>& members, bool by_memory) {
    PlanRequest request = RequestFor(members, SplitMode::kTensor);
    for (int member : members) {
      const double bytes = static_cast<double>(candidates_.devices[member].usable_bytes);
      request.shares.push_back(by_memory ? std::max(1.0, bytes) : 1.0);
    }
    Plan plan = plan_;
    plan.notes.clear();
    RETURN_IF_ERROR(PlaceAsGiven(request, Subset(request, candidates_, members), plan));
    if (plan.placements == plan_.placements) return absl::OkStatus();
    return Record(
        plan, absl::StrCat(LayoutName(plan), by_memory ? ", shares by memory" : ", equal shares"));
  }

  absl::Status Record(Plan& plan, const std::string& name) {
    if (!seen_.insert(name).second) return absl::OkStatus();
    RETURN_IF_ERROR(DescribeLoading(*request_.topology, *request_.spec, request_.load_buffers,
                                    request_.threads, request_.limits, plan));
    Alternative alternative = {name, 0, ""};
    if (plan.fits()) {
      alternative.tokens_per_s = plan.decode.expected;
      alternative.reason = ComparedWith(plan_.decode.expected, plan.decode.expected);
    } else {
      const RankPlan& rank = plan.ranks[WorstRank(plan)];
      alternative.reason =
          rank.short_bytes() <= 0
              ? plan.host_shortage
              : absl::StrCat("short by ", FormatBytes(rank.short_bytes()), " on ", rank.device);
    }
    plan_.rejected.push_back(std::move(alternative));
    return absl::OkStatus();
  }

  const PlanRequest& request_;
  const Candidates& candidates_;
  Plan& plan_;
  std::set<std::string> seen_;
};

std::string Why(const PlanRequest& request, const Plan& plan) {
  if (!plan.fits()) {
    const RankPlan& rank = plan.ranks[WorstRank(plan)];
    if (rank.short_bytes() <= 0) return plan.host_shortage;
    return absl::StrCat("nothing fits; this comes closest: ", rank.device, " is short by ",
                        FormatBytes(rank.short_bytes()), ", most of it ", LargestPart(rank));
  }
  const Alternative* next = nullptr;
  for (const Alternative& alternative : plan.rejected) {
    if (alternative.tokens_per_s <= 0) continue;
    if (next == nullptr || alternative.tokens_per_s > next->tokens_per_s) next = &alternative;
  }
  const bool asked = !request.devices.empty() || !request.shares.empty();
  if (next == nullptr) return asked ? "as asked for" : "the only kind of layout that fits";
  if (ComparedWith(plan.decode.expected, next->tokens_per_s) == "faster") {
    return absl::StrFormat("as asked for; %s would be faster (%.1f tokens/s instead of %.1f)",
                           next->layout, next->tokens_per_s, plan.decode.expected);
  }
  const double gain = 100 * (plan.decode.expected / next->tokens_per_s - 1);
  if (ComparedWith(plan.decode.expected, next->tokens_per_s) == "as fast") {
    return absl::StrCat(asked ? "as asked for; " : "", "as fast as ", next->layout);
  }
  if (gain >= 300) {
    return absl::StrFormat("%.0f times as fast as %s", gain / 100 + 1, next->layout);
  }
  return absl::StrFormat("%.0f %% faster than %s", gain, next->layout);
}

}  // namespace

std::string LayoutName(const Plan& plan) {
  std::vector<std::string> stages;
  std::vector<int> last;
  bool offload = false;
  std::string server;
  const int blocks = static_cast<int>(plan.placements.size());
  for (int block = 1; block + 1 < blocks; block += 2) {
    const std::vector<int> attention = Holders(plan.placements[block]);
    const std::vector<int> mlp = Holders(plan.placements[block + 1]);
    std::vector<int> group = plan.placements[block].ranks;
    const bool apart =
        mlp.size() == 1 && std::find(group.begin(), group.end(), mlp[0]) == group.end();
    if (apart) {
      offload = true;
      server = plan.ranks[mlp[0]].device;
    }
    if (group == last) continue;
    last = group;
    stages.push_back(DeviceList(plan, group));
    if (group.size() > 1) stages.back() = absl::StrCat("tensor parallel on ", stages.back());
  }
  std::string name;
  if (stages.size() == 1) {
    name = absl::StrContains(stages[0], ",") ? stages[0] : stages[0] + " alone";
    if (offload && !absl::StrContains(stages[0], ",")) name = stages[0];
  } else {
    name = absl::StrCat("layers on ", absl::StrJoin(stages, " then "));
  }
  return offload ? absl::StrCat(name, " with MLPs on ", server) : name;
}

absl::Status Advise(const Planner& planner, const PlanRequest& request,
                    const Candidates& candidates, Plan& plan) {
  if (request.shares.empty()) RETURN_IF_ERROR(Comparison(request, candidates, plan).Run());
  plan.why = Why(request, plan);
  const double each = plan.decode.expected / plan.options.batch;
  const bool slow = plan.decode.expected > 0 && each < request.min_tokens_per_s;
  if (plan.fits() && slow) {
    plan.notes.push_back(
        absl::StrFormat("%.1f tokens/s of each sequence are less than the %.1f "
                        "that are needed",
                        each, request.min_tokens_per_s));
  }
  if (plan.fits() && !slow) return absl::OkStatus();
  return FindRemedies(planner, request, plan);
}

}  // namespace tprun
