#include "topology/nvidia_smi_query.h"

#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/bus_id.h"
#include "topology/nvidia_smi_text.h"
#include "topology/source.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

constexpr absl::string_view kName = "nvidia-smi -q";

// The heads that a line stands below, told by indentation: "PCI/GPU Link Info/Link Width".
class HeadStack {
 public:
  void Enter(size_t indentation, absl::string_view head) {
    Leave(indentation);
    if (heads_.size() < 16) heads_.push_back({indentation, std::string(head)});
  }
  void Leave(size_t indentation) {
    while (!heads_.empty() && heads_.back().first >= indentation) heads_.pop_back();
  }
  std::string PathTo(absl::string_view key) const {
    std::string path;
    for (const auto& [indentation, head] : heads_) absl::StrAppend(&path, head, "/");
    return absl::StrCat(path, key);
  }

 private:
  std::vector<std::pair<size_t, std::string>> heads_;
};

int SmallNumber(absl::string_view value, absl::string_view unit) {
  const int64_t number = ParseQuantity(value, unit).value_or(0);
  return number < 1024 ? static_cast<int>(number) : 0;
}

int64_t Memory(absl::string_view value) { return ParseQuantity(value, "MiB").value_or(0) * kMiB; }

void StateProcess(absl::string_view key, const std::string& value, NvidiaSmiQuery::Gpu& gpu) {
  if (key == "Process ID" && gpu.processes.size() < 10000) {
    gpu.processes.push_back({.pid = ParseQuantity(value, "").value_or(0)});
  }
  if (gpu.processes.empty()) return;
  if (key == "Name") gpu.processes.back().name = value;
  if (key == "Used GPU Memory") gpu.processes.back().memory_bytes = Memory(value);
}

void StateField(absl::string_view path, const std::string& value, NvidiaSmiQuery::Gpu& gpu) {
  const absl::string_view key = path.substr(path.rfind('/') + 1);
  if (path == "Product Name") gpu.name = value;
  if (path == "GPU UUID") gpu.uuid = value;
  if (path == "Minor Number") gpu.minor_number = SmallNumber(value, "");
  if (path == "MIG Mode/Current") gpu.mig = MigMode(value);
  if (path == "PCI/Device Id") gpu.pci_id = PciIdOf(value);
  if (path == "Performance State") gpu.is_busy = value == "P0";
  if (path == "PCI/GPU Link Info/PCIe Generation/Max") gpu.generation_max = SmallNumber(value, "");
  if (path == "PCI/GPU Link Info/PCIe Generation/Current") {
    gpu.generation_now = SmallNumber(value, "");
  }
  if (path == "PCI/GPU Link Info/Link Width/Max") gpu.width_max = SmallNumber(value, "x");
  if (path == "PCI/GPU Link Info/Link Width/Current") gpu.width_now = SmallNumber(value, "x");
  if (path == "FB Memory Usage/Total") gpu.memory_bytes = Memory(value);
  if (path == "FB Memory Usage/Free") gpu.available_bytes = Memory(value);
  if (absl::StartsWith(path, "Processes/")) StateProcess(key, value, gpu);
}

// "GPU 00000000:17:00.0", the head of a card's section (drivers before 400: "GPU 0000:17:00.0").
std::string SectionBusId(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  return absl::ConsumePrefix(&line, "GPU ") ? NormalBusId(line) : "";
}

DeviceInfo DeviceOf(const NvidiaSmiQuery::Gpu& from, int number) {
  DeviceInfo gpu = NumberedGpu(number, kName);
  // The order is nvidia-smi's, but a part of the cards may have been asked for.
  gpu.sources.erase("id");
  const auto state = [&gpu](auto& member, const auto& value, absl::string_view key) {
    using Value = std::decay_t<decltype(value)>;
    if (value != Value{}) State(member, value, key, kName, gpu.sources);
  };
  state(gpu.name, from.name, "name");
  state(gpu.uuid, from.uuid, "uuid");
  state(gpu.pci_bus_id, from.bus_id, "pci_bus_id");
  state(gpu.pci_id, from.pci_id, "pci_id");
  state(gpu.mig, from.mig, "mig");
  state(gpu.memory_bytes, from.memory_bytes, "memory_bytes");
  state(gpu.available_bytes, from.available_bytes, "available_bytes");
  const int generation =
      from.is_busy && from.generation_now > 0 ? from.generation_now : from.generation_max;
  state(gpu.pcie_generation, generation, "pcie_generation");
  state(gpu.pcie_max_generation, from.generation_max, "pcie_max_generation");
  state(gpu.pcie_width, from.width_now, "pcie_width");
  state(gpu.pcie_max_width, from.width_max, "pcie_max_width");
  if (!from.processes.empty()) {
    State(gpu.processes, from.processes, "processes", kName, gpu.sources);
  }
  return gpu;
}

class NvidiaSmiQueryFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return kName; }

  bool Matches(absl::string_view text) const override {
    if (absl::StrContains(text, "==NVSMI LOG==")) return true;
    return absl::StrContains(text, "Attached GPUs") && absl::StrContains(text, "FB Memory Usage");
  }

  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    ASSIGN_OR_RETURN(const NvidiaSmiQuery query, ParseNvidiaSmiQuery(text, path));
    Topology topology = EmptyDump(path);
    if (!query.driver.empty()) topology.hosts[0].software["driver"] = query.driver;
    if (!query.cuda.empty()) topology.hosts[0].software["cuda"] = query.cuda;
    for (size_t i = 0; i < query.gpus.size(); ++i) {
      topology.devices.push_back(DeviceOf(query.gpus[i], static_cast<int>(i)));
    }
    if (query.attached_gpus > static_cast<int>(query.gpus.size())) {
      topology.notes.push_back(absl::StrCat(path, ": ", query.attached_gpus,
                                            " GPUs are attached, and ", query.gpus.size(),
                                            " of them described"));
    }
    return topology;
  }
};

}  // namespace

absl::StatusOr<NvidiaSmiQuery> ParseNvidiaSmiQuery(const std::string& text,
                                                   const std::string& path) {
  NvidiaSmiQuery query;
  HeadStack heads;
  size_t base = 0;
  for (const TextLine& line : CleanLines(text)) {
    const absl::string_view stripped = absl::StripAsciiWhitespace(line.text);
    if (stripped.empty()) continue;
    const size_t indentation = line.text.find_first_not_of(" \t");
    const std::string bus_id = SectionBusId(stripped);
    if (!bus_id.empty()) {
      if (query.gpus.size() == kMaxGpus) return LineError(path, line.number, "over 256 GPUs");
      for (const NvidiaSmiQuery::Gpu& gpu : query.gpus) {
        if (gpu.bus_id != bus_id) continue;
        return LineError(path, line.number,
                         absl::StrCat(bus_id, " is described in line ", gpu.line, " already"));
      }
      query.gpus.push_back({.line = line.number, .bus_id = bus_id});
      base = indentation;
      heads.Leave(0);
      continue;
    }
    const size_t colon = stripped.find(" : ");
    if (colon == absl::string_view::npos) {
      heads.Enter(indentation, stripped);
      continue;
    }
    const absl::string_view key = absl::StripTrailingAsciiWhitespace(stripped.substr(0, colon));
    const std::string value(absl::StripAsciiWhitespace(stripped.substr(colon + 3)));
    if (!IsStated(value)) continue;
    if (key == "Driver Version") query.driver = value;
    if (key == "CUDA Version" || key == "CUDA UMD Version") query.cuda = value;
    if (key == "KMD Version") query.driver = value;
    if (key == "Attached GPUs") query.attached_gpus = SmallNumber(value, "");
    if (query.gpus.empty() || indentation <= base) continue;
    // A process has its own keys indented below its number.
    heads.Leave(indentation);
    StateField(heads.PathTo(key), value, query.gpus.back());
  }
  if (query.gpus.empty()) {
    return LineError(path, 1, "wanted a section \"GPU 00000000:17:00.0\" of `nvidia-smi -q`");
  }
  return query;
}

std::unique_ptr<TopologyFormat> MakeNvidiaSmiQueryFormat() {
  return std::make_unique<NvidiaSmiQueryFormat>();
}

}  // namespace tprun
