#include "topology/path_model.h"

#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "topology/pci_path.h"

namespace tprun {

// NVLink 0.80 and PCIe 0.76: NCCL's own rates of a link over its nominal one (src/graph/topo.h:
// 20 of 25 GB/s, 24 of 31.5 for 4x16); all-reduce on 8 H200 reaches 365 of 450 GB/s (0.81), 8 A100
// 232 of 300 (0.77). Through host memory 0.60: 18.4-19.6 of 31.5 GB/s when both directions run
// (nvbandwidth README). C2C and network: 0.85 and 0.90, estimates.
double LinkEfficiency(LinkKind kind, bool through_host) {
  switch (kind) {
    case LinkKind::kNvlink:
      return 0.80;
    case LinkKind::kC2c:
      return 0.85;
    case LinkKind::kNetwork:
      return 0.90;
    default:
      return through_host ? 0.60 : 0.76;
  }
}

// One-shot all-reduce of two ranks with little data: 3.7 us on H100 NVLink (sglang pull request
// 2904), 4.0 us on V100 behind one PCIe switch (sglang-V100 pull request 2), both kernels included.
// Two RTX 4090 without peer access exchange 64 bytes in 11.3 us (tinygrad/open-gpu-kernel-modules
// issue 17). The rest lies between: estimates.
double MessageLatency(LinkKind kind, bool through_host) {
  if (through_host) return 11e-6;
  switch (kind) {
    case LinkKind::kNvlink:
    case LinkKind::kC2c:
      return 3.5e-6;
    case LinkKind::kPix:
      return 3.6e-6;
    case LinkKind::kPxb:
      return 4.0e-6;
    case LinkKind::kPhb:
    case LinkKind::kPcie:
      return 4.5e-6;
    case LinkKind::kNode:
      return 5.0e-6;
    case LinkKind::kSystem:
      return 6.0e-6;
    case LinkKind::kNetwork:
      return 10e-6;
  }
  return 10e-6;
}

// NCCL src/graph/tuning.cc (2.20 and later), hwLat: NVLink 0.6 and 3.4 us, PCI 1.0 and 5.7, network
// 2.7 and 14.0 a step. Its PCI row is for peer access; through host memory 8 RTX 4090 take 42 us
// for 14 steps (NVIDIA/nccl issue 1530), so 2.5 us a step.
StepLatency RingStep(LinkKind kind, bool through_host) {
  if (kind == LinkKind::kNvlink || kind == LinkKind::kC2c) return {0.6e-6, 3.4e-6};
  if (kind == LinkKind::kNetwork) return {2.7e-6, 14.0e-6};
  return through_host ? StepLatency{2.5e-6, 7.0e-6} : StepLatency{1.0e-6, 5.7e-6};
}

// As above: 0.6, 1.0 and 5.0 us a step; through host memory an estimate from the ring's.
double TreeStep(LinkKind kind, bool through_host) {
  if (kind == LinkKind::kNvlink || kind == LinkKind::kC2c) return 0.6e-6;
  if (kind == LinkKind::kNetwork) return 5.0e-6;
  return through_host ? 3.5e-6 : 1.0e-6;
}

// NCCL src/graph/topo.h (2.28): Skylake 10, Sapphire Rapids 22, Emerald Rapids and later 40, AMD
// 16, POWER9 32, Arm 6 GB/s; Xeon generations by the second digit of their number.
double SocketBandwidth(absl::string_view cpu_name) {
  if (absl::StrContains(cpu_name, "EPYC") || absl::StrContains(cpu_name, "AMD")) return 16e9;
  if (absl::StrContains(cpu_name, "POWER9")) return 32e9;
  if (absl::StrContains(cpu_name, "Neoverse") || absl::StrContains(cpu_name, "Ampere")) return 6e9;
  const size_t xeon = cpu_name.find("Xeon");
  if (xeon != absl::string_view::npos) {
    const absl::string_view rest = cpu_name.substr(xeon);
    const size_t digit = rest.find_first_of("0123456789");
    const absl::string_view model =
        digit == absl::string_view::npos ? absl::string_view() : rest.substr(digit, 4);
    if (absl::StartsWith(rest, "Xeon(R) 6") || absl::StartsWith(rest, "Xeon 6")) return 40e9;
    if (model.size() == 4 && model[1] == '5') return 40e9;
    if (model.size() == 4 && model[1] == '4') return 22e9;
  }
  return 10e9;
}

bool InOnePackage(const Host& host, int node_a, int node_b) {
  const auto package_of = [&host](int id) {
    for (const NumaNode& node : host.numa_nodes) {
      if (node.id == id) return node.package;
    }
    return -1;
  };
  const int package = package_of(node_a);
  return package >= 0 && package == package_of(node_b);
}

// NCCL src/graph/paths.cc: peer access up to PXB; AMD hosts with at most two GPUs also beyond.
bool UsesPeerAccess(LinkKind kind, absl::string_view cpu_name, int gpus, std::string& why) {
  if (kind == LinkKind::kPix || kind == LinkKind::kPxb) return true;
  const bool amd = absl::StrContains(cpu_name, "AMD") || absl::StrContains(cpu_name, "EPYC") ||
                   absl::StrContains(cpu_name, "Ryzen");
  if (amd && gpus <= 2) {
    why = "peer access over the AMD host bridge, not verified";
    return true;
  }
  const absl::string_view where = kind == LinkKind::kPhb    ? "only a host bridge joins them (PHB)"
                                  : kind == LinkKind::kNode ? "under different host bridges (NODE)"
                                  : kind == LinkKind::kSystem ? "between NUMA nodes (SYS)"
                                                              : "no common PCIe switch is known";
  why = absl::StrCat(where, ": NCCL goes through host memory unless NCCL_P2P_LEVEL is raised");
  return false;
}

// Vendor specifications, GB/s per link and direction: NVLink 1: 20; 2, 3 and 4: 25; 5: 50. The
// bridged cards of compute capability 8.6 run NVLink 3 at 14.0625.
double NvlinkBandwidthOf(absl::string_view compute_capability) {
  static constexpr std::array<std::pair<absl::string_view, double>, 7> kRates = {
      {{"6.0", 20e9},
       {"7.0", 25e9},
       {"7.5", 25e9},
       {"8.0", 25e9},
       {"8.6", 14.0625e9},
       {"9.0", 25e9},
       {"10.0", 50e9}}};
  for (const auto& [capability, rate] : kRates) {
    if (capability == compute_capability) return rate;
  }
  return compute_capability == "10.3" ? 50e9 : 0;
}

LinkKind PcieDistance(const DeviceInfo& a, const DeviceInfo& b) {
  if (a.numa_node >= 0 && b.numa_node >= 0 && a.numa_node != b.numa_node) return LinkKind::kSystem;
  if (a.pci_bridges.empty() || b.pci_bridges.empty()) return LinkKind::kPcie;
  return PathByBridges(a.pci_bridges, b.pci_bridges, SwitchListing::kEveryPort)
      .value_or(LinkKind::kPhb);
}

}  // namespace tprun
