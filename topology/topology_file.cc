#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/format_topology.h"
#include "topology/topology.h"

namespace tprun {
namespace {

constexpr int64_t kMaxBytes = 64 * kMiB;

// What a file is, if it is something else that describes machines; "" if not known.
absl::string_view OtherKind(absl::string_view text) {
  if (absl::StartsWith(text, "<")) {
    if (absl::StrContains(text, "<nvidia_smi_log")) return "nvidia-smi XML";
    if (absl::StrContains(text, "<system")) return "NCCL topology XML";
    if (absl::StrContains(text, "hwloc") || absl::StrContains(text, "<topology")) {
      return "hwloc XML";
    }
    return "XML";
  }
  if (absl::StrContains(text, "NVIDIA-SMI") || absl::StrContains(text, "CPU Affinity") ||
      absl::StrContains(text, "(UUID: GPU-") || absl::StrContains(text, "==NVSMI LOG==")) {
    return "nvidia-smi text";
  }
  return "";
}

// A cluster file has its keys at the start of a line.
bool LooksLikeClusterFile(absl::string_view text) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    for (absl::string_view key : {"hosts:", "description:", "network:", "links:"}) {
      if (absl::StartsWith(line, key)) return true;
    }
  }
  return false;
}

absl::Status NotRead(const std::string& path, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(
      path,
      ": wanted a cluster file (YAML with hosts:, see clusters/README.md) or what `tprun "
      "topo --format=json` wrote; found ",
      found));
}

}  // namespace

absl::StatusOr<Topology> ReadTopologyFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string contents, ReadFile(path, kMaxBytes));
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(contents);
  if (absl::StartsWith(text, "{")) {
    const absl::StatusOr<Json> json = ParseJson(text);
    // A mapping in braces may also be YAML.
    if (json.ok() && FindMember(*json, "tprun_topology") == nullptr &&
        FindMember(*json, "hosts") == nullptr) {
      return NotRead(path, "JSON without \"tprun_topology\"");
    }
    if (json.ok() && FindMember(*json, "tprun_topology") != nullptr) {
      return ParseTopologyJson(*json, path);
    }
    if (!json.ok() && absl::StrContains(text, "tprun_topology")) {
      return Annotate(json.status(), path);
    }
    return ReadClusterFile(path);
  }
  if (LooksLikeClusterFile(text)) return ReadClusterFile(path);
  if (text.empty()) return NotRead(path, "an empty file");
  const absl::string_view other = OtherKind(text);
  return NotRead(path, other.empty() ? "something else"
                                     : absl::StrCat(other, ", which this version does not read"));
}

}  // namespace tprun
