#pragma once

#include <memory>
#include <string>
#include <vector>

#include "partition/planner.h"

namespace tprun {

// Changes of a request that may make it fit or faster: what remedies are made of.

// A changed request. It owns what the change made of model and machine.
struct Change {
  std::string text;  // "--kv_type=f16", "--sidecars=cpu and --context=2048"
  PlanRequest request;
  std::shared_ptr<const ModelSpec> spec;
  std::shared_ptr<const Topology> topology;
};

// In the order of what they cost the user.
enum class ChangeKind {
  kUtilization,
  kReserve,
  kLimits,
  kSidecars,
  kKvType,
  kContext,
  kBatch,
  kWeights,
  kAllDevices,
  kSecondCard,
  kOtherCard,
};
inline constexpr ChangeKind kChangeKinds[] = {
    ChangeKind::kUtilization, ChangeKind::kReserve,    ChangeKind::kLimits,   ChangeKind::kSidecars,
    ChangeKind::kKvType,      ChangeKind::kContext,    ChangeKind::kBatch,    ChangeKind::kWeights,
    ChangeKind::kAllDevices,  ChangeKind::kSecondCard, ChangeKind::kOtherCard};

// Kinds that have a number, of which the largest that is enough is looked for.
bool IsNumber(ChangeKind kind);

// All changes of a kind that the request allows, the one that costs least first; none for numbers.
std::vector<Change> ChangesOf(ChangeKind kind, const Change& base);

// The same with a number: --context=, --batch= (1 to below that of the request) and
// --utilization= in percent.
Change WithNumber(ChangeKind kind, const Change& base, int64_t number);
// The numbers to look among; equal: there is nothing to change.
struct NumberRange {
  int64_t least = 0;
  int64_t most = 0;
};
NumberRange NumbersOf(ChangeKind kind, const PlanRequest& request);

}  // namespace tprun
