#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "topology/detect_pci.h"
#include "topology/nvml_card.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

// From the PCI tree, where NVML does not say.
std::pair<LinkKind, const char*> KindBySysfs(const DeviceInfo& a, const DeviceInfo& b) {
  if (a.sources.count("pci_bridges") && b.sources.count("pci_bridges")) {
    const LinkKind kind = PciDistance({a.pci_bus_id, a.pci_bridges, a.numa_node},
                                      {b.pci_bus_id, b.pci_bridges, b.numa_node});
    if (kind != LinkKind::kPcie) return {kind, "sysfs"};
  }
  const bool nodes_known = a.numa_node >= 0 && b.numa_node >= 0;
  if (nodes_known && a.numa_node != b.numa_node) return {LinkKind::kSystem, "sysfs"};
  return {LinkKind::kPcie, "estimate"};
}

std::optional<LinkKind> KindByNvml(const NvmlApi& api, nvml::Device a, nvml::Device b) {
  int level = -1;
  if (api.CommonAncestor == nullptr || api.CommonAncestor(a, b, &level) != nvml::kSuccess) {
    return {};
  }
  switch (level) {
    case nvml::kAncestorInternal:
    case nvml::kAncestorSingle:
      return LinkKind::kPix;
    case nvml::kAncestorMultiple:
      return LinkKind::kPxb;
    case nvml::kAncestorHostBridge:
      return LinkKind::kPhb;
    case nvml::kAncestorNode:
      return LinkKind::kNode;
    case nvml::kAncestorSystem:
      return LinkKind::kSystem;
    default:
      return {};
  }
}

// Every card that NVSwitches join reaches each other one at the rate of the narrower.
bool JoinByNvlink(const NvmlCard& a, const NvmlCard& b, Link& link) {
  const NvmlCard::Ends& narrower =
      a.to_switch.bandwidth_bytes_per_s <= b.to_switch.bandwidth_bytes_per_s ? a.to_switch
                                                                             : b.to_switch;
  link.bandwidth_bytes_per_s = narrower.bandwidth_bytes_per_s;
  link.count = narrower.links;
  link.via_switch = narrower.links > 0;
  const auto peer = a.peers.find(b.info.pci_bus_id);
  if (peer != a.peers.end()) {
    link.bandwidth_bytes_per_s += peer->second.bandwidth_bytes_per_s;
    link.count += peer->second.links;
  }
  if (link.count == 0) return false;
  link.kind = LinkKind::kNvlink;
  link.source = "nvml";
  return true;
}

void JoinByPcie(const NvmlApi& api, const NvmlCard& a, const NvmlCard& b, Link& link) {
  const std::pair<LinkKind, const char*> by_tree = KindBySysfs(a.info, b.info);
  const std::optional<LinkKind> by_nvml = KindByNvml(api, a.handle, b.handle);
  link.kind = by_nvml.value_or(by_tree.first);
  link.source = by_nvml.has_value() ? "nvml" : by_tree.second;
  link.bandwidth_bytes_per_s = std::min(PcieBandwidth(a.info.pcie_generation, a.info.pcie_width),
                                        PcieBandwidth(b.info.pcie_generation, b.info.pcie_width));
}

// The driver answers per direction and for reads and writes; all of them are needed.
void ReadPeerAccess(const NvmlApi& api, const NvmlCard& a, const NvmlCard& b, Link& link) {
  if (api.P2pStatus == nullptr) return;
  for (int capability : {nvml::kP2pRead, nvml::kP2pWrite}) {
    for (const auto& [from, to] : {std::pair(a.handle, b.handle), std::pair(b.handle, a.handle)}) {
      int status = 0;
      if (api.P2pStatus(from, to, capability, &status) != nvml::kSuccess) return;
      if (status == nvml::kP2pOk) continue;
      link.peer_access_reason = PeerAccessReason(status);
      link.peer_access = link.peer_access_reason.empty() ? PeerAccess::kUnknown : PeerAccess::kNo;
      return;
    }
  }
  link.peer_access = PeerAccess::kYes;
}

}  // namespace

std::string PeerAccessReason(int status) {
  switch (status) {
    case nvml::kP2pChipset:
      return "the driver says: the chipset or these boards do not support it";
    case nvml::kP2pGpu:
      return "the driver says: the GPU does not support it";
    case nvml::kP2pIoHub:
      return "the driver says: not between these PCIe root complexes";
    case nvml::kP2pRegistryKey:
      return "the driver says: disabled by a registry key";
    case nvml::kP2pNotSupported:
      return "the driver says: not supported";
    default:
      return "";
  }
}

std::vector<Link> JoinNvmlCards(const NvmlApi& api, const std::vector<NvmlCard>& cards) {
  std::vector<Link> links;
  for (size_t i = 0; i < cards.size(); ++i) {
    for (size_t j = i + 1; j < cards.size(); ++j) {
      Link link;
      link.a = static_cast<int>(i);
      link.b = static_cast<int>(j);
      if (!JoinByNvlink(cards[i], cards[j], link)) JoinByPcie(api, cards[i], cards[j], link);
      ReadPeerAccess(api, cards[i], cards[j], link);
      links.push_back(std::move(link));
    }
  }
  return links;
}

}  // namespace tprun
