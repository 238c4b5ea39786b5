#pragma once

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// Sets a member and notes where its value comes from, under the member's name in TopologyJson.
template <typename T, typename V>
void State(T& member, V&& value, absl::string_view name, absl::string_view source,
           FactSources& sources) {
  member = std::forward<V>(value);
  sources[std::string(name)] = std::string(source);
}

// Whether the value of a member was taken from something alike, or for granted.
inline bool IsEstimate(const FactSources& sources, absl::string_view name) {
  const auto source = sources.find(std::string(name));
  return source != sources.end() && absl::StartsWith(source->second, "estimate");
}

// Whether the PCIe slot of a card is that of a card alike.
inline bool SlotIsEstimate(const DeviceInfo& gpu) {
  return IsEstimate(gpu.sources, "pcie_generation") || IsEstimate(gpu.sources, "pcie_width");
}

}  // namespace tprun
