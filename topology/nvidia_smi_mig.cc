#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi mig -lgi";

struct InstanceLine {
  int gpu = 0;
  std::string profile;
};

// "|   0  MIG 2g.10gb         14        3          0:2     |": GPU, name, profile, instance,
// placement.
std::optional<InstanceLine> ParseInstance(absl::string_view line) {
  const std::vector<Word> words = WordsOf(line);
  InstanceLine instance;
  if (words.size() < 6 || words[0].text != "|" || words[2].text != "MIG" ||
      !absl::SimpleAtoi(words[1].text, &instance.gpu) || instance.gpu < 0 || instance.gpu > 99999) {
    return std::nullopt;
  }
  instance.profile = std::string(words[3].text);
  return instance;
}

DeviceInfo& GpuOf(int index, Topology& topology) {
  const std::string id = absl::StrCat("cuda:", index);
  for (DeviceInfo& gpu : topology.devices) {
    if (gpu.id == id) return gpu;
  }
  topology.devices.push_back(NumberedGpu(index, kName));
  return topology.devices.back();
}

class NvidiaSmiMigFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    return absl::StrContains(text, "| GPU instances:");
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    Topology topology = EmptyDump(path);
    bool is_instances = false;
    for (const TextLine& line : CleanLines(text)) {
      const absl::string_view stripped = absl::StripAsciiWhitespace(line.text);
      if (absl::StartsWith(stripped, "| GPU instances:")) is_instances = true;
      // `mig -lci` lists compute instances in a table of the same look.
      if (absl::StartsWith(stripped, "| Compute instances:")) is_instances = false;
      const std::optional<InstanceLine> instance = ParseInstance(stripped);
      if (!is_instances || !instance.has_value()) continue;
      DeviceInfo& gpu = GpuOf(instance->gpu, topology);
      if (topology.devices.size() > kMaxGpus) return LineError(path, line.number, "over 256 GPUs");
      if (gpu.mig_instances.size() == 64) {
        return LineError(path, line.number, absl::StrCat("over 64 instances of ", gpu.id));
      }
      gpu.mig_instances.push_back({.profile = instance->profile});
      gpu.sources["mig_instances"] = std::string(kName);
      State(gpu.mig, "on", "mig", kName, gpu.sources);
    }
    if (topology.devices.empty()) {
      return LineError(path, 1, "wanted the table of `nvidia-smi mig -lgi`, found no instance");
    }
    topology.notes.push_back(absl::StrCat(path, ": ", kName, " lists GPUs with instances only"));
    return topology;
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiMigFormat() {
  return std::make_unique<NvidiaSmiMigFormat>();
}

}  // namespace tprun
