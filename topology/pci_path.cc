#include "topology/pci_path.h"

#include <algorithm>

namespace tprun {

std::optional<LinkKind> PathByBridges(const std::vector<std::string>& a,
                                      const std::vector<std::string>& b, SwitchListing listing) {
  const size_t shorter = std::min(a.size(), b.size());
  size_t common = 0;
  while (common < shorter && a[common] == b[common]) ++common;
  if (common == 0) return std::nullopt;
  // Below the last common bridge, one more on either side is a port of the same switch.
  const size_t ports = listing == SwitchListing::kEveryPort ? 1 : 0;
  const bool one_switch = a.size() - common <= ports && b.size() - common <= ports;
  return one_switch ? LinkKind::kPix : LinkKind::kPxb;
}

}  // namespace tprun
