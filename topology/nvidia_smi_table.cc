#include <memory>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/bus_id.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi";

// The parts between the bars of a line, without blanks around; none if the line has no bars.
std::vector<absl::string_view> PartsOf(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "|")) return {};
  absl::ConsumeSuffix(&line, "|");
  std::vector<absl::string_view> parts = absl::StrSplit(line, '|');
  for (absl::string_view& part : parts) part = absl::StripAsciiWhitespace(part);
  return parts;
}

// The word behind `key` ("Driver Version:"), "" if it is not there.
std::string VersionBehind(absl::string_view line, absl::string_view key) {
  const size_t at = line.find(key);
  if (at == absl::string_view::npos) return "";
  const std::vector<Word> words = WordsOf(line.substr(at + key.size()));
  return words.empty() || !IsStated(words[0].text) || words[0].text == "|"
             ? ""
             : std::string(words[0].text);
}

// The head of the table. Drivers from 610 on call the versions "KMD Version", "CUDA UMD Version".
void ReadVersions(absl::string_view line, Host& host) {
  const auto state = [&](const char* name, std::initializer_list<absl::string_view> keys) {
    for (absl::string_view key : keys) {
      const std::string version = VersionBehind(line, key);
      if (version.empty()) continue;
      host.software[name] = version;
      return;
    }
  };
  state("nvidia-smi", {"NVIDIA-SMI "});
  state("driver", {"Driver Version:", "KMD Version:"});
  state("cuda", {"CUDA Version:", "CUDA UMD Version:"});
}

// "0  NVIDIA GeForce RTX 4090 D      On" and "00000000:A9:00.0 Off".
std::optional<DeviceInfo> ReadFirstLine(const std::vector<absl::string_view>& parts) {
  if (parts.size() < 3) return std::nullopt;
  const std::vector<Word> left = WordsOf(parts[0]);
  const std::vector<Word> middle = WordsOf(parts[1]);
  int index = 0;
  if (left.size() < 3 || middle.empty() || !absl::SimpleAtoi(left[0].text, &index) || index < 0) {
    return std::nullopt;
  }
  const std::string bus_id = NormalBusId(middle[0].text);
  if (bus_id.empty() || index > 99999) return std::nullopt;
  DeviceInfo gpu = NumberedGpu(index, kName);
  // The last word is the persistence mode (or TCC, WDDM).
  const size_t start = left[1].position;
  const std::string name(parts[0].substr(start, left[left.size() - 2].end() - start));
  State(gpu.name, name, "name", kName, gpu.sources);
  State(gpu.pci_bus_id, bus_id, "pci_bus_id", kName, gpu.sources);
  return gpu;
}

// "0MiB / 24564MiB": used, total.
void ReadSecondLine(const std::vector<absl::string_view>& parts, DeviceInfo& gpu) {
  if (parts.size() < 2) return;
  const std::vector<absl::string_view> amounts = absl::StrSplit(parts[1], '/');
  if (amounts.size() != 2) return;
  const std::optional<int64_t> used = ParseQuantity(amounts[0], "MiB");
  const std::optional<int64_t> total = ParseQuantity(amounts[1], "MiB");
  if (!used.has_value() || !total.has_value() || *used > *total) return;
  State(gpu.memory_bytes, *total * kMiB, "memory_bytes", kName, gpu.sources);
  State(gpu.available_bytes, (*total - *used) * kMiB, "available_bytes", kName, gpu.sources);
}

void ReadThirdLine(const std::vector<absl::string_view>& parts, DeviceInfo& gpu) {
  if (parts.size() < 3) return;
  const std::string mig = MigMode(parts[2]);
  if (!mig.empty()) State(gpu.mig, mig, "mig", kName, gpu.sources);
}

// "0   N/A  N/A   1779   G   /usr/lib/xorg/Xorg   4MiB" (older: without the two instance ids).
void ReadProcess(absl::string_view part, Topology& topology) {
  const std::vector<Word> words = WordsOf(part);
  int index = 0;
  if (words.size() < 5 || !absl::SimpleAtoi(words[0].text, &index)) return;
  const size_t pid = words[1].text == "N/A" || words.size() >= 7 ? 3 : 1;
  const std::optional<int64_t> memory = ParseQuantity(words.back().text, "MiB");
  DeviceProcess process;
  if (words.size() < pid + 4 || !absl::SimpleAtoi(words[pid].text, &process.pid)) return;
  const size_t start = words[pid + 2].position;
  process.name = std::string(part.substr(start, words[words.size() - 2].end() - start));
  process.memory_bytes = memory.value_or(0) * kMiB;
  for (DeviceInfo& gpu : topology.devices) {
    if (gpu.id != absl::StrCat("cuda:", index) || gpu.processes.size() > 10000) continue;
    gpu.processes.push_back(process);
    gpu.sources["processes"] = std::string(kName);
  }
}

class NvidiaSmiTableFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    return absl::StrContains(text, "| NVIDIA-SMI ") ||
           (absl::StrContains(text, "| GPU  Name ") && absl::StrContains(text, "Bus-Id"));
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    Topology topology = EmptyDump(path);
    bool is_processes = false;
    int below = 0;  // lines since the first of the last card
    for (const TextLine& line : CleanLines(text)) {
      const std::vector<absl::string_view> parts = PartsOf(line.text);
      if (parts.empty()) continue;
      if (absl::StartsWith(parts[0], "NVIDIA-SMI ")) ReadVersions(line.text, topology.hosts[0]);
      if (absl::StartsWith(parts[0], "Processes")) is_processes = true;
      if (is_processes) {
        ReadProcess(parts[0], topology);
        continue;
      }
      std::optional<DeviceInfo> gpu = ReadFirstLine(parts);
      if (gpu.has_value()) {
        RETURN_IF_ERROR(Add(*std::move(gpu), line.number, path, topology));
        below = 0;
      } else if (!topology.devices.empty()) {
        ++below;
        if (below == 1) ReadSecondLine(parts, topology.devices.back());
        if (below == 2) ReadThirdLine(parts, topology.devices.back());
      }
    }
    if (topology.devices.empty()) {
      return LineError(path, 1, "wanted the table of nvidia-smi, found no GPU in it");
    }
    return topology;
  }

 private:
  static absl::Status Add(DeviceInfo gpu, int line, const std::string& path, Topology& topology) {
    for (const DeviceInfo& other : topology.devices) {
      if (other.id != gpu.id) continue;
      return LineError(path, line, absl::StrCat("GPU ", gpu.id.substr(5), " is there twice"));
    }
    if (topology.devices.size() == kMaxGpus) return LineError(path, line, "over 256 GPUs");
    topology.devices.push_back(std::move(gpu));
    return absl::OkStatus();
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeNvidiaSmiTableFormat() {
  return std::make_unique<NvidiaSmiTableFormat>();
}

}  // namespace tprun
