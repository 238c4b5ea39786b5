#include <memory>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi -L";

// "  MIG 2g.20gb     Device  0: (UUID: MIG-...)" (UUIDs of older drivers: MIG-GPU-<uuid>/1/0).
std::optional<MigInstance> ParseMigLine(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  const size_t uuid = line.find("(UUID: ");
  if (!absl::StartsWith(line, "MIG ") || uuid == absl::string_view::npos || line.back() != ')') {
    return std::nullopt;
  }
  const std::vector<Word> words = WordsOf(line.substr(0, uuid));
  if (words.size() < 3 || words[2].text != "Device") return std::nullopt;
  MigInstance instance;
  instance.profile = std::string(words[1].text);
  instance.uuid = std::string(line.substr(uuid + 7, line.size() - uuid - 8));
  return instance;
}

bool IsLinkLine(absl::string_view line) {
  line = absl::StripLeadingAsciiWhitespace(line);
  return absl::StartsWith(line, "Link ") || absl::StartsWith(line, "NVML: ");
}

class NvidiaSmiListFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  // `nvlink -s` has the same lines, with links below them.
  bool Matches(absl::string_view text) const override {
    bool was_heading = false;
    for (const TextLine& line : CleanLines(text)) {
      if (was_heading && !IsLinkLine(line.text)) return true;
      was_heading = ParseGpuHeading(line.text).has_value();
    }
    return was_heading;
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    Topology topology = EmptyDump(path);
    std::set<int> indices;
    for (const TextLine& line : CleanLines(text)) {
      const std::optional<MigInstance> instance = ParseMigLine(line.text);
      if (instance.has_value()) {
        if (topology.devices.empty()) {
          return LineError(path, line.number, "a MIG instance without the line of its GPU");
        }
        DeviceInfo& gpu = topology.devices.back();
        gpu.mig_instances.push_back(*instance);
        gpu.sources["mig_instances"] = std::string(kName);
        State(gpu.mig, "on", "mig", kName, gpu.sources);
        continue;
      }
      const std::optional<GpuHeading> heading = ParseGpuHeading(line.text);
      if (!heading.has_value()) continue;
      if (!indices.insert(heading->index).second) continue;  // of another output in the paste
      if (indices.size() > kMaxGpus) return LineError(path, line.number, "over 256 GPUs");
      DeviceInfo gpu = NumberedGpu(heading->index, kName);
      State(gpu.name, heading->name, "name", kName, gpu.sources);
      State(gpu.uuid, heading->uuid, "uuid", kName, gpu.sources);
      topology.devices.push_back(std::move(gpu));
    }
    if (topology.devices.empty()) {
      return LineError(path, 1, "wanted lines such as \"GPU 0: NAME (UUID: GPU-...)\"");
    }
    return topology;
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiListFormat() {
  return std::make_unique<NvidiaSmiListFormat>();
}

}  // namespace tprun
