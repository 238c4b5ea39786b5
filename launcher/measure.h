#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/device_probe.h"
#include "topology/topology.h"

namespace tprun {

// What `tprun topo --measure` does. All of it writes to the members for measured figures and never
// to nominal ones; what could not be measured becomes a note.

// All of this machine's devices and links, in seconds: CPU memory and matmul rates, two ranks that
// exchange, then the GPUs by the CUDA module. `tell` hears what is going on.
void MeasureMachine(Topology& topology, const std::function<void(const std::string&)>& tell);

// Memory bandwidth and matmul rates of the CPU.
void MeasureCpu(DeviceInfo& cpu);

// Operations (a multiply and an add are two) per second of x [256, 2048] times a weight matrix
// [2048, 2048], by weight format, with `threads` threads; about 0.2 s each.
std::map<std::string, double> MeasureCpuMatmul(int threads);

// Rates of every GPU of `topology`, then every two of them: bandwidth, latency, and whether peer
// access works, which is written and read back.
void MeasureGpus(DeviceProbe& probe, Topology& topology,
                 const std::function<void(const std::string&)>& tell);

// The part of MeasureGpus that `tprun doctor` wants: peer access alone.
void VerifyPeerAccess(DeviceProbe& probe, Topology& topology);

// Two ranks on this host.
struct RankExchange {
  double latency_s = 0;              // all-reduce of 4 KiB, median
  double bandwidth_bytes_per_s = 0;  // all-reduce of 4 MiB, its bytes by its median time
};
absl::StatusOr<RankExchange> MeasureExchange(Communicator& world);

// Through mpirun when there is one, else as threads.
absl::StatusOr<RankExchange> MeasureRanks();

// What MeasureRanks starts under mpirun: measures, and rank 0 leaves the result in `path`.
absl::Status RunMeasuredRank(const std::string& path);

}  // namespace tprun
