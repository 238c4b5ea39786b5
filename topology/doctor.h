#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "topology/detect_pci.h"
#include "topology/nvml_health.h"
#include "topology/topology.h"

namespace tprun {

// What `tprun doctor` knows of a machine. A fact that is not known leaves the checks that need it
// out, so that a dump of a box far away is checked by the same code as far as it goes.

// A Link::peer_access_reason of this beginning: the driver promises peer access, and what one GPU
// wrote the other did not read.
inline constexpr absl::string_view kPeerAccessBroken = "broken: ";

// A limit of `ulimit`, or bytes.
inline constexpr int64_t kUnlimited = INT64_MAX;

struct FileSystemSpace {
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;
};

// What /proc, /sys and the environment of this process say.
struct SystemFacts {
  int64_t ram_bytes = 0;                    // of the machine; a container may have less
  int64_t memory_limit_bytes = kUnlimited;  // of the control group
  double cpu_limit = 0;                     // CPUs of the control group, 0: none
  int cpus_online = 0;                      // 0: unknown
  std::string cpus_allowed;                 // to this process: "0-15"
  bool in_container = false;
  std::optional<FileSystemSpace> shared_memory;  // /dev/shm; absent: not mounted
  std::string transparent_hugepages;             // "always", "madvise", "never", "": unknown
  int64_t reserved_hugepage_bytes = 0;           // of which nobody uses:
  int64_t free_hugepage_bytes = 0;
  int64_t lockable_bytes = kUnlimited;  // ulimit -l
  int64_t open_files = kUnlimited;      // ulimit -n, soft
  int64_t open_files_hard = kUnlimited;
  std::map<std::string, int> governors;  // CPUs by scaling governor
  std::string frequency_driver;          // "intel_pstate"
  std::string energy_preference;         // "balance_performance", "" if there is none
  Iommu iommu = Iommu::kUnknown;
  // Bridges above GPUs that send what these write to each other through the CPU.
  std::vector<std::string> redirecting_bridges;
  bool bridges_readable = false;                   // false: ACS is unknown
  bool peer_memory_module = false;                 // nvidia_peermem is loaded (GPUDirect RDMA)
  std::map<std::string, std::string> environment;  // CUDA_* and NCCL_* of this process
};

// The driver as NVML and the kernel tell it.
struct DriverFacts {
  bool loaded = false;
  std::string problem;             // why NVML does not load or start
  std::string kernel_version;      // of the kernel module, "" if none
  std::vector<PciFunction> cards;  // NVIDIA GPUs by sysfs
};

// An MPI launcher in the PATH.
struct MpiInstallation {
  std::string mpirun;   // its path, links resolved
  std::string version;  // "Open MPI 4.1.4", "" if it does not tell
};

// What this program brings and finds.
struct SoftwareFacts {
  std::string mpi;                         // linked: "Open MPI 4.1.4", "none"
  std::string mpirun;                      // that it would start ranks with, "": not found
  std::vector<MpiInstallation> mpi_found;  // in the PATH, each once
  bool cuda_module = false;
  std::string cuda_module_problem;  // why it did not load
  std::string cuda_runtime;         // that the module was built with: "13.0"
  std::string nccl;                 // "2.28.3"
  bool peers_tried = false;         // every two GPUs wrote to each other
};

struct DoctorFacts {
  Topology topology;
  std::vector<GpuHealth> health;
  std::optional<SystemFacts> system;
  std::optional<DriverFacts> driver;
  std::optional<SoftwareFacts> software;
};

enum class Severity { kOk, kWarning, kProblem };

struct Finding {
  std::string check;    // "pcie-link": stable, for scripts
  std::string subject;  // "cuda:0", "/dev/shm"
  Severity severity = Severity::kOk;
  std::string found;
  std::string remedy;  // what to do; "" when nothing is wrong
};

// All that the facts allow to say, in the order of the checks. Pure: the same facts give the same
// findings. To add a check: a function in one of the doctor_*.cc files, a line in doctor.cc, a
// made-up machine in tests/topology/doctor_test.cc.
std::vector<Finding> Diagnose(const DoctorFacts& facts);

absl::string_view SeverityName(Severity severity);  // "ok", "warning", "problem"
Severity WorstOf(const std::vector<Finding>& findings);

}  // namespace tprun
