#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "partition/planner.h"
#include "partition/predict.h"

// What follows from a plan's placements: bytes, overheads and speeds of its ranks.

namespace tprun {
namespace {

// Speeds are told for a prompt of this many tokens, as benchmarks of this field do.
constexpr int64_t kPromptTokens = 512;

SpeedRange RangeOf(double tokens_per_s, const Coefficients& coefficients) {
  return {tokens_per_s, tokens_per_s * coefficients.low, tokens_per_s * coefficients.high};
}

}  // namespace

absl::Status DescribeDevices(const Topology& topology, Plan& plan, const MemoryLimits& limits) {
  plan.basis.clear();
  plan.host_shortage.clear();
  std::vector<DeviceRef> refs;
  std::map<std::pair<int, int>, int> sharing;  // ranks by device and instance
  std::vector<bool> is_gpu;
  for (const RankPlan& rank : plan.ranks) {
    ASSIGN_OR_RETURN(const DeviceRef ref, LocateDevice(topology, rank.device));
    refs.push_back(ref);
    ++sharing[{ref.device, ref.instance}];
    is_gpu.push_back(topology.devices[ref.device].kind == DeviceKind::kGpu);
  }
  for (size_t i = 0; i < refs.size(); ++i) {
    const DeviceInfo& device = topology.devices[refs[i].device];
    const int ranks = sharing[{refs[i].device, refs[i].instance}];
    RankPlan& rank = plan.ranks[i];
    rank.device_name = device.name;
    rank.available_bytes = UsableBytes(device, rank.device, limits, ranks);
    rank.bandwidth_bytes_per_s = MemoryBandwidth(device) / ranks;
    const RankRole role = RoleOf(plan.placements, static_cast<int>(i), is_gpu);
    rank.overhead_bytes = OverheadBytes(device, role);
    for (const Overhead& overhead : OverheadsOf(device, role)) {
      AddBasis(
          static_cast<int>(i),
          absl::StrCat(overhead.name, " ", FormatBytes(overhead.bytes), " (", overhead.source, ")"),
          plan);
    }
  }
  return absl::OkStatus();
}

absl::Status PredictPlan(const ModelSpec& spec, const Topology& topology,
                         const Coefficients& coefficients, Plan& plan) {
  SetRankBytes(spec, plan);
  std::vector<DeviceRef> refs;
  std::vector<DeviceRates> rates;
  for (const RankPlan& rank : plan.ranks) {
    ASSIGN_OR_RETURN(const DeviceRef ref, LocateDevice(topology, rank.device));
    refs.push_back(ref);
    const DeviceInfo& device = topology.devices[ref.device];
    if (MemoryBandwidth(device) <= 0) return absl::OkStatus();  // speeds stay unknown
    const auto sharing = std::count_if(plan.ranks.begin(), plan.ranks.end(),
                                       [&](const auto& r) { return r.device == rank.device; });
    rates.push_back(RatesOf(device, static_cast<int>(sharing)));
  }
  const TopologyExchanges exchanges(topology, refs, coefficients);
  const SpeedModel model(spec, plan.placements, plan.options, coefficients, rates, exchanges);
  plan.basis.push_back(
      {{}, absl::StrCat("speeds: ", coefficients.engine, ", ", coefficients.source)});
  plan.depth = std::min(plan.depth, plan.options.context - 1);
  plan.decode = RangeOf(plan.options.batch / model.StepSeconds(plan.depth), coefficients);
  if (spec.streams > 1) return absl::OkStatus();  // frames come one by one: no prompt
  plan.prompt = std::min(kPromptTokens, plan.options.context);
  plan.prefill =
      RangeOf(static_cast<double>(plan.prompt) / model.PrefillSeconds(plan.prompt), coefficients);
  return absl::OkStatus();
}

}  // namespace tprun
