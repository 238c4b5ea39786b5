#include "topology/bus_id.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

bool IsHex(absl::string_view text, size_t least, size_t most) {
  return text.size() >= least && text.size() <= most &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c); });
}

// Four digits, or as many more as it takes.
std::string Domain(absl::string_view text) {
  while (text.size() > 4 && text.front() == '0') text.remove_prefix(1);
  return absl::StrCat(std::string(4 - std::min<size_t>(4, text.size()), '0'), text);
}

}  // namespace

std::string NormalBusId(absl::string_view text) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  std::vector<absl::string_view> parts = absl::StrSplit(lower, ':');
  if (parts.size() == 2) parts.insert(parts.begin(), "0");
  if (parts.size() != 3 || !IsHex(parts[0], 1, 8) || !IsHex(parts[1], 2, 2)) return "";
  const std::vector<absl::string_view> slot = absl::StrSplit(parts[2], '.');
  if (slot.size() != 2 || !IsHex(slot[0], 2, 2) || !IsHex(slot[1], 1, 1)) return "";
  return absl::StrCat(Domain(parts[0]), ":", parts[1], ":", parts[2]);
}

std::string NormalPciId(absl::string_view vendor, absl::string_view device) {
  std::string ids[2];
  for (const int i : {0, 1}) {
    const std::string lower = absl::AsciiStrToLower(i == 0 ? vendor : device);
    ids[i] = std::string(absl::StripPrefix(lower, "0x"));
    if (!IsHex(ids[i], 4, 4)) return "";
  }
  return absl::StrCat(ids[0], ":", ids[1]);
}

}  // namespace tprun
