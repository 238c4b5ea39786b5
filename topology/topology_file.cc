#include "topology/topology_file.h"

#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
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

// By the first bytes; "" for what may be text.
absl::string_view BinaryKind(absl::string_view text) {
  static constexpr std::pair<absl::string_view, absl::string_view> kKinds[] = {
      {"\x1F\x8B", "gzip data; unpack it first"},
      {"PK\x03\x04", "a zip archive; unpack it first"},
      {"\x28\xB5\x2F\xFD", "zstd data; unpack it first"},
      {"\xFD\x37zXZ", "xz data; unpack it first"},
      {"\x89PNG", "a picture (PNG); hand over the text itself"},
      {"\xFF\xD8\xFF", "a picture (JPEG); hand over the text itself"},
      {"%PDF", "a PDF; hand over the text itself"},
      {"\x7F\x45LF", "a program (ELF)"},
      {"GGUF", "a model (GGUF), which tprun plan takes"},
      {"\xFF\xFE", "UTF-16 (as PowerShell writes); save it as UTF-8"},
      {"\xFE\xFF", "UTF-16 (as PowerShell writes); save it as UTF-8"}};
  for (const auto& [start, kind] : kKinds) {
    if (absl::StartsWith(text, start)) return kind;
  }
  return text.find('\0') != absl::string_view::npos ? "binary data" : "";
}

// The first line with anything in it, in quotes.
std::string FirstLine(absl::string_view text) {
  constexpr size_t kShown = 60;
  text = absl::StripLeadingAsciiWhitespace(text.substr(0, 4096));
  text = text.substr(0, text.find('\n'));
  const bool cut = text.size() > kShown;
  return absl::StrCat("\"", absl::CHexEscape(absl::StripAsciiWhitespace(text.substr(0, kShown))),
                      cut ? "..." : "", "\"");
}

// What a text is, if it is something else that describes machines.
std::string OtherKind(absl::string_view text) {
  if (text.empty()) return "an empty file";
  if (const absl::string_view kind = BinaryKind(text); !kind.empty()) return std::string(kind);
  if (absl::StripAsciiWhitespace(text.substr(0, kMaxTextBytes)).empty()) return "blanks only";
  const absl::string_view root = XmlRootName(text);
  if (root == "nvidia_smi_log") {
    return "nvidia-smi XML, which this version does not read; run nvidia-smi -q without -x";
  }
  if (!root.empty()) return absl::StrCat("other XML (<", root.substr(0, 40), ">)");
  if (absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{")) {
    return "JSON (or YAML in braces) without \"tprun_topology\" or \"hosts\"";
  }
  text = text.substr(0, kMaxTextBytes);
  if (absl::StrContains(text, "NVIDIA-SMI") || absl::StrContains(text, "CPU Affinity")) {
    return "nvidia-smi text of which no part is whole";
  }
  return absl::StrCat("something else, beginning with ", FirstLine(text));
}

absl::Status NotRead(const std::string& path, absl::string_view found) {
  return absl::InvalidArgumentError(absl::StrCat(
      path,
      ": wanted a cluster file (YAML with hosts:, see clusters/README.md), what `tprun topo "
      "--format=json` wrote, an output of nvidia-smi (topo -m, -q, --query-gpu as CSV, -L, nvlink "
      "-s, topo -p2p, mig -lgi, the plain table), NCCL's topology XML or hwloc's XML; found ",
      found));
}

absl::StatusOr<GpuCatalogue> CatalogueIfThere() {
  absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
  if (catalogue.status().code() == absl::StatusCode::kNotFound) return GpuCatalogue();
  return catalogue;
}

struct Source {
  Topology topology;
  bool is_whole = false;  // see TopologyFormat
};

// The facts of all kinds that match. Structured files are of one kind; a paste of nvidia-smi's
// outputs may have several.
absl::StatusOr<Source> ParseMatching(const std::string& text, const std::string& path) {
  std::vector<Topology> found;
  for (const TopologyFormat* format : TopologyFormats()) {
    const bool is_part = absl::StartsWith(format->name(), "nvidia-smi");
    if (is_part && text.size() > kMaxTextBytes) continue;
    if (!format->Matches(text)) continue;
    ASSIGN_OR_RETURN(Topology topology, format->Parse(text, path));
    if (!is_part) return Source{std::move(topology), format->is_whole()};
    // The parts share their notes' path.
    if (!found.empty()) topology.source.clear();
    found.push_back(std::move(topology));
  }
  if (found.empty() && text.size() > kMaxTextBytes && XmlRootName(text).empty()) {
    return NotRead(path, absl::StrCat("a text of ", FormatBytes(text.size())));
  }
  if (found.empty()) return NotRead(path, OtherKind(text));
  if (found.size() == 1) return Source{std::move(found[0])};
  ASSIGN_OR_RETURN(Topology merged, MergeTopologies(found));
  return Source{std::move(merged)};
}

absl::StatusOr<Source> ParseText(const std::string& text, const std::string& path) {
  if (!BinaryKind(text).empty()) return NotRead(path, BinaryKind(text));
  return ParseMatching(text, path);
}

absl::StatusOr<std::string> ReadStream(std::FILE* stream, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), stream)) {
    text.append(buffer, count);
    if (text.size() > kMaxBytes) {
      return absl::InvalidArgumentError(name + ": more than 64 MiB");
    }
  }
  if (std::ferror(stream) != 0) return absl::InvalidArgumentError(name + ": cannot be read");
  return text;
}

// A pipe too: --from=<(ssh box nvidia-smi topo -m).
absl::StatusOr<std::string> ReadAny(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::file_type type = std::filesystem::status(path, ignored).type();
  const bool is_stream = type == std::filesystem::file_type::fifo ||
                         type == std::filesystem::file_type::character ||
                         type == std::filesystem::file_type::socket;
  if (!is_stream) return ReadFile(path, static_cast<int64_t>(kMaxBytes));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(std::fopen(path.c_str(), "rb"),
                                                               &std::fclose);
  if (stream == nullptr) return absl::NotFoundError(absl::StrCat("cannot open ", path));
  return ReadStream(stream.get(), path);
}

// Whether an argument is a line that describes a machine and no file: "2x[4xrtx3090] ib:100".
bool IsLine(const std::string& path) {
  const size_t point = path.rfind('.');
  const bool has_extension =
      point != std::string::npos && point + 1 < path.size() && absl::ascii_isalpha(path[point + 1]);
  return !has_extension && LooksSynthetic(path) && !FileExists(path);
}

absl::StatusOr<Source> ReadOne(const std::string& path) {
  if (path == "-") {
    ASSIGN_OR_RETURN(const std::string text, ReadStream(stdin, "standard input"));
    return ParseText(text, "standard input");
  }
  if (IsLine(path)) return ParseText(path, path);
  ASSIGN_OR_RETURN(const std::string text, ReadAny(path));
  return ParseText(text, path);
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
  ASSIGN_OR_RETURN(Source source, ParseText(text, path));
  return std::move(source.topology);
}

absl::StatusOr<Topology> ReadTopologyFiles(const std::vector<std::string>& paths) {
  std::vector<Topology> topologies;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(Source source, ReadOne(path));
    if (paths.size() == 1 && source.is_whole) return std::move(source.topology);
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
