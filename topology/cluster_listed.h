#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tprun {

// A cluster file of which hosts listed one after the other that differ in nothing but their name
// are left out, since reading YAML is slow.
struct ListedHosts {
  std::string text;  // with the first of them
  // Of each element of "hosts" in `text`: the names of the hosts that it stands for; empty for one
  // that stands for itself.
  std::vector<std::vector<std::string>> names;
};

// Works on lines alone, of files written as people write them ("  - name: n17" begins a host);
// nothing where there are no such hosts or the file is written otherwise.
std::optional<ListedHosts> JoinListedHosts(absl::string_view text);

}  // namespace tprun
