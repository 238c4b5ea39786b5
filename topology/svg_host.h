#pragma once

#include <string>

#include "topology/text_view.h"

namespace tprun {

// A host as a picture: NVLink above the GPUs, PCIe switches, NUMA nodes and NICs below.
struct HostPicture {
  std::string svg;  // at the origin
  int width = 0;
  int height = 0;
};

// Host `index` of the topology; at most 16 of its GPUs.
HostPicture DrawHost(const TextView& view, int index);

}  // namespace tprun
