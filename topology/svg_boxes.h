#pragma once

#include <string>

#include "topology/topology.h"

namespace tprun {

// A GPU with its memory; left upper corner and size in pixels.
std::string SvgGpu(const DeviceInfo& gpu, int x, int y, int width, int height);

// A CPU or NUMA node with its memory (`total` 0: not known), from `left` to `right`.
std::string SvgNode(const std::string& text, int64_t total, int64_t available, int left, int right,
                    int y, int height);

// "EPYC 7302P 16-Core" of "AMD EPYC 7302P 16-Core Processor".
std::string ShortCpuName(const std::string& name);

// Name, cores and bandwidth.
std::string CpuText(const DeviceInfo& cpu);

}  // namespace tprun
