#include "topology/nccl_xml.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "topology/bus_id.h"
#include "topology/cpu_list.h"
#include "topology/nvidia_smi_text.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

constexpr size_t kMaxPcis = 4096;

int Number(absl::string_view text, int otherwise) {
  int number = 0;
  return absl::SimpleAtoi(text, &number) ? number : otherwise;
}

// "0x030200"; -1 where it is absent or no number.
int ClassOf(absl::string_view text) {
  uint32_t value = 0;
  if (!absl::ConsumePrefix(&text, "0x") || text.size() > 6) return -1;
  return absl::SimpleHexAtoi(text, &value) ? static_cast<int>(value) : -1;
}

// False for what kernels write in place of a link's speed or width, and for nothing.
bool IsLinkStated(absl::string_view text) {
  return !text.empty() && text != "0" && text != "255" &&
         !absl::StartsWithIgnoreCase(text, "unknown");
}

class NcclReader {
 public:
  NcclReader(const XmlDocument& xml, const std::string& path) : xml_(xml), path_(path) {}

  absl::StatusOr<NcclSystem> Read() {
    if (xml_.root().name != "system") {
      return LineError(path_, xml_.root().line,
                       absl::StrCat("wanted <system>, found <", xml_.root().name, ">"));
    }
    for (const int child : xml_.root().children) {
      const XmlElement& element = xml_.elements[child];
      if (element.name != "cpu") {
        Note(element, absl::StrCat("<", element.name, "> outside of a <cpu> is not read"));
        continue;
      }
      ReadCpu(element);
      RETURN_IF_ERROR(ReadPcis(element, -1));
    }
    return std::move(system_);
  }

 private:
  void Note(const XmlElement& element, absl::string_view text) {
    if (system_.notes.size() < 100) {
      system_.notes.push_back(absl::StrCat(path_, ":", element.line, ": ", text));
    }
  }

  void ReadCpu(const XmlElement& element) {
    NcclSystem::Cpu cpu;
    cpu.line = element.line;
    cpu.numa = Number(element.Get("numaid"), -1);
    cpu.arch = std::string(element.Get("arch"));
    cpu.vendor = std::string(element.Get("vendor"));
    cpu.host_hash = std::string(element.Get("host_hash"));
    if (!element.Get("affinity").empty()) {
      const absl::StatusOr<std::vector<int>> mask = ParseCpuMask(element.Get("affinity"));
      if (mask.ok()) cpu.cpus = FormatCpuList(*mask);
      if (!mask.ok()) {
        Note(element, absl::StrCat("the affinity is left out: ", mask.status().message()));
      }
    }
    system_.cpus.push_back(std::move(cpu));
  }

  // The elements below a <cpu> or a <pci>; the depth is bounded by the XML reader.
  absl::Status ReadPcis(const XmlElement& above, int parent) {
    for (const int child : above.children) {
      const XmlElement& element = xml_.elements[child];
      if (element.name == "pci") {
        RETURN_IF_ERROR(ReadPci(element, parent));
      } else if (element.name == "nic" && parent < 0) {
        ReadNets(element, system_.virtual_nets);
      } else if (element.name == "nic") {
        system_.pcis[parent].has_nic = true;
        ReadNets(element, system_.pcis[parent].nets);
      } else if (element.name == "gpu" && parent >= 0) {
        ReadGpu(element, system_.pcis[parent]);
      } else if (element.name != "pcilink") {
        Note(element, absl::StrCat("<", element.name, "> is not read here"));
      }
    }
    return absl::OkStatus();
  }

  void NoteUnreadLink(const XmlElement& element, const NcclSystem::Pci& pci) {
    const bool odd_speed = IsLinkStated(pci.link_speed) && pci.pcie_generation() == 0;
    const bool odd_width = IsLinkStated(pci.link_width) && pci.pcie_width() == 0;
    if (odd_speed) NoteLeftOut(element, "link_speed");
    if (odd_width) NoteLeftOut(element, "link_width");
  }

  void NoteLeftOut(const XmlElement& element, absl::string_view attribute) {
    Note(element, absl::StrCat("the ", attribute, " is left out: \"",
                               element.Get(attribute).substr(0, 40), "\""));
  }

  absl::Status ReadPci(const XmlElement& element, int parent) {
    NcclSystem::Pci pci;
    pci.line = element.line;
    pci.cpu = static_cast<int>(system_.cpus.size()) - 1;
    pci.parent = parent;
    pci.bus_id = NormalBusId(element.Get("busid"));
    if (pci.bus_id.empty()) {
      return LineError(path_, element.line,
                       absl::StrCat("wanted a busid such as 0000:3b:00.0, found \"",
                                    element.Get("busid").substr(0, 40), "\""));
    }
    const std::string host = system_.cpus.back().host_hash;
    if (!seen_.insert({host, pci.bus_id}).second) {
      return LineError(path_, element.line, absl::StrCat(pci.bus_id, " is there twice"));
    }
    if (system_.pcis.size() == kMaxPcis) {
      return LineError(path_, element.line, "there are over 4096 <pci>");
    }
    pci.device_class = ClassOf(element.Get("class"));
    pci.pci_id = NormalPciId(element.Get("vendor"), element.Get("device"));
    pci.link_speed = std::string(element.Get("link_speed"));
    pci.link_width = std::string(element.Get("link_width"));
    NoteUnreadLink(element, pci);
    const int index = static_cast<int>(system_.pcis.size());
    system_.pcis.push_back(std::move(pci));
    if (parent >= 0) system_.pcis[parent].has_children = true;
    return ReadPcis(element, index);
  }

  void ReadGpu(const XmlElement& element, NcclSystem::Pci& pci) {
    pci.has_gpu = true;
    pci.gpu_dev = Number(element.Get("dev"), -1);
    pci.gpu_rank = Number(element.Get("rank"), -1);
    pci.gpu_sm = Number(element.Get("sm"), -1);
    for (const int child : element.children) {
      const XmlElement& link = xml_.elements[child];
      if (link.name == "nvlink") ReadNvLink(link, pci);
      // NCCL's `bw` is of one link in MB/s.
      if (link.name == "c2c") {
        pci.c2c_bytes_per_s =
            1e6 * Number(link.Get("bw"), 0) * std::max(1, Number(link.Get("count"), 1));
      }
    }
  }

  void ReadNvLink(const XmlElement& element, NcclSystem::Pci& pci) {
    NcclSystem::NvLink link;
    link.line = element.line;
    link.target = NormalBusId(element.Get("target"));
    link.count = Number(element.Get("count"), 1);
    link.target_class = ClassOf(element.Get("tclass"));
    if (link.count < 1 || link.count > 1000) {
      Note(element, absl::StrCat("the count of links is left out: \"", element.Get("count"), "\""));
      return;
    }
    pci.nvlinks.push_back(std::move(link));
  }

  void ReadNets(const XmlElement& nic, std::vector<NcclSystem::Net>& nets) {
    for (const int child : nic.children) {
      const XmlElement& element = xml_.elements[child];
      if (element.name != "net") continue;
      const int speed = Number(element.Get("speed"), 0);
      nets.push_back({std::string(element.Get("name")), std::max(0, speed)});
    }
  }

  const XmlDocument& xml_;
  const std::string& path_;
  NcclSystem system_;
  std::set<std::pair<std::string, std::string>> seen_;
};

}  // namespace

bool NcclSystem::Pci::is_gpu() const {
  // Not the video controllers of management processors: ASPEED, Matrox.
  const bool is_video = absl::StartsWith(pci_id, "1a03:") || absl::StartsWith(pci_id, "102b:");
  const int kind = device_class >> 8;
  return has_gpu || (!is_video && (kind == 0x0300 || kind == 0x0302));
}

bool NcclSystem::Pci::is_nic() const { return has_nic || device_class >> 16 == 0x02; }

int NcclSystem::Pci::pcie_generation() const {
  // "8 GT/s", "16.0 GT/s PCIe", "32 GT/s PCIe/s"
  constexpr std::array<double, 7> kGigatransfers = {2.5, 5, 8, 16, 32, 64, 128};
  const absl::string_view number = absl::string_view(link_speed).substr(0, link_speed.find(' '));
  double rate = 0;
  if (!absl::SimpleAtod(number, &rate)) return 0;
  for (size_t i = 0; i < kGigatransfers.size(); ++i) {
    if (rate == kGigatransfers[i]) return static_cast<int>(i) + 1;
  }
  return 0;
}

int NcclSystem::Pci::pcie_width() const {
  const int width = Number(link_width, 0);
  return width >= 1 && width <= 32 ? width : 0;
}

absl::StatusOr<NcclSystem> ParseNcclXml(absl::string_view text, const std::string& path) {
  ASSIGN_OR_RETURN(const XmlDocument xml, ParseXml(text, path));
  return NcclReader(xml, path).Read();
}

}  // namespace tprun
