#include "partition/memory_model.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/ipc_protocol.h"
#include "comm/peer_options.h"
#include "engine/kernels/cuda_kernels.h"
#include "topology/gpu_overheads.h"

namespace tprun {
namespace {

// What an IpcCommunicator of so many ranks allocates on each device; see comm/peer_memory.cc.
int64_t IpcBytes(int ranks) {
  if (ranks < 2 || ranks > kMostIpcRanks) return 0;
  constexpr int64_t kPage = 2 * kMiB;
  const IpcOptions options;
  const int64_t bytes =
      LayOutIpc(ranks, options.channels, options.chunk_bytes, options.ring_bytes).total;
  return (bytes + kPage - 1) / kPage * kPage;
}

// A group's communicator, and the one of all ranks: of how many they are the search does not know.
int64_t IpcBytes(const RankRole& role) {
  const int group = role.group_peers + 1;
  return IpcBytes(group) + IpcBytes(role.hop_peers > 0 ? kMostIpcRanks : group);
}

// A group and all ranks have a communicator each, one where they are the same, with a window. NCCL
// has a ring and, for more than two ranks, a tree over a group; see
// clusters/devices/overheads.yaml.
int64_t NcclBytes(const GpuOverheads& overheads, const RankRole& role) {
  const int64_t neighbours = std::min(role.group_peers, 2) + role.hop_peers;
  const int64_t communicators = (role.group_peers > 0 ? 1 : 0) + (role.hop_peers > 0 ? 1 : 0);
  return overheads.nccl_base_bytes + communicators * kNcclWindowBytes +
         NcclOptions().channels * neighbours * overheads.nccl_channel_bytes;
}

std::string SourceOf(const GpuOverheads& overheads) {
  std::string text =
      absl::StrCat(overheads.date, overheads.date.empty() ? "" : ", ", overheads.source);
  if (!overheads.doubt.empty()) absl::StrAppend(&text, "; doubtful: ", overheads.doubt);
  if (overheads.measured.empty()) return text;
  return absl::StrCat(overheads.measured, "; else ", text);
}

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
    return {{"process", kProcessBytes, "resident size with Open MPI 4.1, measured 2026-11"}};
  }
  const GpuOverheads known = OverheadsOfGpu(device);
  std::vector<Overhead> overheads = {
      {"CUDA context", known.context_bytes, SourceOf(known)},
      {"CUDA kernels", kCudaKernelsWorkspaceBytes, "what they allocate: cuBLASLt's workspace too"}};
  if (role.group_peers + role.hop_peers > 0) {
    overheads.push_back({"NCCL buffers", NcclBytes(known, role), SourceOf(known)});
    overheads.push_back(
        {"peer memory", IpcBytes(role), "what the ipc exchange allocates, at most"});
  }
  return overheads;
}

int64_t OverheadBytes(const DeviceInfo& device, const RankRole& role) {
  int64_t bytes = 0;
  for (const Overhead& overhead : OverheadsOf(device, role)) bytes += overhead.bytes;
  return bytes;
}

std::string OverheadSignature(const DeviceInfo& device) {
  const DeviceMeasurements& measured = device.measured;
  return absl::StrCat(measured.context_bytes, " ", measured.nccl_base_bytes, " ",
                      measured.nccl_channel_bytes);
}

}  // namespace tprun
