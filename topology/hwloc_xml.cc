#include "topology/hwloc_xml.h"

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "topology/bus_id.h"
#include "topology/cpu_list.h"
#include "topology/nvidia_smi_text.h"
#include "topology/xml_reader.h"

namespace tprun {
namespace {

constexpr size_t kMaxMatrix = 1024;

template <typename Number>
Number NumberOr(absl::string_view text, Number otherwise) {
  Number number = 0;
  return absl::SimpleAtoi(text, &number) ? number : otherwise;
}

class HwlocReader {
 public:
  HwlocReader(const XmlDocument& xml, const std::string& path) : xml_(xml), path_(path) {}

  absl::StatusOr<HwlocDump> Read() {
    RETURN_IF_ERROR(ReadVersion());
    RETURN_IF_ERROR(ReadObjects(xml_.root(), -1));
    if (dump_.objects.empty()) {
      return LineError(path_, xml_.root().line, "wanted an <object> below <topology>, found none");
    }
    for (const int child : xml_.root().children) {
      const XmlElement& element = xml_.elements[child];
      if (element.name == "info") {  // version 3 has those of the machine here
        dump_.objects[0].infos.insert(
            {std::string(element.Get("name")), std::string(element.Get("value"))});
      }
      if (element.Get("name") == "NVLinkBandwidth" && absl::StartsWith(element.name, "distances")) {
        RETURN_IF_ERROR(ReadMatrix(element));
      }
    }
    return std::move(dump_);
  }

 private:
  absl::Status ReadVersion() {
    const XmlElement& root = xml_.root();
    if (root.name != "topology") {
      return LineError(path_, root.line,
                       absl::StrCat("wanted <topology>, found <", root.name, ">"));
    }
    dump_.version = std::string(root.Has("version") ? root.Get("version") : "1");
    const std::string major = dump_.version.substr(0, dump_.version.find('.'));
    if (major == "1" || major == "2" || major == "3") return absl::OkStatus();
    return LineError(path_, root.line,
                     absl::StrCat("hwloc XML of version ", dump_.version.substr(0, 20),
                                  "; versions 1 to 3 are read (lstopo --export-xml-flags 2 "
                                  "writes version 2)"));
  }

  // The depth is bounded by the XML reader.
  absl::Status ReadObjects(const XmlElement& above, int parent) {
    for (const int child : above.children) {
      const XmlElement& element = xml_.elements[child];
      if (element.name != "object") continue;
      const int index = static_cast<int>(dump_.objects.size());
      dump_.objects.emplace_back();
      dump_.objects.back().parent = parent;
      if (parent >= 0) dump_.objects[parent].children.push_back(index);
      RETURN_IF_ERROR(ReadObject(element, dump_.objects.back()));
      RETURN_IF_ERROR(ReadObjects(element, index));
    }
    return absl::OkStatus();
  }

  absl::Status ReadObject(const XmlElement& element, HwlocDump::Object& object) {
    object.line = element.line;
    object.type = std::string(element.Get("type"));
    object.name = std::string(element.Get("name"));
    object.subtype = std::string(element.Get("subtype"));
    object.os_index = NumberOr<int>(element.Get("os_index"), -1);
    object.gp_index = NumberOr<int64_t>(element.Get("gp_index"), -1);
    object.osdev_type = NumberOr<int>(element.Get("osdev_type"), 0);
    object.local_memory_bytes = NumberOr<int64_t>(element.Get("local_memory"), 0);
    object.bridge_type = std::string(element.Get("bridge_type"));
    RETURN_IF_ERROR(ReadSet(element, "cpuset", object.cpus));
    RETURN_IF_ERROR(ReadSet(element, "nodeset", object.nodes));
    ReadPci(element, object);
    for (const int child : element.children) {
      const XmlElement& info = xml_.elements[child];
      if (info.name != "info") continue;
      object.infos.insert({std::string(info.Get("name")), std::string(info.Get("value"))});
    }
    return absl::OkStatus();
  }

  absl::Status ReadSet(const XmlElement& element, absl::string_view name, std::vector<int>& set) {
    if (!element.Has(name)) return absl::OkStatus();
    absl::StatusOr<std::vector<int>> mask = ParseCpuMask(element.Get(name));
    // "0xf...f" is an infinite set, which only wrappers around a machine have.
    if (!mask.ok() && absl::StrContains(element.Get(name), "f...f")) return absl::OkStatus();
    if (!mask.ok()) {
      return LineError(path_, element.line, absl::StrCat(name, ": ", mask.status().message()));
    }
    set = *std::move(mask);
    return absl::OkStatus();
  }

  // pci_type="0302 [10de:1db1] [10de:1212] a1"
  void ReadPci(const XmlElement& element, HwlocDump::Object& object) {
    object.bus_id = NormalBusId(element.Get("pci_busid"));
    double speed = 0;
    if (absl::SimpleAtod(element.Get("pci_link_speed"), &speed) && speed > 0 && speed < 1e6) {
      object.link_gb_per_s = speed;
    }
    const absl::string_view type = element.Get("pci_type");
    uint32_t device_class = 0;
    if (type.size() < 16 || !absl::SimpleHexAtoi(type.substr(0, 4), &device_class)) return;
    object.device_class = static_cast<int>(device_class);
    object.pci_id = NormalPciId(type.substr(6, 4), type.substr(11, 4));
  }

  absl::Status ReadMatrix(const XmlElement& element) {
    HwlocDump::LinkMatrix matrix;
    matrix.line = element.line;
    matrix.tag = element.name;
    matrix.kind = NumberOr<int>(element.Get("kind"), 0);
    if (dump_.nvlink.line > 0) return LineError(path_, element.line, "a second NVLinkBandwidth");
    IndexObjects();
    for (const int child : element.children) {
      const XmlElement& part = xml_.elements[child];
      if (part.name == "indexes") RETURN_IF_ERROR(ReadIndexes(element, part, matrix));
      if (part.name == "u64values") RETURN_IF_ERROR(ReadValues(part, matrix));
    }
    const size_t count = matrix.objects.size();
    if (count == 0 || matrix.values.size() != count * count) {
      return LineError(path_, element.line,
                       absl::StrCat("wanted ", count, " x ", count, " values of NVLinkBandwidth, ",
                                    "found ", matrix.values.size()));
    }
    dump_.nvlink = std::move(matrix);
    return absl::OkStatus();
  }

  void IndexObjects() {
    for (size_t i = 0; i < dump_.objects.size(); ++i) {
      by_gp_index_.insert({dump_.objects[i].gp_index, static_cast<int>(i)});
    }
  }

  // "894 895" or, of mixed types, "OSDev:802 PCIDev:449": gp_index values.
  absl::Status ReadIndexes(const XmlElement& matrix_element, const XmlElement& part,
                           HwlocDump::LinkMatrix& matrix) {
    if (matrix_element.Has("indexing") && matrix_element.Get("indexing") != "gp") {
      return LineError(path_, part.line, "wanted indexing=\"gp\" of NVLinkBandwidth");
    }
    for (const Word& word : WordsOf(part.text)) {
      absl::string_view index = word.text;
      index.remove_prefix(std::min(index.size(), index.find(':') + 1));
      const auto found = by_gp_index_.find(NumberOr<int64_t>(index, -2));
      if (found == by_gp_index_.end() || matrix.objects.size() == kMaxMatrix) {
        return LineError(path_, part.line,
                         absl::StrCat("NVLinkBandwidth is about an object that is not there: \"",
                                      word.text.substr(0, 40), "\""));
      }
      matrix.objects.push_back(found->second);
    }
    return absl::OkStatus();
  }

  absl::Status ReadValues(const XmlElement& part, HwlocDump::LinkMatrix& matrix) {
    for (const Word& word : WordsOf(part.text)) {
      double value = 0;
      const bool is_number = absl::SimpleAtod(word.text, &value) && value >= 0 && value < 1e12;
      if (!is_number || matrix.values.size() == kMaxMatrix * kMaxMatrix) {
        return LineError(
            path_, part.line,
            absl::StrCat("wanted a bandwidth in MB/s, found \"", word.text.substr(0, 40), "\""));
      }
      matrix.values.push_back(value);
    }
    return absl::OkStatus();
  }

  const XmlDocument& xml_;
  const std::string& path_;
  HwlocDump dump_;
  std::map<int64_t, int> by_gp_index_;
};

}  // namespace

bool HwlocDump::Object::is_nvswitch() const {
  // Some have a pci_type of zeros, and then only the subtype tells.
  return type == "PCIDev" &&
         (subtype == "NVSwitch" || (device_class == 0x0680 && absl::StartsWith(pci_id, "10de:")));
}

absl::StatusOr<HwlocDump> ParseHwlocXml(absl::string_view text, const std::string& path) {
  ASSIGN_OR_RETURN(const XmlDocument xml, ParseXml(text, path));
  return HwlocReader(xml, path).Read();
}

}  // namespace tprun
