#include "topology/paths.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "topology/path_model.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

uint64_t Key(int a, int b) {
  const auto [low, high] = std::minmax(a, b);
  return static_cast<uint64_t>(low) << 32 | static_cast<uint32_t>(high);
}

double DevicePcie(const DeviceInfo& device) {
  return PcieBandwidth(device.pcie_generation, device.pcie_width);
}

// Measured figures go before modelled ones.
void ApplyMeasurements(const Link& link, Path& path) {
  if (link.measured_bandwidth_bytes_per_s > 0) {
    path.expected_bytes_per_s = link.measured_bandwidth_bytes_per_s;
  }
  if (link.measured_latency_s > 0) path.latency_s = link.measured_latency_s;
}

Path Modelled(LinkKind kind, double bandwidth, bool through_host) {
  Path path;
  path.kind = kind;
  path.bandwidth_bytes_per_s = bandwidth;
  path.expected_bytes_per_s = bandwidth * LinkEfficiency(kind, through_host);
  path.latency_s = MessageLatency(kind, through_host);
  path.through_host = through_host;
  return path;
}

Path FromLink(const Link& link) {
  Path path = Modelled(link.kind, link.bandwidth_bytes_per_s, false);
  if (link.latency_s > 0) path.latency_s = link.latency_s;
  path.peer_access = link.peer_access;
  path.why = link.peer_access_reason;
  ApplyMeasurements(link, path);
  return path;
}

// A copy within one device's memory: read and write.
Path OwnMemory(const DeviceInfo& device) {
  Path path;
  path.kind = LinkKind::kPix;
  path.bandwidth_bytes_per_s = MemoryBandwidth(device) / 2;
  path.expected_bytes_per_s = path.bandwidth_bytes_per_s;
  path.latency_s = MessageLatency(LinkKind::kNvlink, false);
  path.peer_access = PeerAccess::kYes;
  path.why = "the same device: its own memory";
  return path;
}

// Limits `path` by one more part of the way.
void Narrow(const Path& part, Path& path) {
  if (part.bandwidth_bytes_per_s < path.bandwidth_bytes_per_s) {
    path.kind = part.kind;
    path.bandwidth_bytes_per_s = part.bandwidth_bytes_per_s;
  }
  path.expected_bytes_per_s = std::min(path.expected_bytes_per_s, part.expected_bytes_per_s);
}

}  // namespace

PathFinder::PathFinder(const Topology& topology)
    : topology_(topology),
      cpu_of_host_(topology.hosts.size(), -1),
      gpus_of_host_(topology.hosts.size(), 0),
      fabrics_of_host_(topology.hosts.size()) {
  links_.reserve(topology.links.size());
  for (size_t i = 0; i < topology.links.size(); ++i) {
    const Link& link = topology.links[i];
    const auto [place, is_new] = links_.emplace(Key(link.a, link.b), static_cast<int>(i));
    const Link& best = topology.links[place->second];
    // Of one kind, what is said not to work goes before what is given for the pair otherwise.
    const bool is_refused = link.peer_access == PeerAccess::kNo;
    const bool differs =
        link.kind == best.kind && is_refused != (best.peer_access == PeerAccess::kNo);
    const bool is_better =
        differs ? is_refused : link.bandwidth_bytes_per_s > best.bandwidth_bytes_per_s;
    if (!is_new && is_better) place->second = static_cast<int>(i);
  }
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.kind == DeviceKind::kGpu) ++gpus_of_host_[device.host];
    if (device.kind == DeviceKind::kCpu) cpu_of_host_[device.host] = static_cast<int>(i);
  }
  for (size_t i = 0; i < topology.fabrics.size(); ++i) {
    for (int host : topology.fabrics[i].hosts) {
      fabrics_of_host_[host].push_back(static_cast<int>(i));
    }
  }
}

const Link* PathFinder::Direct(int a, int b) const {
  const auto found = links_.find(Key(a, b));
  return found == links_.end() ? nullptr : &topology_.links[found->second];
}

const Fabric* PathFinder::CommonFabric(DeviceRef a, DeviceRef b) const {
  const DeviceInfo& first = topology_.devices[a.device];
  const DeviceInfo& second = topology_.devices[b.device];
  const bool gpus = first.kind == DeviceKind::kGpu && second.kind == DeviceKind::kGpu;
  const std::vector<int>& others = fabrics_of_host_[second.host];
  const Fabric* best = nullptr;
  double best_rate = -1;
  for (int index : fabrics_of_host_[first.host]) {
    const Fabric& fabric = topology_.fabrics[index];
    if (fabric.kind == LinkKind::kNvlink && !gpus) continue;
    if (std::find(others.begin(), others.end(), index) == others.end()) continue;
    const double rate = fabric.bandwidth_bytes_per_s / std::max(1, fabric.nics_per_host);
    if (rate > best_rate) best = &fabric;
    best_rate = std::max(best_rate, rate);
  }
  return best;
}

// The link of a GPU with the memory of its host; what the card has when no link is listed.
Path PathFinder::ToHostMemory(int gpu) const {
  const DeviceInfo& device = topology_.devices[gpu];
  const int cpu = cpu_of_host_[device.host];
  const Link* link = cpu < 0 ? nullptr : Direct(gpu, cpu);
  Path path =
      link != nullptr ? FromLink(*link) : Modelled(LinkKind::kPcie, DevicePcie(device), false);
  const double in = device.measured.host_to_device_bytes_per_s;
  const double out = device.measured.device_to_host_bytes_per_s;
  if (in > 0 && out > 0) path.expected_bytes_per_s = std::min(in, out);
  return path;
}

Path PathFinder::BetweenGpus(int a, int b) const {
  const DeviceInfo& first = topology_.devices[a];
  const DeviceInfo& second = topology_.devices[b];
  const Link* link = Direct(a, b);
  const bool nvlink =
      link != nullptr && (link->kind == LinkKind::kNvlink || link->kind == LinkKind::kC2c);
  if (nvlink && link->peer_access != PeerAccess::kNo) {
    Path path = FromLink(*link);
    path.peer_access = PeerAccess::kYes;
    return path;
  }
  // An NVLink that carries nothing (found broken) leaves the way over the host.
  const bool carries = link != nullptr && !nvlink;
  const LinkKind kind = carries ? link->kind : PcieDistance(first, second);
  double bandwidth = std::min(DevicePcie(first), DevicePcie(second));
  if (carries && link->bandwidth_bytes_per_s > 0) bandwidth = link->bandwidth_bytes_per_s;
  const int cpu = cpu_of_host_[first.host];
  const std::string cpu_name = cpu < 0 ? "" : topology_.devices[cpu].name;
  std::string why = link != nullptr ? link->peer_access_reason : "";
  const PeerAccess known = link != nullptr ? link->peer_access : PeerAccess::kUnknown;
  bool direct = known == PeerAccess::kYes;
  if (known == PeerAccess::kUnknown) {
    direct = UsesPeerAccess(kind, cpu_name, gpus_of_host_[first.host], why);
  }
  if (known == PeerAccess::kNo && why.empty()) why = "the driver offers no peer access";
  Path path = Modelled(kind, bandwidth, !direct);
  path.peer_access = known != PeerAccess::kUnknown ? known
                     : direct && why.empty()       ? PeerAccess::kYes
                                                   : PeerAccess::kUnknown;
  path.why = std::move(why);
  if (!direct) {
    for (int gpu : {a, b}) {
      const Path leg = ToHostMemory(gpu);
      if (leg.bandwidth_bytes_per_s > 0) Narrow(leg, path);
    }
    path.kind = kind;
  }
  if (kind == LinkKind::kSystem &&
      !InOnePackage(topology_.hosts[first.host], first.numa_node, second.numa_node)) {
    const double sockets = SocketBandwidth(cpu_name);
    path.bandwidth_bytes_per_s = std::min(path.bandwidth_bytes_per_s, sockets);
    path.expected_bytes_per_s = std::min(path.expected_bytes_per_s, sockets);
  }
  if (carries) ApplyMeasurements(*link, path);
  return path;
}

Path PathFinder::WithinHost(int a, int b) const {
  const DeviceInfo& first = topology_.devices[a];
  const DeviceInfo& second = topology_.devices[b];
  if (a == b) return OwnMemory(first);
  if (first.kind == DeviceKind::kGpu && second.kind == DeviceKind::kGpu) return BetweenGpus(a, b);
  if (first.kind == second.kind) {
    const Link* link = Direct(a, b);
    return link != nullptr ? FromLink(*link) : Path();
  }
  return ToHostMemory(first.kind == DeviceKind::kGpu ? a : b);
}

Path PathFinder::AcrossHosts(DeviceRef a, DeviceRef b) const {
  const DeviceInfo& first = topology_.devices[a.device];
  const DeviceInfo& second = topology_.devices[b.device];
  const int cpu_a = cpu_of_host_[first.host];
  const int cpu_b = cpu_of_host_[second.host];
  const Link* link = first.host == second.host ? nullptr : Direct(a.device, b.device);
  if (link != nullptr) return FromLink(*link);
  Path path;
  const Fabric* fabric = CommonFabric(a, b);
  if (fabric != nullptr) {
    const double rate = fabric->bandwidth_bytes_per_s / std::max(1, fabric->nics_per_host);
    path = Modelled(fabric->kind, rate, false);
    if (fabric->latency_s > 0) path.latency_s = fabric->latency_s;
    path.why = absl::StrCat("over ", fabric->name);
    if (fabric->kind == LinkKind::kNvlink) {
      path.peer_access = PeerAccess::kYes;
      return path;
    }
  } else if (first.host != second.host && cpu_a >= 0 && cpu_b >= 0 && Direct(cpu_a, cpu_b)) {
    path = FromLink(*Direct(cpu_a, cpu_b));
  } else {
    path.kind = LinkKind::kNetwork;
    path.why = "no network joins their hosts";
    return path;
  }
  path.peer_access = PeerAccess::kNo;
  // A GPU's data crosses its own PCIe link first.
  for (const DeviceRef& end : {a, b}) {
    if (topology_.devices[end.device].kind != DeviceKind::kGpu) continue;
    const Path leg = ToHostMemory(end.device);
    if (leg.bandwidth_bytes_per_s > 0) Narrow(leg, path);
  }
  return path;
}

Path PathFinder::Between(DeviceRef a, DeviceRef b) const {
  const bool one_host = topology_.devices[a.device].host == topology_.devices[b.device].host &&
                        a.instance == b.instance;
  return one_host ? WithinHost(a.device, b.device) : AcrossHosts(a, b);
}

Path PathBetween(const Topology& topology, DeviceRef a, DeviceRef b) {
  return PathFinder(topology).Between(a, b);
}

}  // namespace tprun
