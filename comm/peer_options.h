#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace tprun {

// The ranks that a communicator over devices is made for.
struct PeerGroup {
  std::unique_ptr<Communicator> bootstrap;  // over host memory, for nobody else
  std::vector<int> world_ranks;             // what errors name them by
};

// Where a rank's memory is, to compare among ranks, which exchange it as the bytes that it is.
struct PeerIdentity {
  uint64_t host = 0;     // digest of the host's name and boot
  uint64_t process = 0;  // digest of the process, unique on the host
  uint8_t gpu[16] = {};  // its UUID
  int32_t is_gpu = 0;    // else memory that the host reaches
  int32_t has_nccl = 0;  // the NCCL library loads
};

// Device memory of each NCCL communicator (2.27 and later) that all its ranks reach: sums up to
// this size go through it, enough for 512 tokens of 8,192 elements.
inline constexpr int64_t kNcclWindowBytes = int64_t{16} << 20;

struct NcclOptions {
  // Channels (CTAs) of one communicator; each takes some 10 MiB of device memory per neighbour.
  int channels = 8;
};

// See comm/ipc_protocol.h.
struct IpcOptions {
  int channels = 16;                        // at most; see comm/ipc_channels.h
  int64_t chunk_bytes = int64_t{16} << 10;  // of a rank's part that a channel passes on at once
  int64_t ring_bytes = int64_t{2} << 20;    // messages on their way from one rank to another
  // Threads of one process meet on the host before and after they give their GPUs a kernel that
  // waits: CUDA may hold up one thread's work (the first launch of a kernel, an allocation) until
  // the other's kernel has ended, which waits for that work; also where each has its own GPU.
  bool meet_on_host = true;
};

}  // namespace tprun
