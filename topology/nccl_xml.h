#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// What NCCL's topology XML says (NCCL_TOPO_DUMP_FILE, NCCL_TOPO_FILE; src/graph/xml.cc of NCCL).
struct NcclSystem {
  struct Cpu {
    int line = 0;
    int numa = -1;                    // -1: unknown (VM)
    std::optional<std::string> cpus;  // "0-23,48-71"; nullopt: not stated
    std::string arch, vendor;
    std::string host_hash;  // tells the hosts of a file about several
  };
  struct NvLink {
    int line = 0;
    std::string target;  // normal bus id; "" for a switch that the VM does not show
    int count = 0;
    int target_class = -1;  // 0x0302xx a GPU, 0x0680xx a switch or a POWER CPU; -1: not stated
  };
  struct Net {
    std::string name;
    int64_t megabit_per_s = 0;  // 0: unknown
  };
  struct Pci {
    int line = 0;
    int cpu = -1;     // index into cpus
    int parent = -1;  // index into pcis, -1: directly below the CPU
    std::string bus_id;
    int device_class = -1;               // 0x030200; -1: not stated
    std::string pci_id;                  // "10de:2330"
    std::string link_speed, link_width;  // as written; "" and "0": unknown
    bool has_children = false;           // other pcis
    bool has_gpu = false;
    bool has_nic = false;
    int gpu_dev = -1, gpu_rank = -1, gpu_sm = -1;
    double c2c_bytes_per_s = 0;
    std::vector<NvLink> nvlinks;
    std::vector<Net> nets;

    bool is_gpu() const;
    bool is_nic() const;
    bool is_bridge() const { return has_children || device_class >> 8 == 0x0604; }
    int pcie_generation() const;  // 0: unknown
    int pcie_width() const;       // 0: unknown
  };
  std::vector<Cpu> cpus;
  std::vector<Pci> pcis;          // in document order, parents before children
  std::vector<Net> virtual_nets;  // of a <nic> directly below a <cpu>: bridges, docker, ...
  std::vector<std::string> notes;
};

// InvalidArgument gives `path`, line and reason.
absl::StatusOr<NcclSystem> ParseNcclXml(absl::string_view text, const std::string& path);

}  // namespace tprun
