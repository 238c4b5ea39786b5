#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "topology/alike_hosts.h"
#include "topology/path_model.h"
#include "topology/paths.h"
#include "topology/pcie.h"

namespace tprun {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();

using Group = std::vector<DeviceRef>;

struct Hop {
  Path path;
  double rate = 0;                 // with what other hops of the ring take
  std::vector<std::string> parts;  // shared parts of the machine it goes over
};

// The bridges between the common one and the card, with the direction: data goes up from the
// sender, down to the receiver.
void AddBridges(const DeviceInfo& device, size_t common, absl::string_view direction, Hop& hop) {
  for (size_t i = common; i < device.pci_bridges.size(); ++i) {
    hop.parts.push_back(absl::StrCat(direction, device.pci_bridges[i]));
  }
}

std::vector<std::string> SharedParts(const Topology& topology, DeviceRef a, DeviceRef b, Hop hop) {
  const DeviceInfo& from = topology.devices[a.device];
  const DeviceInfo& to = topology.devices[b.device];
  if (hop.path.kind == LinkKind::kNvlink || hop.path.kind == LinkKind::kC2c) return {};
  size_t common = 0;
  if (!hop.path.through_host) {
    const size_t shorter = std::min(from.pci_bridges.size(), to.pci_bridges.size());
    while (common < shorter && from.pci_bridges[common] == to.pci_bridges[common]) ++common;
  }
  AddBridges(from, common, "up ", hop);
  AddBridges(to, common, "down ", hop);
  if (hop.path.kind == LinkKind::kSystem && from.numa_node >= 0 && to.numa_node >= 0 &&
      !InOnePackage(topology.hosts[from.host], from.numa_node, to.numa_node)) {
    hop.parts.push_back(absl::StrCat("socket ", from.numa_node, " ", to.numa_node));
  }
  return hop.parts;
}

// A bridge carries what the widest member below it can take.
double PartCapacity(const Topology& topology, const Group& group, const std::string& part,
                    bool staged) {
  double widest = 0;
  for (const DeviceRef& ref : group) {
    const DeviceInfo& device = topology.devices[ref.device];
    for (const std::string& bridge : device.pci_bridges) {
      if (part != absl::StrCat("up ", bridge) && part != absl::StrCat("down ", bridge)) continue;
      widest = std::max(widest, PcieBandwidth(device.pcie_generation, device.pcie_width));
    }
  }
  return widest > 0 ? widest * LinkEfficiency(LinkKind::kPix, staged) : kInfinite;
}

// The hops of a ring within one host, each with its share of what several use.
std::vector<Hop> RingHops(const PathFinder& finder, const Group& group) {
  const Topology& topology = finder.topology();
  std::vector<Hop> hops;
  std::map<std::string, int> users;
  for (size_t i = 0; i < group.size(); ++i) {
    const DeviceRef next = group[(i + 1) % group.size()];
    Hop hop;
    hop.path = finder.Between(group[i], next);
    hop.rate = hop.path.expected_bytes_per_s;
    hop.parts = SharedParts(topology, group[i], next, hop);
    for (const std::string& part : hop.parts) ++users[part];
    hops.push_back(std::move(hop));
  }
  const int host = topology.devices[group[0].device].host;
  const int cpu = finder.cpu_of_host(host);
  const double socket = SocketBandwidth(cpu < 0 ? "" : topology.devices[cpu].name);
  for (Hop& hop : hops) {
    for (const std::string& part : hop.parts) {
      if (users[part] < 2) continue;
      const double capacity = part[0] == 's'
                                  ? std::max(socket, hop.path.expected_bytes_per_s)
                                  : PartCapacity(topology, group, part, hop.path.through_host);
      hop.rate = std::min(hop.rate, capacity / users[part]);
    }
  }
  return hops;
}

// Every member writes to every other: worth it for little data only, and only where all reach each
// other's memory.
ExchangeCost OneShot(const PathFinder& finder, const Group& group, double bytes) {
  constexpr size_t kMaxMembers = 16;
  ExchangeCost cost = {kInfinite, kInfinite, "one-shot"};
  if (group.size() > kMaxMembers) return cost;
  double latency = 0;
  std::map<std::string, int> users;
  for (const DeviceRef& a : group) {
    for (const DeviceRef& b : group) {
      if (a == b) continue;
      Hop hop;
      hop.path = finder.Between(a, b);
      if (hop.path.through_host) return cost;
      latency = std::max(latency, hop.path.latency_s);
      cost.bottleneck_bytes_per_s =
          std::min(cost.bottleneck_bytes_per_s, hop.path.expected_bytes_per_s);
      for (const std::string& part : SharedParts(finder.topology(), a, b, hop)) ++users[part];
    }
  }
  // 3.7, 4.8 and 5.9 us for 2, 4 and 8 H100 (sglang pull request 2904): 0.35 us for each peer more.
  const double peers = static_cast<double>(group.size()) - 1;
  latency += 0.35e-6 * (peers - 1);
  double wire = peers * bytes / cost.bottleneck_bytes_per_s;
  for (const auto& [part, count] : users) {
    const double capacity = part[0] == 's' ? cost.bottleneck_bytes_per_s
                                           : PartCapacity(finder.topology(), group, part, false);
    wire = std::max(wire, count * bytes / capacity);
  }
  cost.seconds = latency + wire;
  return cost;
}

// With NVLinks of its own between each two neighbours NCCL runs several rings at once, until the
// links of a member are used up: 8 V100 of a DGX-1 reach 135 of 6 x 25 GB/s (OCI BM.GPU3.8).
double MeshRate(const PathFinder& finder, const Group& group, const std::vector<Hop>& hops) {
  constexpr size_t kMaxMembers = 64;  // more are joined by switches
  if (group.size() > kMaxMembers) return 0;
  for (const Hop& hop : hops) {
    if (hop.path.kind != LinkKind::kNvlink) return 0;
  }
  double least = kInfinite;
  for (const DeviceRef& member : group) {
    double sum = 0;
    for (const DeviceRef& other : group) {
      const Link* link = finder.Direct(member.device, other.device);
      if (member == other || link == nullptr || link->kind != LinkKind::kNvlink ||
          link->peer_access == PeerAccess::kNo) {
        continue;
      }
      if (link->via_switch || member.instance != other.instance) return 0;
      sum += finder.Between(member, other).expected_bytes_per_s;
    }
    least = std::min(least, sum);
  }
  return least;
}

ExchangeCost Ring(const std::vector<Hop>& hops, double mesh_rate, double bytes) {
  ExchangeCost cost = {0, kInfinite, "ring"};
  StepLatency step;
  for (const Hop& hop : hops) {
    cost.bottleneck_bytes_per_s = std::min(cost.bottleneck_bytes_per_s, hop.rate);
    const StepLatency one = RingStep(hop.path.kind, hop.path.through_host);
    step.small = std::max(step.small, one.small);
    step.large = std::max(step.large, one.large);
  }
  cost.bottleneck_bytes_per_s = std::max(cost.bottleneck_bytes_per_s, mesh_rate);
  const double members = static_cast<double>(hops.size());
  const double steps = 2 * (members - 1);
  const double wire = steps / members * bytes / cost.bottleneck_bytes_per_s;
  // The low-latency protocol sends a flag with every word of data: half of the rate.
  cost.seconds = std::min(kRingStart + steps * step.small + 2 * wire,
                          kRingStartLarge + steps * step.large + wire);
  return cost;
}

// NCCL's double binary tree: up and down, all links busy in both directions.
ExchangeCost Tree(const std::vector<Hop>& hops, double mesh_rate, double bytes) {
  ExchangeCost cost = {0, kInfinite, "tree"};
  double step = 0;
  for (const Hop& hop : hops) {
    cost.bottleneck_bytes_per_s = std::min(cost.bottleneck_bytes_per_s, hop.rate);
    step = std::max(step, TreeStep(hop.path.kind, hop.path.through_host));
  }
  cost.bottleneck_bytes_per_s = std::max(cost.bottleneck_bytes_per_s, mesh_rate);
  const double depth = std::ceil(std::log2(static_cast<double>(hops.size())));
  cost.seconds = kTreeStart + 2 * depth * step + 2 * 2 * bytes / cost.bottleneck_bytes_per_s;
  return cost;
}

ExchangeCost Cheapest(std::initializer_list<ExchangeCost> costs) {
  return *std::min_element(costs.begin(), costs.end(),
                           [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
}

ExchangeCost WithinHost(const PathFinder& finder, const Group& group, double bytes) {
  if (group.size() < 2) return {0, kInfinite, "none"};
  const std::vector<Hop> hops = RingHops(finder, group);
  for (const Hop& hop : hops) {
    if (hop.rate <= 0) return {kInfinite, 0, "none"};
  }
  const double mesh_rate = MeshRate(finder, group, hops);
  ExchangeCost cost = Cheapest(
      {OneShot(finder, group, bytes), Ring(hops, mesh_rate, bytes), Tree(hops, mesh_rate, bytes)});
  const bool staged =
      std::any_of(hops.begin(), hops.end(), [](const Hop& hop) { return hop.path.through_host; });
  if (staged) cost.algorithm += " through the host";
  return cost;
}

// NVLink switches between hosts: all members are as in one host.
bool IsOneIsland(const PathFinder& finder, const Group& group) {
  for (size_t i = 0; i < group.size(); ++i) {
    const Path path = finder.Between(group[i], group[(i + 1) % group.size()]);
    if (path.kind != LinkKind::kNvlink) return false;
  }
  return true;
}

// One slice of the data per NIC crosses the network at the same time, as far as there are members.
ExchangeCost BetweenHosts(const PathFinder& finder, const std::vector<Group>& hosts, double bytes) {
  ExchangeCost cost = {0, kInfinite, "hosts, then ring"};
  double latency = 0;
  StepLatency step;
  for (size_t i = 0; i < hosts.size(); ++i) {
    const Group& here = hosts[i];
    const Group& next = hosts[(i + 1) % hosts.size()];
    const Path path = finder.Between(here[0], next[0]);
    double rate = path.expected_bytes_per_s;
    if (const Fabric* fabric = finder.CommonFabric(here[0], next[0])) {
      const double lanes =
          std::min<double>(std::max(1, fabric->nics_per_host),
                           static_cast<double>(std::min(here.size(), next.size())));
      const double share = fabric->bandwidth_bytes_per_s / std::max(1.0, fabric->oversubscription) *
                           LinkEfficiency(LinkKind::kNetwork, false);
      rate = std::min(rate * lanes, share);
    }
    cost.bottleneck_bytes_per_s = std::min(cost.bottleneck_bytes_per_s, rate);
    latency = std::max(latency, path.latency_s);
    const StepLatency one = RingStep(path.kind, path.through_host);
    step.small = std::max({step.small, one.small, path.latency_s});
  }
  const double count = static_cast<double>(hosts.size());
  const double wire = 2 * (count - 1) / count * bytes / cost.bottleneck_bytes_per_s;
  const double ring = kRingStart + 2 * (count - 1) * step.small + wire;
  const double tree = kTreeStart + 2 * std::ceil(std::log2(count)) * latency +
                      2 * bytes / cost.bottleneck_bytes_per_s;
  cost.seconds = std::min(ring, tree);
  if (tree < ring) cost.algorithm = "hosts, then tree";
  return cost;
}

std::vector<Group> ByHost(const Topology& topology, const Group& group) {
  std::map<std::pair<int, int>, size_t> places;
  std::vector<Group> hosts;
  std::pair<int, int> last = {-1, -1};
  for (const DeviceRef& ref : group) {
    const auto key = std::make_pair(topology.devices[ref.device].host, ref.instance);
    if (key == last) {
      hosts.back().push_back(ref);
      continue;
    }
    const auto [place, is_new] = places.emplace(key, hosts.size());
    last = is_new ? key : std::make_pair(-1, -1);
    if (is_new) hosts.emplace_back();
    hosts[place->second].push_back(ref);
  }
  return hosts;
}

// One group of those that are alike: what one host takes, all its like take.
std::vector<Group> UnlikeHosts(const Topology& topology, const std::vector<Group>& hosts) {
  constexpr size_t kFew = 16;
  if (hosts.size() <= kFew) return hosts;
  const std::vector<int> alike = AlikeHosts(topology);
  const std::vector<std::vector<int>> devices = DevicesByHost(topology);
  std::set<std::pair<int, std::vector<int>>> seen;  // the kind of host, places of its members
  std::vector<Group> unlike;
  for (const Group& members : hosts) {
    const int host = topology.devices[members[0].device].host;
    std::vector<int> places;
    for (const DeviceRef& member : members) {
      const std::vector<int>& all = devices[host];
      places.push_back(std::lower_bound(all.begin(), all.end(), member.device) - all.begin());
    }
    if (seen.emplace(alike[host], std::move(places)).second) unlike.push_back(members);
  }
  return unlike;
}

}  // namespace

ExchangeCost AllReduceCost(const Topology& topology, const std::vector<DeviceRef>& group,
                           int64_t bytes) {
  return AllReduceCost(PathFinder(topology), group, bytes);
}

ExchangeCost AllReduceCost(const PathFinder& finder, const std::vector<DeviceRef>& group,
                           int64_t bytes) {
  if (group.size() < 2) return {0, 0, "none"};
  const double size = static_cast<double>(std::max<int64_t>(0, bytes));
  const std::vector<Group> hosts = ByHost(finder.topology(), group);
  if (hosts.size() == 1 || IsOneIsland(finder, group)) return WithinHost(finder, group, size);
  ExchangeCost inside = {0, kInfinite, "none"};
  for (const Group& members : UnlikeHosts(finder.topology(), hosts)) {
    const ExchangeCost cost = WithinHost(finder, members, size);
    inside.seconds = std::max(inside.seconds, cost.seconds);
    inside.bottleneck_bytes_per_s =
        std::min(inside.bottleneck_bytes_per_s, cost.bottleneck_bytes_per_s);
  }
  ExchangeCost cost = BetweenHosts(finder, hosts, size);
  if (!(cost.bottleneck_bytes_per_s > 0)) return {kInfinite, 0, "none"};
  cost.seconds += inside.seconds;
  cost.bottleneck_bytes_per_s =
      std::min(cost.bottleneck_bytes_per_s, inside.bottleneck_bytes_per_s);
  return cost;
}

}  // namespace tprun
