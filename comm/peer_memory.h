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
// within a process, by CUDA IPC between processes. Zeroed. It lives until the last rank has let go
// of it: within a process for certain, between processes as far as a wait of a second goes.
class PeerMemory {
 public:
  // Collective; FailedPrecondition on all ranks when one cannot reach another's memory. `group` and
  // `device` outlive the result.
  static absl::StatusOr<std::unique_ptr<PeerMemory>> Share(const PeerGroup& group,
                                                           CudaDevice& device, int64_t bytes);
  ~PeerMemory();

  // That of each rank of the group, as this process addresses it.
  const std::vector<char*>& slabs() const { return slabs_; }
  // Whether any two ranks of the group are threads of one process.
  bool threads_share_process() const { return threads_share_process_; }

 private:
  // What the ranks tell each other.
  struct Offer;

  PeerMemory(Communicator& bootstrap, CudaDevice& device)
      : bootstrap_(bootstrap), device_(device) {}
  absl::StatusOr<Offer> MakeOffer(int64_t bytes);
  absl::Status Map(const std::vector<Offer>& offers, int own);
  absl::Status MapNeighbour(const Offer& offer);
  absl::Status MapOtherProcess(const Offer& offer);
  // The word in the memory of `owner` that says whether rank `from` has let go of it.
  char* GoneWord(int owner, int from) const { return slabs_[owner] + gone_offset_ + from * 8; }
  void CloseMapped();
  bool AllAreGone() const;

  Communicator& bootstrap_;
  CudaDevice& device_;
  int64_t gone_offset_ = 0;
  std::shared_ptr<Buffer> own_;
  std::vector<char*> slabs_;
  std::vector<int> strangers_;  // ranks of other processes, once all have mapped all
  bool threads_share_process_ = false;
  std::vector<std::shared_ptr<Buffer>> neighbours_;  // of this process
  std::vector<void*> mapped_;                        // of others
};

}  // namespace tprun
