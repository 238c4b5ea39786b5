#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/doctor_checks.h"
#include "topology/pcie.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

std::string Rate(int generation, int width) {
  const double rate = PcieBandwidth(generation, width);
  return rate > 0 ? absl::StrCat(" (", FormatBandwidth(rate), ")") : "";
}

constexpr char kReseat[] =
    "power off and reseat card and riser, try another slot, look at the slot's lanes in the "
    "mainboard's manual (M.2 and other slots may share them) and at bifurcation in the BIOS";

Finding NarrowLink(const std::string& title, int width, int max_width, int generation) {
  const std::string found = absl::StrCat("runs on ", width, " of the card's ", max_width, " lanes",
                                         Rate(generation, width));
  // Half the lanes is what many mainboards give two cards; less hurts every exchange.
  if (width * 4 <= max_width) return Problem("pcie-link", title, found, kReseat);
  return Warning("pcie-link", title, found, kReseat);
}

Findings CheckCardLink(const DoctorFacts& facts, const GpuHealth& card) {
  const std::string title = CardTitle(facts, card);
  const int busy = std::max(card.pcie_generation_max, card.pcie_generation_now);
  Findings findings;
  if (card.pcie_width_now > 0 && card.pcie_width_now < card.pcie_width_max) {
    findings.push_back(NarrowLink(title, card.pcie_width_now, card.pcie_width_max, busy));
  }
  if (card.pcie_generation_max > 0 && card.pcie_generation_max < card.pcie_generation_card) {
    findings.push_back(Warning(
        "pcie-link", title,
        absl::StrCat("the slot allows generation ", card.pcie_generation_max,
                     ", the card could do ", card.pcie_generation_card),
        "set the slot's PCIe speed to automatic in the BIOS; a riser cable or the mainboard may be "
        "what limits it"));
  }
  const bool working = card.performance_state >= 0 && card.performance_state <= 2;
  const bool below =
      card.pcie_generation_now > 0 && card.pcie_generation_now < card.pcie_generation_max;
  if (below && working) {
    findings.push_back(
        Warning("pcie-link", title,
                absl::StrCat("runs at generation ", card.pcie_generation_now, " of ",
                             card.pcie_generation_max, " at full clocks"),
                absl::StrCat("run this again while the GPU works; if it stays: ", kReseat)));
  }
  if (!findings.empty() || busy <= 0 || card.pcie_width_now <= 0) return findings;
  return {Ok("pcie-link", title,
             absl::StrCat("PCIe ", busy, "x", card.pcie_width_now, Rate(busy, card.pcie_width_now),
                          below ? ", at a lower generation while idle" : ""))};
}

// Of this card, not of all of its model.
bool IsStated(const DeviceInfo& gpu, const std::string& key) {
  const auto source = gpu.sources.find(key);
  return source == gpu.sources.end() ||
         (!absl::StartsWith(source->second, "gpus.yaml") && !IsEstimate(gpu.sources, key));
}

std::string PairTitle(const DoctorFacts& facts, const Link& link) {
  return absl::StrCat(QualifiedDeviceId(facts.topology, link.a), " - ",
                      QualifiedDeviceId(facts.topology, link.b));
}

std::vector<const Link*> GpuLinks(const DoctorFacts& facts) {
  std::vector<const Link*> links;
  for (const Link& link : facts.topology.links) {
    const std::vector<DeviceInfo>& devices = facts.topology.devices;
    if (devices[link.a].kind == DeviceKind::kGpu && devices[link.b].kind == DeviceKind::kGpu) {
      links.push_back(&link);
    }
  }
  return links;
}

constexpr char kBrokenRemedy[] =
    "do not use peer access here: export NCCL_P2P_DISABLE=1. Then turn ACS off in the BIOS, or "
    "boot "
    "with iommu=pt (or intel_iommu=off, amd_iommu=off), and run `tprun doctor` again";

// Pairs that have the same to say share a line.
std::string Pairs(std::vector<std::string> pairs) {
  constexpr size_t kShown = 6;
  if (pairs.size() > kShown) {
    const size_t more = pairs.size() - kShown;
    pairs.resize(kShown);
    pairs.push_back(absl::StrCat(more, " more"));
  }
  return absl::StrJoin(pairs, ", ");
}

}  // namespace

Findings CheckPcieLinks(const DoctorFacts& facts) {
  Findings findings;
  for (const GpuHealth& card : facts.health) {
    for (Finding& finding : CheckCardLink(facts, card)) findings.push_back(std::move(finding));
  }
  if (!facts.health.empty()) return findings;
  // A dump: the generation in it may be that of an idle card, so the width alone tells.
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    if (gpu->pcie_width <= 0 || !IsStated(*gpu, "pcie_width")) continue;
    if (!IsStated(*gpu, "pcie_max_width")) continue;
    if (gpu->pcie_width < gpu->pcie_max_width) {
      findings.push_back(NarrowLink(GpuTitle(facts, *gpu), gpu->pcie_width, gpu->pcie_max_width,
                                    gpu->pcie_generation));
    } else if (gpu->pcie_max_width > 0) {
      findings.push_back(Ok("pcie-link", GpuTitle(facts, *gpu),
                            absl::StrCat("all ", gpu->pcie_width, " lanes are in use")));
    }
  }
  return findings;
}

// Equal cards of one host have equal numbers of links: one with fewer has links that are down. A
// card without any may simply have no bridge.
Findings CheckNvlinks(const DoctorFacts& facts) {
  std::map<std::pair<int, std::string>, int> most;
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    int& count = most[{gpu->host, gpu->name}];
    count = std::max(count, gpu->nvlink_count);
  }
  Findings findings;
  int in_use = 0;
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    const int expected = most[{gpu->host, gpu->name}];
    in_use += gpu->nvlink_count > 0 ? 1 : 0;
    if (gpu->nvlink_count == 0 || gpu->nvlink_count == expected) continue;
    findings.push_back(
        Problem("nvlink", GpuTitle(facts, *gpu),
                absl::StrCat(gpu->nvlink_count, " of ", expected, " NVLinks are active"),
                "see `nvidia-smi nvlink -s` and `-e` for errors; reset the GPUs, reseat the bridge "
                "or board"));
  }
  if (findings.empty() && in_use > 0) {
    findings.push_back(
        Ok("nvlink", "NVLink",
           absl::StrCat(in_use, " GPUs, all links that equal cards have are active")));
  }
  return findings;
}

Findings CheckFabric(const DoctorFacts& facts) {
  std::vector<std::string> waiting;
  bool done = false;
  for (const GpuHealth& card : facts.health) {
    done = done || card.fabric_state == 3;
    if (card.fabric_state == 1 || card.fabric_state == 2) waiting.push_back(CardTitle(facts, card));
  }
  if (!waiting.empty()) {
    return {
        Problem("nvswitch", absl::StrJoin(waiting, ", "),
                "the NVSwitch fabric is not ready: CUDA fails with \"system not yet initialized\"",
                "sudo systemctl enable --now nvidia-fabricmanager, of the driver's version; see "
                "`nvidia-smi -q | grep -A3 Fabric`")};
  }
  if (done) return {Ok("nvswitch", "NVSwitch", "the fabric is ready")};
  return {};
}

Findings CheckPeerAccess(const DoctorFacts& facts) {
  std::vector<std::string> verified, promised, unknown;
  std::map<std::string, std::vector<std::string>> impossible;
  Findings findings;
  for (const Link* link : GpuLinks(facts)) {
    const std::string pair = PairTitle(facts, *link);
    if (absl::StartsWith(link->peer_access_reason, kPeerAccessBroken)) {
      findings.push_back(Problem(
          "peer-access", pair, absl::StrCat("silently ", link->peer_access_reason), kBrokenRemedy));
    } else if (link->peer_access_verified) {
      verified.push_back(pair);
    } else if (link->peer_access == PeerAccess::kNo) {
      impossible[link->peer_access_reason].push_back(pair);
    } else if (link->peer_access == PeerAccess::kYes) {
      promised.push_back(pair);
    } else {
      unknown.push_back(pair);
    }
  }
  if (!verified.empty()) {
    findings.push_back(Ok("peer-access", Pairs(verified), "written and read back: works"));
  }
  for (const auto& [reason, pairs] : impossible) {
    findings.push_back(Warning("peer-access", Pairs(pairs),
                               absl::StrCat("not possible, exchanges go through host memory",
                                            reason.empty() ? "" : ": ", reason),
                               "nothing is wrong with it; faster would be cards with NVLink, or "
                               "both below one PCIe switch"));
  }
  if (!promised.empty()) {
    findings.push_back(
        Ok("peer-access", Pairs(promised),
           "the driver says yes; not verified: `tprun topo --measure` writes to it"));
  }
  if (!unknown.empty() && facts.driver.has_value()) {
    findings.push_back(Warning("peer-access", Pairs(unknown), "not known, not verified",
                               "run `tprun topo --measure` with a build that has CUDA"));
  }
  return findings;
}

// Why peer access over PCIe may be slow or fail although the driver promises it.
Findings CheckPeerRoute(const DoctorFacts& facts) {
  if (!facts.system.has_value() || GpusOf(facts).size() < 2) return {};
  const SystemFacts& system = *facts.system;
  Findings findings;
  if (!system.redirecting_bridges.empty()) {
    findings.push_back(Warning(
        "acs", "PCIe bridges",
        absl::StrCat("ACS sends what GPUs write to each other up to the CPU at ",
                     Pairs(system.redirecting_bridges), ": slower, and with an IOMMU it may fail"),
        "turn ACS off in the BIOS (it keeps virtual machines apart), or per bridge: `sudo setpci "
        "-s "
        "BRIDGE ECAP_ACS+6.w=0000` after each boot"));
  } else if (system.bridges_readable) {
    findings.push_back(Ok("acs", "PCIe bridges", "none above a GPU redirects peer traffic"));
  } else if (std::any_of(facts.topology.links.begin(), facts.topology.links.end(),
                         [](const Link& link) {
                           return link.kind == LinkKind::kPix || link.kind == LinkKind::kPxb;
                         })) {
    findings.push_back(
        Ok("acs", "PCIe bridges", "not readable: root sees more (`sudo tprun doctor`)"));
  }
  if (system.iommu == Iommu::kTranslating) {
    findings.push_back(Warning("iommu", "IOMMU",
                               "translates the addresses of devices: peer access over PCIe may be "
                               "slow or silently fail",
                               "boot with iommu=pt, unless GPUs are given to virtual machines"));
  } else if (system.iommu != Iommu::kUnknown) {
    findings.push_back(Ok("iommu", "IOMMU",
                          system.iommu == Iommu::kOff ? "off" : "passes device addresses through"));
  }
  return findings;
}

// A card of the network that GPUs use: whether data may go straight from GPU to card.
Findings CheckNics(const DoctorFacts& facts) {
  Findings findings;
  std::vector<std::string> rdma;
  for (const Nic& nic : facts.topology.nics) {
    const bool is_rdma = absl::StartsWith(nic.pci_id, "15b3:") ||
                         absl::StrContains(nic.name, "mlx") || absl::StrContains(nic.name, "efa") ||
                         absl::StrContains(nic.name, "roce");
    if (!is_rdma) continue;
    rdma.push_back(nic.name);
    if (nic.bandwidth_bytes_per_s <= 0 && facts.system.has_value()) {
      findings.push_back(Warning("nic", nic.name, "no port is active",
                                 "check cable and switch: `ibstat`, `ip link`; unused is fine"));
    }
  }
  if (rdma.empty() || GpusOf(facts).empty() || !facts.system.has_value()) return findings;
  if (!facts.system->peer_memory_module) {
    findings.push_back(Warning("gpudirect", absl::StrJoin(rdma, ", "),
                               "nvidia_peermem is not loaded: data between GPU and network goes "
                               "through host memory (unless dma-buf is in use)",
                               "sudo modprobe nvidia_peermem"));
  } else {
    findings.push_back(Ok("gpudirect", absl::StrJoin(rdma, ", "), "nvidia_peermem is loaded"));
  }
  return findings;
}

}  // namespace tprun
