#include "comm/peer_memory.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "comm/cuda_error.h"
#include "comm/deadline.h"
#include "comm/nccl_communicator.h"

namespace tprun {
namespace {

uint64_t Digest(absl::string_view text) {
  uint64_t digest = 0xcbf29ce484222325;  // FNV-1a: the same in every process
  for (char c : text) digest = (digest ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return digest;
}

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Containers of one machine share the boot but not the name, and cannot share memory by address.
uint64_t HostDigest() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return Digest(absl::StrCat(name, "/", FirstLine("/proc/sys/kernel/random/boot_id")));
}

// The number may be given again to a later process, which starts at another time: the 20th word
// after the name in brackets.
uint64_t ProcessDigest() {
  const std::string line = FirstLine("/proc/self/stat");
  const std::vector<std::string> words =
      absl::StrSplit(line.substr(std::min(line.size(), line.rfind(')') + 2)), ' ');
  return Digest(absl::StrCat(getpid(), "/", words.size() > 19 ? words[19] : ""));
}

absl::Status CannotReach(absl::string_view device, absl::string_view peer, absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat(device, " cannot reach the memory of ", peer, ": ", why));
}

}  // namespace

struct PeerMemory::Offer {
  uint64_t process = 0;
  uint64_t address_of_owner = 0;  // of a std::shared_ptr<Buffer>, for ranks of the same process
  int64_t gpu = 0;                // number in that process
  cudaIpcMemHandle_t handle = {};
  int64_t has_handle = 0;
};

absl::StatusOr<PeerIdentity> IdentifyPeer(Device& device) {
  ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(device));
  cudaDeviceProp properties;
  CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, cuda->index()));
  PeerIdentity identity;
  identity.host = HostDigest();
  identity.process = ProcessDigest();
  static_assert(sizeof(identity.gpu) == sizeof(properties.uuid));
  std::memcpy(identity.gpu, &properties.uuid, sizeof(identity.gpu));
  identity.is_gpu = 1;
  identity.has_nccl = NcclLoads() ? 1 : 0;
  return identity;
}

absl::StatusOr<PeerMemory::Offer> PeerMemory::MakeOffer(int64_t bytes) {
  // Whole pages of the driver: an IPC handle is of all of a page.
  constexpr int64_t kPage = int64_t{2} << 20;
  gone_offset_ = (bytes + 7) / 8 * 8;
  const int64_t all = gone_offset_ + 8 * bootstrap_.size();
  ASSIGN_OR_RETURN(own_, device_.Allocate((all + kPage - 1) / kPage * kPage));
  Offer offer;
  offer.process = ProcessDigest();
  offer.address_of_owner = reinterpret_cast<uintptr_t>(&own_);
  offer.gpu = device_.index();
  offer.has_handle = cudaIpcGetMemHandle(&offer.handle, own_->data()) == cudaSuccess;
  cudaGetLastError();
  return offer;
}

absl::Status PeerMemory::MapNeighbour(const Offer& offer) {
  const int peer = static_cast<int>(offer.gpu);
  if (peer != device_.index()) {
    int possible = 0;
    CUDA_RETURN_IF_ERROR(cudaDeviceCanAccessPeer(&possible, device_.index(), peer));
    if (!possible) {
      return CannotReach(device_.name(), absl::StrCat("cuda:", peer),
                         "the driver offers no peer access between them");
    }
    const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
    cudaGetLastError();
    if (error != cudaSuccess && error != cudaErrorPeerAccessAlreadyEnabled) {
      return CannotReach(device_.name(), absl::StrCat("cuda:", peer), cudaGetErrorString(error));
    }
  }
  neighbours_.push_back(*reinterpret_cast<std::shared_ptr<Buffer>*>(offer.address_of_owner));
  slabs_.push_back(static_cast<char*>(neighbours_.back()->data()));
  return absl::OkStatus();
}

absl::Status PeerMemory::MapOtherProcess(const Offer& offer) {
  const std::string peer = absl::StrCat("cuda:", offer.gpu, " of another process");
  if (!offer.has_handle) return CannotReach(device_.name(), peer, "the driver shares no memory");
  void* mapped = nullptr;
  const cudaError_t error =
      cudaIpcOpenMemHandle(&mapped, offer.handle, cudaIpcMemLazyEnablePeerAccess);
  cudaGetLastError();
  if (error != cudaSuccess) return CannotReach(device_.name(), peer, cudaGetErrorString(error));
  mapped_.push_back(mapped);
  slabs_.push_back(static_cast<char*>(mapped));
  return absl::OkStatus();
}

absl::Status PeerMemory::Map(const std::vector<Offer>& offers, int own) {
  RETURN_IF_ERROR(device_.MakeCurrent());
  for (int r = 0; r < static_cast<int>(offers.size()); ++r) {
    for (int s = 0; s < r; ++s) {
      threads_share_process_ |= offers[r].process == offers[s].process;
    }
    if (r == own) {
      slabs_.push_back(static_cast<char*>(own_->data()));
    } else if (offers[r].process == offers[own].process) {
      RETURN_IF_ERROR(MapNeighbour(offers[r]));
    } else {
      RETURN_IF_ERROR(MapOtherProcess(offers[r]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PeerMemory>> PeerMemory::Share(const PeerGroup& group,
                                                              CudaDevice& device, int64_t bytes) {
  Communicator& bootstrap = *group.bootstrap;
  std::unique_ptr<PeerMemory> memory(new PeerMemory(bootstrap, device));
  const absl::StatusOr<Offer> own = memory->MakeOffer(bytes);
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, own.status()));
  static_assert(sizeof(Offer) % sizeof(float) == 0);
  std::vector<Offer> offers(bootstrap.size());
  const std::vector<int64_t> counts(bootstrap.size(), sizeof(Offer) / sizeof(float));
  RETURN_IF_ERROR(bootstrap.AllGather(&*own, offers.data(), counts, DType::kF32));
  // Nobody lets go of its own before all have mapped it, or closed what they had mapped: freeing
  // what another process has open is undefined (CUDA Runtime API, "cudaIpcOpenMemHandle").
  bool agreed = false;
  const absl::Status mapped =
      AgreeOnStatus(bootstrap, memory->Map(offers, bootstrap.rank()), &agreed);
  if (!mapped.ok()) {
    memory->CloseMapped();
    if (agreed) RETURN_IF_ERROR(bootstrap.Barrier());
    return mapped;
  }
  for (int r = 0; r < bootstrap.size(); ++r) {
    if (offers[r].process != own->process) memory->strangers_.push_back(r);
  }
  return memory;
}

void PeerMemory::CloseMapped() {
  for (void* mapped : mapped_) cudaIpcCloseMemHandle(mapped);
  mapped_.clear();
}

bool PeerMemory::AllAreGone() const {
  return std::all_of(strangers_.begin(), strangers_.end(), [&](int peer) {
    int64_t gone = 0;
    const char* word = GoneWord(bootstrap_.rank(), peer);
    return cudaMemcpy(&gone, word, sizeof(gone), cudaMemcpyDeviceToHost) != cudaSuccess ||
           gone != 0;
  });
}

// Its own kernels have ended, but another process's may still write here: the end of a message that
// was sent long ago. Not by the bootstrap's barrier, which would wait for a lost rank too long.
PeerMemory::~PeerMemory() {
  if (!device_.MakeCurrent().ok()) return;
  const int64_t gone = 1;
  for (int peer : strangers_) {
    cudaMemcpy(GoneWord(peer, bootstrap_.rank()), &gone, sizeof(gone), cudaMemcpyHostToDevice);
  }
  CloseMapped();
  const Deadline patience(absl::Seconds(1));
  while (!patience.Passed() && bootstrap_.Check().ok() && !AllAreGone()) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  cudaGetLastError();
}

}  // namespace tprun
