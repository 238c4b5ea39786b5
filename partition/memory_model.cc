#include "partition/memory_model.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/kernels/cuda_kernels.h"

namespace tprun {
namespace {

// Driver context and module of a bare C++ process with lazily loaded kernels. Measured by others
// with one tiny tensor of PyTorch: 481 MiB on an H100 (github.com/stas00/ml-engineering, commit
// 744d01e), about 300 MiB where the card is not named (pytorch issue 107667); 551 MB as
// NVIDIA's aiconfigurator had it with cuBLAS. Contexts grow with the number of SMs.
constexpr int64_t kDataCenterContext = 400 * kMiB;
constexpr int64_t kDesktopContext = 250 * kMiB;

// NCCL per channel and peer: 4 MiB for the simple protocol, 512 KiB LL, 4.69 MiB LL128 (nccl
// src/init.cc and src/include/device.h, commit 5067397c); two channels are what messages of one
// token need. Observed with all channels: 342 to 392 MiB (aiconfigurator), 544 MiB for two and 688
// MiB for three or four A100 (nccl issue 964). A communicator itself takes some 100 MiB.
constexpr int64_t kNcclChannelPeer = 9'640'000;
constexpr int kNcclChannels = 2;
constexpr int64_t kNcclBase = 100 * kMiB;

// Program, MPI and thread stacks, resident, Debian 12 with Open MPI 4.1 (2026-11), and a tokenizer.
constexpr int64_t kCpuProcess = 24 * kMiB;

bool IsDataCenter(const DeviceInfo& device) { return device.memory_bytes >= 39 * kGiB; }

}  // namespace

absl::StatusOr<std::pair<std::string, int64_t>> ParseLimit(absl::string_view text) {
  const size_t at = text.rfind('=');
  if (at == absl::string_view::npos || at == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--limit: wanted a device and a size such as cuda:1=10GiB, found \"", text, "\""));
  }
  absl::StatusOr<int64_t> bytes = ParseBytes(text.substr(at + 1));
  if (!bytes.ok()) return Annotate(bytes.status(), "--limit");
  return std::make_pair(std::string(text.substr(0, at)), *bytes);
}

int64_t ReserveOf(const DeviceInfo& device, const MemoryLimits& limits) {
  if (limits.reserve_bytes != kReserveByUse) return limits.reserve_bytes;
  // What a driver holds of an idle card is less.
  constexpr int64_t kIdle = 600 * kMiB;
  const int64_t others = device.memory_bytes - device.available_bytes;
  return device.kind == DeviceKind::kGpu && others > kIdle ? kSharedGpuReserve : 0;
}

int64_t UsableBytes(const DeviceInfo& device, absl::string_view id, const MemoryLimits& limits,
                    int ranks) {
  int64_t usable = device.available_bytes - ReserveOf(device, limits);
  if (limits.utilization < 1) {
    const int64_t others = std::max<int64_t>(0, device.memory_bytes - device.available_bytes);
    const double allowed = limits.utilization * static_cast<double>(device.memory_bytes);
    usable = std::min(usable, static_cast<int64_t>(allowed) - others);
  }
  const auto limit = limits.limit_bytes.find(std::string(id));
  if (limit != limits.limit_bytes.end()) usable = std::min(usable, limit->second);
  return std::max<int64_t>(0, usable) / ranks;
}

std::vector<Overhead> OverheadsOf(const DeviceInfo& device, const RankRole& role) {
  if (device.kind == DeviceKind::kCpu) {
    return {{"process", kCpuProcess, "resident size with Open MPI 4.1, measured 2026-11"}};
  }
  std::vector<Overhead> overheads = {
      {"CUDA context", IsDataCenter(device) ? kDataCenterContext : kDesktopContext,
       "estimate between published measurements of 250 and 481 MiB"},
      {"CUDA kernels", kCudaKernelsWorkspaceBytes, "what they allocate: cuBLASLt's workspace too"}};
  const int peers = role.group_peers + role.hop_peers;
  if (peers > 0) {
    overheads.push_back({"NCCL buffers", kNcclBase + kNcclChannels * kNcclChannelPeer * peers,
                         "nccl sources: two channels to each peer; the base is an estimate"});
  }
  return overheads;
}

int64_t OverheadBytes(const DeviceInfo& device, const RankRole& role) {
  int64_t bytes = 0;
  for (const Overhead& overhead : OverheadsOf(device, role)) bytes += overhead.bytes;
  return bytes;
}

}  // namespace tprun
