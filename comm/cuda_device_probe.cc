#include "comm/cuda_device_probe.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/cuda_device.h"
#include "comm/cuda_error.h"
#include "comm/cuda_matmul_rate.h"
#include "comm/cuda_probe.h"
#include "comm/cuda_timer.h"
#include "comm/ipc_launch.h"
#include "comm/nccl_communicator.h"

namespace tprun {
namespace {

constexpr int64_t kMostBytes = 1024 * kMiB;  // far above any L2 cache
// Of the memory, in one timing: 1 ms where it reads 8 TB/s, so that the events' own time is little.
constexpr int kReadings = 8;
constexpr int64_t kPatternBytes = 4 * kMiB;
constexpr int kRounds = 5;

std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

absl::StatusOr<CudaDevice*> OpenGpu(int ordinal, std::unique_ptr<Device>& owner) {
  ASSIGN_OR_RETURN(owner, CudaDevice::Open(ordinal));
  return CudaDevice::Of(*owner);
}

// As much as is asked for, or half of what is free.
absl::StatusOr<std::unique_ptr<Buffer>> AllocateMost(CudaDevice& device, int64_t most) {
  ASSIGN_OR_RETURN(const int64_t free, device.FreeMemory());
  const int64_t bytes = std::min(most, free / 2) / kMiB * kMiB;
  if (bytes < 8 * kMiB) {
    return absl::ResourceExhaustedError(
        absl::StrCat(device.name(), ": ", FormatBytes(free), " are free, too little to measure"));
  }
  return device.Allocate(bytes);
}

class CudaDeviceProbe final : public DeviceProbe {
 public:
  ProbeVersions versions() const override {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return {VersionText(driver), VersionText(runtime), NcclVersion()};
  }
  absl::StatusOr<std::vector<ProbedGpu>> Gpus() override;
  absl::StatusOr<GpuRates> MeasureGpu(int ordinal) override;
  absl::StatusOr<PeerRates> MeasurePeer(int from, int to) override;
};

absl::StatusOr<std::vector<ProbedGpu>> CudaDeviceProbe::Gpus() {
  int count = 0;
  CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
  std::vector<ProbedGpu> gpus;
  for (int i = 0; i < count; ++i) {
    char bus_id[32] = {};
    cudaDeviceProp properties;
    CUDA_RETURN_IF_ERROR(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), i));
    CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, i));
    gpus.push_back({i, absl::AsciiStrToLower(bus_id), properties.name});
  }
  return gpus;
}

absl::StatusOr<double> ReadRate(CudaDevice& device, const Buffer& size, void* memory) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> sink, device.Allocate(4));
  auto* const word = static_cast<uint32_t*>(sink->data());
  const auto read = [&]() -> absl::Status {
    for (int i = 0; i < kReadings; ++i) {
      CUDA_RETURN_IF_ERROR(
          LaunchRead(memory, size.size(), device.multiprocessors(), word, device.stream()));
    }
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(const double seconds, BestSeconds(device, kRounds, read));
  return kReadings * static_cast<double>(size.size()) / seconds;
}

absl::StatusOr<GpuRates> CudaDeviceProbe::MeasureGpu(int ordinal) {
  std::unique_ptr<Device> owner;
  ASSIGN_OR_RETURN(CudaDevice* const device, OpenGpu(ordinal, owner));
  GpuRates rates;
  {
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> memory, AllocateMost(*device, kMostBytes));
    ASSIGN_OR_RETURN(rates.memory_bandwidth_bytes_per_s,
                     ReadRate(*device, *memory, memory->data()));
    const int64_t bytes = std::min(memory->size(), 64 * kMiB);
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> host, device->AllocateHost(bytes));
    ASSIGN_OR_RETURN(const double up, BestSeconds(*device, kRounds, [&] {
                       return device->EnqueueCopyFromHost(memory->data(), host->data(), bytes);
                     }));
    ASSIGN_OR_RETURN(const double down, BestSeconds(*device, kRounds, [&] {
                       return device->EnqueueCopyToHost(host->data(), memory->data(), bytes);
                     }));
    rates.host_to_device_bytes_per_s = static_cast<double>(bytes) / up;
    rates.device_to_host_bytes_per_s = static_cast<double>(bytes) / down;
  }
  const absl::StatusOr<double> bf16 = MeasureBf16MatMul(*device);
  if (bf16.ok()) rates.matmul_ops_per_s["bf16"] = *bf16;
  return rates;
}

// Two GPUs, and memory of each.
struct Pair {
  std::unique_ptr<Device> from_owner, to_owner;
  CudaDevice* from = nullptr;
  CudaDevice* to = nullptr;
  std::unique_ptr<Buffer> at_from, at_to;
};

absl::Status EnablePeer(const CudaDevice& device, int peer) {
  RETURN_IF_ERROR(device.MakeCurrent());
  const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
  cudaGetLastError();
  if (error == cudaSuccess || error == cudaErrorPeerAccessAlreadyEnabled) return absl::OkStatus();
  return CudaStatus(error, "cudaDeviceEnablePeerAccess", __FILE__, __LINE__);
}

// How many words that `from` wrote into the memory of `to` arrived wrong.
absl::StatusOr<unsigned> CountWrong(Pair& pair) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> count, pair.to->Allocate(sizeof(unsigned)));
  auto* const wrong = static_cast<unsigned*>(count->data());
  RETURN_IF_ERROR(pair.from->MakeCurrent());
  CUDA_RETURN_IF_ERROR(LaunchWritePattern(pair.at_to->data(), kPatternBytes, pair.from->index(),
                                          pair.to->index(), pair.from->stream()));
  RETURN_IF_ERROR(pair.from->Synchronize());
  RETURN_IF_ERROR(pair.to->MakeCurrent());
  CUDA_RETURN_IF_ERROR(LaunchCheckPattern(pair.at_to->data(), kPatternBytes, pair.from->index(),
                                          pair.to->index(), wrong, pair.to->stream()));
  unsigned found = 0;
  RETURN_IF_ERROR(pair.to->CopyToHost(&found, wrong, sizeof(found)));
  return found;
}

// Half of the time of one exchange; 0 when the game is not played to its end.
absl::StatusOr<double> Latency(Pair& pair) {
  constexpr int kExchanges = 1000;
  constexpr uint64_t kTimeoutNs = 300'000'000;
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> a, pair.from->Allocate(16));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> b, pair.to->Allocate(16));
  auto* const word_a = static_cast<uint64_t*>(a->data());
  auto* const word_b = static_cast<uint64_t*>(b->data());
  const auto begin = std::chrono::steady_clock::now();
  RETURN_IF_ERROR(pair.to->MakeCurrent());
  CUDA_RETURN_IF_ERROR(LaunchPingPong(word_b, word_a, kExchanges, /*first=*/false, kTimeoutNs,
                                      reinterpret_cast<uint32_t*>(word_b + 1), pair.to->stream()));
  RETURN_IF_ERROR(pair.from->MakeCurrent());
  CUDA_RETURN_IF_ERROR(LaunchPingPong(word_a, word_b, kExchanges, /*first=*/true, kTimeoutNs,
                                      reinterpret_cast<uint32_t*>(word_a + 1),
                                      pair.from->stream()));
  RETURN_IF_ERROR(pair.from->Synchronize());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  RETURN_IF_ERROR(pair.to->Synchronize());
  uint64_t failed = 0;
  RETURN_IF_ERROR(pair.from->CopyToHost(&failed, word_a + 1, sizeof(failed)));
  return failed != 0 ? 0.0 : took.count() / (2 * kExchanges);
}

absl::Status MeasurePair(Pair& pair, PeerRates& rates) {
  int possible = 0;
  CUDA_RETURN_IF_ERROR(cudaDeviceCanAccessPeer(&possible, pair.from->index(), pair.to->index()));
  rates.possible = possible != 0;
  if (rates.possible) {
    RETURN_IF_ERROR(EnablePeer(*pair.from, pair.to->index()));
    RETURN_IF_ERROR(EnablePeer(*pair.to, pair.from->index()));
    ASSIGN_OR_RETURN(const unsigned wrong, CountWrong(pair));
    rates.verified = wrong == 0;
    if (wrong != 0) {
      rates.problem = absl::StrCat(wrong, " of ", kPatternBytes / 4, " words differ");
    }
  } else {
    rates.problem = "the driver offers no peer access";
  }
  const int64_t bytes = std::min(pair.at_from->size(), pair.at_to->size());
  ASSIGN_OR_RETURN(const double seconds, BestSeconds(*pair.from, kRounds, [&] {
                     return CUDA_STATUS(cudaMemcpyPeerAsync(
                         pair.at_to->data(), pair.to->index(), pair.at_from->data(),
                         pair.from->index(), bytes, pair.from->stream()));
                   }));
  rates.bandwidth_bytes_per_s = static_cast<double>(bytes) / seconds;
  if (rates.verified) {
    ASSIGN_OR_RETURN(rates.latency_s, Latency(pair));
  }
  return absl::OkStatus();
}

absl::StatusOr<PeerRates> CudaDeviceProbe::MeasurePeer(int from, int to) {
  if (from == to) return absl::InvalidArgumentError("a GPU is not its own peer");
  Pair pair;
  ASSIGN_OR_RETURN(pair.from, OpenGpu(from, pair.from_owner));
  ASSIGN_OR_RETURN(pair.to, OpenGpu(to, pair.to_owner));
  ASSIGN_OR_RETURN(pair.at_from, AllocateMost(*pair.from, 64 * kMiB));
  ASSIGN_OR_RETURN(pair.at_to, AllocateMost(*pair.to, 64 * kMiB));
  PeerRates rates;
  const absl::Status status = MeasurePair(pair, rates);
  if (!status.ok()) rates.problem = std::string(status.message());
  return rates;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceProbe>> MakeCudaDeviceProbe() {
  std::unique_ptr<Device> first;  // tells what is missing when nothing can be opened
  RETURN_IF_ERROR(OpenGpu(0, first).status());
  return std::make_unique<CudaDeviceProbe>();
}

}  // namespace tprun
