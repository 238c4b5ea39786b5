#include <memory>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi nvlink -s";

// "Link 3: 14.062 GB/s" (one link, one direction) or "Link 3: <inactive>".
struct LinkLine {
  bool is_active = false;
  double bytes_per_s = 0;
};

std::optional<LinkLine> ParseLinkLine(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  const size_t colon = line.find(": ");
  int index = 0;
  if (!absl::ConsumePrefix(&line, "Link ") || colon == absl::string_view::npos ||
      !absl::SimpleAtoi(line.substr(0, colon - 5), &index)) {
    return std::nullopt;
  }
  absl::string_view value = absl::StripAsciiWhitespace(line.substr(colon - 3));
  if (absl::StrContains(absl::AsciiStrToLower(value), "inactive")) return LinkLine{};
  double gb_per_s = 0;
  if (!absl::ConsumeSuffix(&value, "GB/s") || !absl::SimpleAtod(value, &gb_per_s) ||
      !(gb_per_s > 0 && gb_per_s < 10000)) {
    return std::nullopt;
  }
  return LinkLine{true, gb_per_s * 1e9};
}

absl::string_view Stripped(const TextLine& line) { return absl::StripAsciiWhitespace(line.text); }

bool IsMessage(const TextLine& line) { return absl::StartsWith(Stripped(line), "NVML: "); }

class NvidiaSmiNvlinkFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    bool is_below_gpu = false;
    for (const TextLine& line : CleanLines(text)) {
      if (is_below_gpu && (ParseLinkLine(line.text).has_value() || IsMessage(line))) return true;
      is_below_gpu = ParseGpuHeading(line.text).has_value();
    }
    return false;
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    Topology topology = EmptyDump(path);
    std::set<int> indices;
    std::optional<GpuHeading> heading;
    for (const TextLine& line : CleanLines(text)) {
      const bool is_new = ParseGpuHeading(line.text).has_value();
      if (is_new) {
        heading = ParseGpuHeading(line.text);
        continue;
      }
      const bool is_link = absl::StartsWith(Stripped(line), "Link ");
      if (!heading.has_value() || (!is_link && !IsMessage(line))) {
        if (!Stripped(line).empty()) heading.reset();
        continue;
      }
      if (indices.insert(heading->index).second) AddGpu(*heading, topology);
      if (indices.size() > kMaxGpus) return LineError(path, line.number, "over 256 GPUs");
      DeviceInfo& gpu = topology.devices.back();
      if (!is_link) {
        topology.notes.push_back(absl::StrCat(gpu.id, ": ", Stripped(line)));
        continue;
      }
      const std::optional<LinkLine> link = ParseLinkLine(line.text);
      if (!link.has_value()) {
        return LineError(path, line.number,
                         absl::StrCat("wanted \"Link #: # GB/s\" or <inactive>, found \"",
                                      Stripped(line).substr(0, 60), "\""));
      }
      AddLink(*link, gpu);
    }
    if (topology.devices.empty()) return LineError(path, 1, "wanted GPUs with links below them");
    return topology;
  }

 private:
  static void AddGpu(const GpuHeading& heading, Topology& topology) {
    DeviceInfo gpu = NumberedGpu(heading.index, kName);
    State(gpu.name, heading.name, "name", kName, gpu.sources);
    State(gpu.uuid, heading.uuid, "uuid", kName, gpu.sources);
    // Stated even where it stays 0: a card without active links is known to have none.
    State(gpu.nvlink_count, 0, "nvlink_count", kName, gpu.sources);
    topology.devices.push_back(std::move(gpu));
  }

  static void AddLink(const LinkLine& link, DeviceInfo& gpu) {
    if (!link.is_active) return;
    ++gpu.nvlink_count;
    State(gpu.nvlink_bandwidth_bytes_per_s, link.bytes_per_s, "nvlink_bandwidth_bytes_per_s", kName,
          gpu.sources);
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiNvlinkFormat() {
  return std::make_unique<NvidiaSmiNvlinkFormat>();
}

}  // namespace tprun
