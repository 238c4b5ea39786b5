#pragma once

#include <string>
#include <utility>

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

}  // namespace tprun
