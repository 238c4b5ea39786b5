#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/cuda_device.h"
#include "comm/peer_options.h"

namespace tprun {

// Where the calling process and the GPU are.
absl::StatusOr<PeerIdentity> IdentifyPeer(Device& device);

// Device memory that every rank of a group gives and all the others can reach: by its address
// within a process, by CUDA IPC between processes. Zeroed. Within a process it lives until the last
// rank has let go of it.
class PeerMemory {
 public:
  // Collective; FailedPrecondition on all ranks when one cannot reach another's memory.
  static absl::StatusOr<std::unique_ptr<PeerMemory>> Share(const PeerGroup& group,
                                                           CudaDevice& device, int64_t bytes);
  ~PeerMemory();

  // That of each rank of the group, as this process addresses it.
  const std::vector<char*>& slabs() const { return slabs_; }
  // Whether any two ranks of the group are threads of one process on one GPU.
  bool threads_share_gpu() const { return threads_share_gpu_; }

 private:
  // What the ranks tell each other.
  struct Offer;

  explicit PeerMemory(CudaDevice& device) : device_(device) {}
  absl::StatusOr<Offer> MakeOffer(int64_t bytes);
  absl::Status Map(const std::vector<Offer>& offers, int own);
  absl::Status MapNeighbour(const Offer& offer);
  absl::Status MapOtherProcess(const Offer& offer);

  CudaDevice& device_;
  std::shared_ptr<Buffer> own_;
  std::vector<char*> slabs_;
  bool threads_share_gpu_ = false;
  std::vector<std::shared_ptr<Buffer>> neighbours_;  // of this process
  std::vector<void*> mapped_;                        // of others
};

}  // namespace tprun
