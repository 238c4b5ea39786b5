#include "partition/export_layers.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace tprun {

std::vector<int> HoldingRanks(const Placement& placement) {
  std::vector<int> ranks;
  for (size_t i = 0; i < placement.ranks.size(); ++i) {
    if (placement.shares[i] > 0) ranks.push_back(placement.ranks[i]);
  }
  return ranks;
}

int OnlyRank(const Placement& placement) {
  const std::vector<int> ranks = HoldingRanks(placement);
  return ranks.size() == 1 ? ranks[0] : -1;
}

std::string HostOf(const std::string& device) {
  const size_t slash = device.find('/');
  return slash == std::string::npos ? "" : device.substr(0, slash);
}

absl::StatusOr<int> GpuNumber(const Plan& plan, int rank, absl::string_view program) {
  const std::string& device = plan.ranks[rank].device;
  if (HostOf(device) != HostOf(plan.ranks[0].device)) {
    return absl::InvalidArgumentError(
        absl::StrCat(program, " knows one host only, and the plan uses \"", plan.ranks[0].device,
                     "\" and \"", device, "\""));
  }
  absl::string_view number = device;
  if (const size_t slash = number.find('/'); slash != absl::string_view::npos) {
    number.remove_prefix(slash + 1);
  }
  int index = -1;
  if (absl::ConsumePrefix(&number, "cuda:") && absl::SimpleAtoi(number, &index) && index >= 0) {
    return index;
  }
  return -1;
}

}  // namespace tprun
