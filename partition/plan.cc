#include "partition/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// FNV-1a, 64 bits (draft-eastlake-fnv).
class Fingerprint {
 public:
  void Add(absl::string_view text) {
    for (char c : text) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    hash_ = (hash_ ^ 0xff) * 0x100000001b3u;
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace

bool Plan::fits() const {
  return host_shortage.empty() && std::all_of(ranks.begin(), ranks.end(), [](const RankPlan& rank) {
           return rank.short_bytes() <= 0;
         });
}

std::string ModelFingerprint(const ModelSpec& spec) {
  Fingerprint fingerprint;
  fingerprint.Add(spec.architecture);
  for (const TensorSpec& tensor : spec.tensors) {
    fingerprint.Add(tensor.name);
    for (int64_t extent : tensor.shape) fingerprint.Add(absl::StrCat(extent));
    fingerprint.Add(tensor.format == nullptr ? "?" : tensor.format->name);
  }
  return absl::StrFormat("%016x", fingerprint.value());
}

void AddBasis(int rank, const std::string& text, Plan& plan) {
  for (Basis& basis : plan.basis) {
    if (basis.ranks.empty() || basis.text != text) continue;
    basis.ranks.push_back(rank);
    return;
  }
  plan.basis.push_back({{rank}, text});
}

void SetRankBytes(const ModelSpec& spec, Plan& plan) {
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const MemoryLayout layout = LayOutMemory(spec, plan.placements, rank, plan.options);
    plan.ranks[rank].weight_bytes = layout.weight_bytes;
    plan.ranks[rank].kv_bytes = layout.kv_bytes;
    plan.ranks[rank].workspace_bytes = layout.workspace_bytes;
  }
}

absl::Status CheckPlanFor(const Plan& plan, const ModelSpec& spec) {
  const std::string fingerprint = ModelFingerprint(spec);
  if (plan.fingerprint != fingerprint) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the plan is for another model: for ", plan.model_name, " (", plan.architecture,
        ", fingerprint ", plan.fingerprint, "), not for ", spec.name, " (", spec.architecture, ", ",
        fingerprint, "); make one with `tprun plan`"));
  }
  return ValidatePlacements(spec, plan.placements, plan.world_size());
}

}  // namespace tprun
