#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tprun {

// The text of a small file of /proc or /sys, "" when it cannot be read. These have no size to ask
// for, so base/file.h does not serve. At most 4 MiB.
std::string ReadPseudoFile(const std::string& path);

// The same without the blanks around it.
std::string ReadPseudoLine(const std::string& path);

// The names in a folder, sorted; empty when there is none. "." and ".." are left out.
std::vector<std::string> ListFolder(const std::string& path);

// The number behind `key` on its own line, as in "MemTotal:   23456 kB", "Node 0 MemFree: 12 kB" or
// "inactive_file 4096"; a "kB" behind it is applied. -1 if absent.
int64_t PseudoFileField(absl::string_view text, absl::string_view key);

}  // namespace tprun
