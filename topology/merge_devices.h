#pragma once

#include <string>
#include <vector>

#include "topology/topology.h"

namespace tprun {

// Parts of MergeTopologies (source.h).

// What is joined into `mine`: facts that it lacks are taken from `other`; where both state one and
// they differ, mine stays and `notes` gets a line. `source` is where other comes from.
void MergeDevice(const DeviceInfo& other, const std::string& source, DeviceInfo& mine,
                 std::vector<std::string>& notes);
void MergeLink(const Link& other, const std::string& between, Link& mine,
               std::vector<std::string>& notes);

// Whether two names may be of the same model: nvidia-smi cuts long ones ("Tesla V100-SXM2...") and
// newer drivers put "NVIDIA " in front. An unknown name agrees with all.
bool NamesAgree(const std::string& a, const std::string& b);

// For each of `theirs` the index in `mine` of the same GPU: joined by UUID, else by PCI bus id,
// else by index where counts and names agree. kNewGpu: it is another one; kUnknownGpu: that cannot
// be told. `by_index` tells whether it came to that.
inline constexpr int kNewGpu = -1;
inline constexpr int kUnknownGpu = -2;
std::vector<int> JoinGpus(const std::vector<const DeviceInfo*>& theirs,
                          const std::vector<const DeviceInfo*>& mine, bool& by_index);

}  // namespace tprun
