#pragma once

#include <nccl.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tprun {

// The part of NCCL that is called, from the library found at run time: the module then also serves
// machines without NCCL. Plain pointers, so that a test can put its own in.
struct NcclApi {
  decltype(&::ncclGetVersion) GetVersion = nullptr;
  decltype(&::ncclGetUniqueId) GetUniqueId = nullptr;
  decltype(&::ncclCommInitRankConfig) CommInitRankConfig = nullptr;
  decltype(&::ncclCommFinalize) CommFinalize = nullptr;
  decltype(&::ncclCommDestroy) CommDestroy = nullptr;
  decltype(&::ncclCommAbort) CommAbort = nullptr;
  decltype(&::ncclCommGetAsyncError) CommGetAsyncError = nullptr;
  decltype(&::ncclGetErrorString) GetErrorString = nullptr;
  decltype(&::ncclGetLastError) GetLastError = nullptr;
  decltype(&::ncclAllReduce) AllReduce = nullptr;
  decltype(&::ncclBroadcast) Broadcast = nullptr;
  decltype(&::ncclSend) Send = nullptr;
  decltype(&::ncclRecv) Recv = nullptr;
  decltype(&::ncclGroupStart) GroupStart = nullptr;
  decltype(&::ncclGroupEnd) GroupEnd = nullptr;

  // Symmetric windows, of NCCL 2.27 on; null in older libraries. Older headers do not know the type
  // of a window, which is a pointer.
  ncclResult_t (*MemAlloc)(void** memory, size_t bytes) = nullptr;
  ncclResult_t (*MemFree)(void* memory) = nullptr;
  ncclResult_t (*CommWindowRegister)(ncclComm_t comm, void* memory, size_t bytes, void** window,
                                     int flags) = nullptr;
  ncclResult_t (*CommWindowDeregister)(ncclComm_t comm, void* window) = nullptr;
  bool has_windows() const {
    return MemAlloc != nullptr && MemFree != nullptr && CommWindowRegister != nullptr &&
           CommWindowDeregister != nullptr;
  }
};

// Loads libnccl.so.2, which stays loaded. Unimplemented with the reason when it is not there, lacks
// a function, or is older than the nccl.h of this build.
absl::StatusOr<NcclApi> LoadNccl();

// "2.28.9" of 22809.
std::string NcclVersionText(int version);

}  // namespace tprun
