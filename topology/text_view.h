#pragma once

#include <string>
#include <vector>

#include "topology/paths.h"
#include "topology/topology.h"

namespace tprun {

// What all parts of TopologyText look at. Hosts that are alike are shown once, by the first.
struct TextView {
  TextView(const Topology& topology, bool color);

  bool IsShown(int host) const { return alike[host] == host; }
  // "n0 ... n9999 (10000)" for a host that stands for others, else its name; several copies of a
  // counted host are "node0 ... node15".
  std::string HostLabel(int host) const;
  std::string HostSpan(int host) const;  // without the number

  const Topology& topology;
  bool color;
  PathFinder finder;
  std::vector<std::vector<int>> devices;  // of each host, the CPU first
  std::vector<int> alike;                 // of each host the first that is alike
  std::vector<int> count;                 // how many listed hosts each of these stands for
  std::vector<int> last;                  // the last of them
};

std::string RateOrUnknown(double rate);  // "31.5 GB/s", "?" for 0

// A list of CPUs ("0-15,32-47") cut where it is long, with their number.
std::string ShortCpus(const std::string& cpus);

}  // namespace tprun
