#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// What an XML export of hwloc (lstopo x.xml) says, of versions 1, 2 and 3 of its form. libhwloc
// reads two of the three at most, so that this does not go through it.
struct HwlocDump {
  struct Object {
    int line = 0;
    int parent = -1;   // index into objects
    std::string type;  // "Machine", "NUMANode", "Bridge", "PCIDev", "OSDev", ...
    std::string name, subtype;
    int os_index = -1;
    int64_t gp_index = -1;
    int osdev_type = 0;  // as written: numbers in versions 1 and 2, bits in 3
    std::vector<int> cpus;
    std::vector<int> nodes;  // NUMA nodes, of its nodeset
    int64_t local_memory_bytes = 0;
    std::string bus_id;        // normal form
    std::string bridge_type;   // "0-1": host to PCI, "1-1": PCI to PCI
    int device_class = -1;     // 0x0302
    std::string pci_id;        // "10de:1db1"
    double link_gb_per_s = 0;  // PCIe link after line coding, 0: unknown
    std::map<std::string, std::string> infos;
    std::vector<int> children;

    bool is_nvswitch() const;
  };
  // The matrix called NVLinkBandwidth, row by row in MB/s; no objects: the file has none.
  struct LinkMatrix {
    int line = 0;
    std::string tag;  // "distances2", "distances2hetero"
    int kind = 0;
    std::vector<int> objects;  // indices into objects
    std::vector<double> values;

    double at(size_t row, size_t column) const { return values[row * objects.size() + column]; }
  };
  std::string version;  // "1", "2.0", "3.0"
  std::vector<Object> objects;
  LinkMatrix nvlink;
  std::vector<std::string> notes;
};

// InvalidArgument gives `path`, line and reason.
absl::StatusOr<HwlocDump> ParseHwlocXml(absl::string_view text, const std::string& path);

}  // namespace tprun
