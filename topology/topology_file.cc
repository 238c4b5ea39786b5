#include "topology/topology_file.h"

#include <cstdio>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cluster_file.h"
#include "topology/format_topology.h"
#include "topology/gpu_catalogue.h"
#include "topology/source.h"
#include "topology/stated_facts.h"
#include "topology/synthetic.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

constexpr size_t kMaxBytes = 64 * kMiB;
// No output of nvidia-smi comes near; -q prints ten kilobytes for a GPU.
constexpr size_t kMaxTextBytes = 2 * kMiB;
// yaml-cpp takes up to two seconds for a megabyte.
constexpr size_t kMaxYamlBytes = 2 * kMiB;

// What a text is, if it is something else that describes machines.
absl::string_view OtherKind(absl::string_view text) {
  if (text.empty()) return "an empty file";
  if (absl::StartsWith(text, "\xFF\xFE") || absl::StartsWith(text, "\xFE\xFF")) {
    return "UTF-16 (as PowerShell writes); save it as UTF-8";
  }
  const absl::string_view root = XmlRootName(text);
  if (root == "nvidia_smi_log") {
    return "nvidia-smi XML, which this version does not read; run nvidia-smi -q without -x";
  }
  if (!root.empty()) return "other XML";
  text = text.substr(0, kMaxTextBytes);
  if (absl::StrContains(text, "NVIDIA-SMI") || absl::StrContains(text, "CPU Affinity")) {
    return "nvidia-smi text of which no part is whole";
  }
  return "something else";
}

absl::Status NotRead(const std::string& path, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(
      path,
      ": wanted a cluster file (YAML with hosts:, see clusters/README.md), what `tprun topo "
      "--format=json` wrote, an output of nvidia-smi (topo -m, -q, --query-gpu as CSV, -L, nvlink "
      "-s, the plain table), NCCL's topology XML or hwloc's XML; found ",
      found));
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

absl::StatusOr<GpuCatalogue> CatalogueIfThere() {
  absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  if (catalogue.status().code() == absl::StatusCode::kNotFound) return GpuCatalogue();
  return catalogue;
}

absl::StatusOr<Topology> ParseCluster(const std::string& text, const std::string& path) {
  if (text.size() > kMaxYamlBytes) {
    return NotRead(path, absl::StrCat("YAML of ", FormatBytes(text.size()), "; write equal hosts ",
                                      "once, with count:"));
  }
  ASSIGN_OR_RETURN(const GpuCatalogue catalogue, CatalogueIfThere());
  return ParseClusterFile(text, path, catalogue);
}

absl::StatusOr<Topology> ParseBraces(const std::string& text, const std::string& path) {
  const absl::StatusOr<Json> json = ParseJson(text);
  if (json.ok() && FindMember(*json, "tprun_topology") != nullptr) {
    return ParseTopologyJson(*json, path);
  }
  // A mapping in braces may also be YAML.
  if (json.ok() && FindMember(*json, "hosts") == nullptr) {
    return NotRead(path, "JSON without \"tprun_topology\"");
  }
  if (!json.ok() && absl::StrContains(text, "tprun_topology")) return Annotate(json.status(), path);
  return ParseCluster(text, path);
}

// The facts of all kinds that match. Structured files are of one kind; a paste of nvidia-smi's
// outputs may have several.
absl::StatusOr<Topology> ParseMatching(const std::string& text, const std::string& path) {
  std::vector<Topology> found;
  for (const TopologyFormat* format : TopologyFormats()) {
    if (!format->Matches(text)) continue;
    ASSIGN_OR_RETURN(Topology topology, format->Parse(text, path));
    if (!absl::StartsWith(format->name(), "nvidia-smi")) return topology;
    // The parts share their notes' path.
    if (!found.empty()) topology.source.clear();
    found.push_back(std::move(topology));
  }
  if (found.empty()) return NotRead(path, OtherKind(text));
  if (found.size() == 1) return std::move(found[0]);
  return MergeTopologies(found);
}

absl::StatusOr<std::string> ReadStandardInput() {
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), stdin)) {
    text.append(buffer, count);
    if (text.size() > kMaxBytes) {
      return absl::InvalidArgumentError("standard input: more than 64 MiB");
    }
  }
  return text;
}

// Whether an argument is a line that describes a machine and no file: "2x[4xrtx3090] ib:100".
bool IsLine(const std::string& path) {
  const size_t point = path.rfind('.');
  const bool has_extension =
      point != std::string::npos && point + 1 < path.size() && absl::ascii_isalpha(path[point + 1]);
  return !has_extension && LooksSynthetic(path) && !FileExists(path);
}

struct Source {
  Topology topology;
  bool is_own = false;  // says all it means to: a cluster file or our JSON
};

absl::StatusOr<Source> ReadOne(const std::string& path) {
  std::string text = path;
  std::string name = path;
  if (path == "-") {
    ASSIGN_OR_RETURN(text, ReadStandardInput());
    name = "standard input";
  } else if (!IsLine(path)) {
    ASSIGN_OR_RETURN(text, ReadFile(path, static_cast<int64_t>(kMaxBytes)));
  }
  Source source;
  ASSIGN_OR_RETURN(source.topology, ParseTopologyText(text, name));
  source.is_own =
      LooksLikeClusterFile(text) || absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{");
  return source;
}

// What dumps leave open: the figures of the catalogue, and memory that nobody says is in use.
absl::Status Complete(Topology& topology) {
  ASSIGN_OR_RETURN(const GpuCatalogue catalogue, CatalogueIfThere());
  CompleteTopology(catalogue, topology);
  for (DeviceInfo& device : topology.devices) {
    const bool is_stated = device.available_bytes > 0 || device.sources.count("available_bytes");
    if (is_stated || device.memory_bytes == 0) continue;
    State(device.available_bytes, device.memory_bytes, "available_bytes", "estimate: all free",
          device.sources);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Topology> ParseTopologyText(const std::string& text, const std::string& path) {
  const absl::string_view start = absl::StripLeadingAsciiWhitespace(
      absl::StripPrefix(absl::string_view(text).substr(0, 4096), "\xEF\xBB\xBF"));
  if (absl::StartsWith(start, "<")) return ParseMatching(text, path);
  if (absl::StartsWith(start, "{")) return ParseBraces(text, path);
  if (LooksLikeClusterFile(text)) return ParseCluster(text, path);
  if (text.size() > kMaxTextBytes) {
    return NotRead(path, absl::StrCat("a text of ", FormatBytes(text.size())));
  }
  return ParseMatching(text, path);
}

absl::StatusOr<Topology> ReadTopologyFiles(const std::vector<std::string>& paths) {
  std::vector<Topology> topologies;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Source source, ReadOne(path));
    if (paths.size() == 1 && source.is_own) return std::move(source.topology);
    topologies.push_back(std::move(source.topology));
  }
  ASSIGN_OR_RETURN(Topology merged, topologies.size() == 1
                                        ? absl::StatusOr<Topology>(std::move(topologies[0]))
                                        : MergeTopologies(topologies));
  RETURN_IF_ERROR(Complete(merged));
  return merged;
}

absl::StatusOr<Topology> ReadTopologyFile(const std::string& path) {
  return ReadTopologyFiles({path});
}

}  // namespace tprun
