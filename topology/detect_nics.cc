#include "topology/detect_nics.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "topology/detect_pci.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

// The bus id of the PCI function behind a class device: the last folder of its path that is one
// ("virtio0" stands below it). "" for a virtual device.
std::string BusIdOf(const std::string& root, const std::string& device_link) {
  std::array<char, PATH_MAX> resolved = {};
  if (realpath(device_link.c_str(), resolved.data()) == nullptr) return "";
  const std::vector<std::string> parts = absl::StrSplit(resolved.data(), '/');
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (std::count(part->begin(), part->end(), ':') == 2 &&
        !ListFolder(absl::StrCat(root, "/sys/bus/pci/devices/", *part)).empty()) {
      return *part;
    }
  }
  return "";
}

Nic MakeNic(const std::string& root, const std::string& name, const std::string& bus_id) {
  const PciFunction function = ReadPciFunction(root, bus_id);
  Nic nic;
  nic.name = name;
  nic.numa_node = function.numa_node;
  nic.pci_bus_id = bus_id;
  nic.pci_id = function.pci_id;
  nic.pci_bridges = function.bridges;
  nic.interfaces.push_back(name);
  for (const char* fact :
       {"name", "interfaces", "numa_node", "pci_bus_id", "pci_id", "pci_bridges"}) {
    nic.sources[fact] = "sysfs";
  }
  return nic;
}

// Bits per second of one port, "100 Gb/sec (4X EDR)", 0 while the port is down.
double PortRate(const std::string& port) {
  if (!absl::StrContains(ReadPseudoLine(port + "/state"), "ACTIVE")) return 0;
  const std::string text = ReadPseudoLine(port + "/rate");
  double gigabits;
  const bool read = absl::SimpleAtod(text.substr(0, text.find(' ')), &gigabits);
  return read && gigabits > 0 && gigabits < 1e5 ? gigabits * 1e9 : 0;
}

// Bits per second; sysfs says -1 while the link is down and in some virtual machines.
double InterfaceRate(const std::string& folder) {
  int64_t megabits;
  const bool read = absl::SimpleAtoi(ReadPseudoLine(folder + "/speed"), &megabits);
  return read && megabits > 0 && megabits < 100000000 ? static_cast<double>(megabits) * 1e6 : 0;
}

Nic WithRate(double bits_per_s, Nic nic) {
  nic.bandwidth_bytes_per_s = bits_per_s / 8;
  if (bits_per_s > 0) nic.sources["bandwidth_bytes_per_s"] = "sysfs";
  return nic;
}

}  // namespace

std::vector<Nic> DetectNics(const std::string& root) {
  std::vector<Nic> nics;
  std::map<std::string, size_t> places;  // in nics, by bus id
  const std::string rdma = root + "/sys/class/infiniband";
  for (const std::string& name : ListFolder(rdma)) {
    const std::string folder = absl::StrCat(rdma, "/", name);
    const std::string bus_id = BusIdOf(root, folder + "/device");
    if (bus_id.empty() || !places.emplace(bus_id, nics.size()).second) continue;
    double rate = 0;
    for (const std::string& port : ListFolder(folder + "/ports")) {
      rate += PortRate(absl::StrCat(folder, "/ports/", port));
    }
    nics.push_back(WithRate(rate, MakeNic(root, name, bus_id)));
  }
  const std::string net = root + "/sys/class/net";
  for (const std::string& name : ListFolder(net)) {
    const std::string folder = absl::StrCat(net, "/", name);
    const std::string bus_id = BusIdOf(root, folder + "/device");
    if (bus_id.empty()) continue;
    const auto [place, is_new] = places.emplace(bus_id, nics.size());
    if (!is_new) {  // another view of the same card
      nics[place->second].interfaces.push_back(name);
      continue;
    }
    nics.push_back(WithRate(InterfaceRate(folder), MakeNic(root, name, bus_id)));
  }
  return nics;
}

}  // namespace tprun
