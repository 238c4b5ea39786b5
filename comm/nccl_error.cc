#include "comm/nccl_error.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tprun {
namespace {

// The usual reasons of each kind, after NCCL's user guide ("Types", "Troubleshooting").
absl::string_view WhatToDo(ncclResult_t result) {
  switch (result) {
    case ncclUnhandledCudaError:
      return "a call of CUDA failed: look for Xid errors (dmesg) and for memory that others use "
             "(nvidia-smi)";
    case ncclSystemError:
      return "a call of the system failed: usually too little shared or locked memory (in a "
             "container: --shm-size=1g --ulimit memlock=-1) or a network interface that the other "
             "hosts do not reach (NCCL_SOCKET_IFNAME)";
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return "NCCL refuses this: usually its versions differ among the hosts, or two ranks have "
             "the same GPU";
    case ncclRemoteError:
      return "another rank ended or the network failed: see that rank's message";
    default:
      return "a fault within NCCL: another version of it may help";
  }
}

}  // namespace

absl::Status NcclError(const NcclFailure& failure) {
  return absl::InternalError(absl::StrCat(
      "rank ", failure.rank, ": ", failure.operation, " over NCCL failed on ", failure.device,
      " in the group [", absl::StrJoin(failure.group, ", "), "]: ", failure.text,
      failure.detail.empty() ? "" : ": ", failure.detail, "; ", WhatToDo(failure.result),
      "; NCCL_DEBUG=WARN tells more, --exchange=host does without NCCL"));
}

}  // namespace tprun
