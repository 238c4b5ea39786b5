#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tprun {

// The part of a host's NUMA nodes that one of its CPU ranks runs on: its threads stay on these
// processors, and the memory that they touch first lies in these nodes.
struct NumaShare {
  std::vector<int> nodes;
  std::vector<int> cpus;  // ascending; empty: nothing is to be bound
};

// Of the ranks that may use the same processors, the one with `index` of `ranks`. Ranks go to nodes
// evenly, several to one or one to several; on a host with a single node, or where the system does
// not tell, nothing is bound. `root` is put in front of /sys (tests have their own).
NumaShare ShareNumaNodes(const std::vector<int>& allowed_cpus, int index, int ranks,
                         const std::string& root = "");

// Binds the calling thread and those that it starts from then on. Memory of a share of several
// nodes takes turns among them, so that each thread reads with the bandwidth of all.
absl::Status BindToShare(const NumaShare& share);

// "NUMA node 1 (processors 4-7,12-15)"; of several nodes also how memory lies in them. Empty where
// nothing is bound.
std::string DescribeShare(const NumaShare& share);

// The processors that the calling thread may use.
std::vector<int> AllowedCpus();

}  // namespace tprun
