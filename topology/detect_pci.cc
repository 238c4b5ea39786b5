#include "topology/detect_pci.h"

#include <array>
#include <climits>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "topology/bus_id.h"
#include "topology/pci_path.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

std::string FunctionFolder(const std::string& root, absl::string_view bus_id) {
  return absl::StrCat(root, "/sys/bus/pci/devices/", bus_id);
}

std::string ResolvedPath(const std::string& path) {
  std::array<char, PATH_MAX> resolved = {};
  return realpath(path.c_str(), resolved.data()) != nullptr ? resolved.data() : "";
}

bool IsBusId(absl::string_view text) { return !text.empty() && NormalBusId(text) == text; }

unsigned ReadHex(const std::string& path) {
  const std::string text = ReadPseudoLine(path);
  char* end = nullptr;
  const unsigned long value = std::strtoul(text.c_str(), &end, 16);
  return text.empty() || *end != '\0' || value > UINT_MAX ? 0 : static_cast<unsigned>(value);
}

int ReadWidth(const std::string& path) {
  int width;
  // 255: the link is down.
  return absl::SimpleAtoi(ReadPseudoLine(path), &width) && width > 0 && width <= 32 ? width : 0;
}

// /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0: a folder per bridge.
void ReadBridges(const std::string& folder, PciFunction& function) {
  for (absl::string_view part : absl::StrSplit(ResolvedPath(folder), '/')) {
    absl::string_view root_bus = part;
    if (absl::ConsumePrefix(&root_bus, "pci") && absl::StrContains(root_bus, ':')) {
      function.host_bridge = std::string(root_bus);
    }
    if (IsBusId(part) && part != function.bus_id) function.bridges.push_back(std::string(part));
  }
}

// "0000:00" of the first function below the host bridge.
std::string RootBus(const PciPlace& place) {
  const std::string& top = place.bridges.empty() ? place.bus_id : place.bridges[0];
  return top.substr(0, top.rfind(':'));
}

uint32_t Word(absl::string_view config, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<unsigned char>(config[at + i])) << (8 * i);
  }
  return value;
}

}  // namespace

int PcieGenerationOfSpeed(absl::string_view speed) {
  static constexpr std::array<double, 7> kGigaTransfers = {2.5, 5, 8, 16, 32, 64, 128};
  const std::vector<absl::string_view> words = absl::StrSplit(speed, ' ', absl::SkipEmpty());
  double value;
  if (words.size() < 2 || !absl::SimpleAtod(words[0], &value)) return 0;
  for (size_t i = 0; i < kGigaTransfers.size(); ++i) {
    if (value == kGigaTransfers[i]) return static_cast<int>(i) + 1;
  }
  return 0;
}

PciFunction ReadPciFunction(const std::string& root, const std::string& bus_id) {
  PciFunction function;
  function.bus_id = bus_id;
  const std::string folder = FunctionFolder(root, bus_id);
  const auto read = [&](const char* name) {
    return ReadPseudoLine(absl::StrCat(folder, "/", name));
  };
  function.pci_id = NormalPciId(read("vendor"), read("device"));
  function.device_class = ReadHex(folder + "/class");
  const std::string driver = ResolvedPath(folder + "/driver");
  function.driver = driver.substr(driver.rfind('/') + 1);
  if (!absl::SimpleAtoi(read("numa_node"), &function.numa_node)) function.numa_node = -1;
  function.cpus = read("local_cpulist");
  function.generation = PcieGenerationOfSpeed(read("current_link_speed"));
  function.max_generation = PcieGenerationOfSpeed(read("max_link_speed"));
  function.width = ReadWidth(folder + "/current_link_width");
  function.max_width = ReadWidth(folder + "/max_link_width");
  ReadBridges(folder, function);
  return function;
}

std::vector<PciFunction> ListPciFunctions(const std::string& root, unsigned class_byte) {
  std::vector<PciFunction> functions;
  for (const std::string& name : ListFolder(root + "/sys/bus/pci/devices")) {
    if (!IsBusId(name)) continue;
    if (ReadHex(FunctionFolder(root, name) + "/class") >> 16 != class_byte) continue;
    functions.push_back(ReadPciFunction(root, name));
  }
  return functions;
}

LinkKind PciDistance(const PciPlace& a, const PciPlace& b) {
  const auto below_bridge = PathByBridges(a.bridges, b.bridges, SwitchListing::kEveryPort);
  if (below_bridge.has_value()) return *below_bridge;
  if (RootBus(a) == RootBus(b)) return LinkKind::kPhb;
  if (a.numa_node < 0 || b.numa_node < 0) return LinkKind::kPcie;
  return a.numa_node == b.numa_node ? LinkKind::kNode : LinkKind::kSystem;
}

PeerRedirect ReadPeerRedirect(const std::string& root, const std::string& bus_id) {
  constexpr size_t kExtended = 0x100;  // where the extended capabilities begin
  constexpr uint32_t kAcs = 0x000d;
  constexpr uint32_t kRequestRedirect = 1u << 2;
  const std::string config = ReadPseudoFile(FunctionFolder(root, bus_id) + "/config");
  if (config.size() <= kExtended + 4) return PeerRedirect::kUnknown;
  size_t at = kExtended;
  for (int steps = 0; steps < 96 && at >= kExtended && at + 8 <= config.size(); ++steps) {
    const uint32_t header = Word(config, at);
    if ((header & 0xffff) == kAcs) {
      const uint32_t control = Word(config, at + 4) >> 16;
      return (control & kRequestRedirect) != 0 ? PeerRedirect::kYes : PeerRedirect::kNo;
    }
    at = header >> 20;
  }
  return PeerRedirect::kNo;  // no such capability
}

Iommu ReadIommu(const std::string& root) {
  const std::vector<std::string> groups = ListFolder(root + "/sys/kernel/iommu_groups");
  if (groups.empty()) {
    return ListFolder(root + "/sys/class/iommu").empty() ? Iommu::kOff : Iommu::kUnknown;
  }
  bool known = false;
  for (const std::string& group : groups) {
    const std::string type =
        ReadPseudoLine(absl::StrCat(root, "/sys/kernel/iommu_groups/", group, "/type"));
    if (absl::StartsWith(type, "DMA")) return Iommu::kTranslating;
    known = known || !type.empty();
  }
  return known ? Iommu::kPassThrough : Iommu::kUnknown;
}

}  // namespace tprun
