#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// Memory that LayOutMemory does not know of: what drivers and libraries allocate, and how much of a
// device a rank may use.

inline constexpr int64_t kReserveByUse = -1;
// A desktop takes and gives back some hundred MiB as windows open and close; what a window would
// need then must not be ours. (llama.cpp leaves 1 GiB on every card, vLLM 8 % of it.)
inline constexpr int64_t kSharedGpuReserve = int64_t{256} << 20;

// Program, MPI and thread stacks, resident, Debian 12 with Open MPI 4.1 (2026-11), and a tokenizer.
inline constexpr int64_t kProcessBytes = int64_t{24} << 20;

// How much of the free memory of devices may be used.
struct MemoryLimits {
  double utilization = 1;  // of a device's total memory, ours and others' use together
  // Left free on every device; kReserveByUse: of GPUs that others use too kSharedGpuReserve.
  int64_t reserve_bytes = kReserveByUse;
  std::map<std::string, int64_t> limit_bytes;  // by device id: at most this
};

// "cuda:1=10GiB". InvalidArgument says what was wanted.
absl::StatusOr<std::pair<std::string, int64_t>> ParseLimit(absl::string_view text);

// What is left free on `device` under these limits.
int64_t ReserveOf(const DeviceInfo& device, const MemoryLimits& limits);

// What one rank may use of `device` (named `id`), shared by `ranks` ranks in equal parts: the least
// of free memory less the reserve, the utilised part of the total less what others use, and the
// device's own limit; not below 0.
int64_t UsableBytes(const DeviceInfo& device, absl::string_view id, const MemoryLimits& limits,
                    int ranks = 1);

// A rank's part in the exchanges of a plan.
struct RankRole {
  int group_peers = 0;  // most other ranks in one of its groups
  int hop_peers = 0;    // ranks outside its groups that it sends to or receives from
};

struct Overhead {
  std::string name;  // "CUDA context", "NCCL buffers"
  int64_t bytes = 0;
  std::string source;
};

// What a process holds on `device` beside our own allocations.
std::vector<Overhead> OverheadsOf(const DeviceInfo& device, const RankRole& role);
int64_t OverheadBytes(const DeviceInfo& device, const RankRole& role);
// Equal for devices of one type of which the same is held.
std::string OverheadSignature(const DeviceInfo& device);

}  // namespace tprun
