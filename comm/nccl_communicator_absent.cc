// Stands in for NCCL in a build without nccl.h.
#include "comm/nccl_communicator.h"

namespace tprun {

bool NcclLoads() { return false; }

std::string NcclVersion() { return ""; }

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(PeerGroup, Device&,
                                                                   const NcclOptions&) {
  return absl::UnimplementedError(
      "this tprun was built without NCCL: install its header (libnccl-dev) and build again");
}

}  // namespace tprun
