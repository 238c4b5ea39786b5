#include "comm/device_communicator.h"

#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/cuda_module.h"
#include "comm/device_ladder.h"
#include "comm/host_communicator.h"

namespace tprun {
namespace {

// What carries the data of one group; shared by the communicators over the same ranks, whose calls
// are in one order on every rank.
struct Carriers {
  ~Carriers() {  // the carriers before what they talk through
    small.reset();
    general.reset();
  }
  std::unique_ptr<Communicator> bootstrap;  // for Split, Abort, Check and "host"
  std::unique_ptr<Communicator> small;      // ipc beside nccl; else null
  std::unique_ptr<Communicator> general;
  std::string description;
  bool direct = false;  // no GPU in the group: all memory is the host's
};

class DeviceCommunicator final : public Communicator {
 public:
  DeviceCommunicator(std::shared_ptr<Carriers> carriers, Device& device,
                     const DeviceCommunicatorOptions& options, std::vector<int> world_ranks)
      : carriers_(std::move(carriers)),
        device_(device),
        options_(options),
        world_ranks_(std::move(world_ranks)) {}

  // Walks the ladder for the ranks of `bootstrap`.
  static absl::StatusOr<std::unique_ptr<Communicator>> Make(
      std::unique_ptr<Communicator> bootstrap, Device& device,
      const DeviceCommunicatorOptions& options, std::vector<int> world_ranks);

  int rank() const override { return bootstrap().rank(); }
  int size() const override { return bootstrap().size(); }
  absl::Duration timeout() const override { return bootstrap().timeout(); }
  absl::string_view backend() const override { return general().backend(); }
  std::string description() const override { return carriers_->description; }
  bool capturable() const override {
    return general().capturable() &&
           (carriers_->small == nullptr || carriers_->small->capturable());
  }
  bool buffers_sends() const override { return Messages().buffers_sends(); }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  bool FusesNorm(int64_t tokens, int64_t dim) const override {
    return CarrierOf(FloatBytes(tokens, dim)).FusesNorm(tokens, dim);
  }
  absl::Status AllReduceAddNorm(const SumAndNorm& what) override {
    RETURN_IF_ERROR(Check());
    return CarrierOf(FloatBytes(what.tokens, what.dim)).AllReduceAddNorm(what);
  }
  void* SumBuffer(int64_t bytes) override { return general().SumBuffer(bytes); }
  absl::StatusOr<std::unique_ptr<SharedParts>> ShareParts(int64_t floats) override {
    if (!carriers_->direct) return nullptr;
    return bootstrap().ShareParts(floats);
  }
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override;
  absl::Status Check() override { return bootstrap().Check(); }
  void Abort(const std::string& reason) override { bootstrap().Abort(reason); }

 private:
  static int64_t FloatBytes(int64_t tokens, int64_t dim) {
    return tokens * dim * static_cast<int64_t>(sizeof(float));
  }
  Communicator& bootstrap() const { return *carriers_->bootstrap; }
  Communicator& general() const { return *carriers_->general; }
  // The carrier of a collective whose parts have `bytes` bytes in all, and that of messages.
  Communicator& CarrierOf(int64_t bytes) const {
    const bool small = carriers_->small != nullptr && bytes <= options_.ipc_limit_bytes;
    return small ? *carriers_->small : general();
  }
  Communicator& Messages() const {
    return carriers_->small != nullptr ? *carriers_->small : general();
  }

  const std::shared_ptr<Carriers> carriers_;
  Device& device_;
  const DeviceCommunicatorOptions options_;
  const std::vector<int> world_ranks_;
};

absl::Status DeviceCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                              DType dtype) {
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", send, count));
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", receive, count));
  RETURN_IF_ERROR(Check());
  const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
  return CarrierOf(bytes).AllReduceSum(send, receive, count, dtype);
}

absl::Status DeviceCommunicator::AllGather(const void* send, void* receive,
                                           absl::Span<const int64_t> counts, DType dtype) {
  RETURN_IF_ERROR(CheckAllGather(send, receive, counts, rank(), size(), dtype));
  RETURN_IF_ERROR(Check());
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t bytes = total * static_cast<int64_t>(SizeOf(dtype));
  return CarrierOf(bytes).AllGather(send, receive, counts, dtype);
}

absl::Status DeviceCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  RETURN_IF_ERROR(CheckBuffer("Broadcast", data, bytes));
  RETURN_IF_ERROR(CheckRank("Broadcast", root, size()));
  RETURN_IF_ERROR(Check());
  return CarrierOf(bytes).Broadcast(data, bytes, root);
}

absl::Status DeviceCommunicator::Send(const void* data, int64_t bytes, int to) {
  RETURN_IF_ERROR(CheckBuffer("Send", data, bytes));
  RETURN_IF_ERROR(CheckRank("Send", to, size()));
  RETURN_IF_ERROR(Check());
  return Messages().Send(data, bytes, to);
}

absl::Status DeviceCommunicator::Receive(void* data, int64_t bytes, int from) {
  RETURN_IF_ERROR(CheckBuffer("Receive", data, bytes));
  RETURN_IF_ERROR(CheckRank("Receive", from, size()));
  RETURN_IF_ERROR(Check());
  return Messages().Receive(data, bytes, from);
}

absl::Status DeviceCommunicator::Barrier() {
  RETURN_IF_ERROR(device_.Synchronize());
  return bootstrap().Barrier();
}

absl::StatusOr<std::unique_ptr<Communicator>> DeviceCommunicator::Split(
    absl::Span<const int> ranks) {
  RETURN_IF_ERROR(CheckSplit(ranks, rank(), size()));
  std::vector<int> world_ranks;
  bool same = ranks.size() == world_ranks_.size();
  for (size_t i = 0; i < ranks.size(); ++i) {
    world_ranks.push_back(world_ranks_[ranks[i]]);
    same = same && ranks[i] == static_cast<int>(i);
  }
  // The same group again needs no memory of its own.
  if (same) {
    return std::make_unique<DeviceCommunicator>(carriers_, device_, options_, world_ranks);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, bootstrap().Split(ranks));
  return Make(std::move(group), device_, options_, std::move(world_ranks));
}

absl::StatusOr<PeerIdentity> Identify(Device& device, absl::string_view backend) {
  PeerIdentity identity;
  identity.is_gpu = device.host_accessible() ? 0 : 1;
  if (!identity.is_gpu || backend == "host") return identity;  // "host" asks no more of a device
  ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());
  return module->identify(device);
}

// Of all ranks.
absl::StatusOr<std::vector<PeerIdentity>> GatherIdentities(Communicator& bootstrap, Device& device,
                                                           absl::string_view backend) {
  const absl::StatusOr<PeerIdentity> own = Identify(device, backend);
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, own.status()));
  std::vector<PeerIdentity> all(bootstrap.size());
  static_assert(sizeof(PeerIdentity) % sizeof(float) == 0);
  const std::vector<int64_t> counts(bootstrap.size(), sizeof(PeerIdentity) / sizeof(float));
  RETURN_IF_ERROR(bootstrap.AllGather(&*own, all.data(), counts, DType::kF32));
  return all;
}

std::string AllRanksOf(Communicator& comm) {
  return absl::StrCat(comm.size(), comm.size() == 1 ? " rank" : " ranks");
}

// Each call is collective and ends with the same status on all ranks.
class CarrierMaker {
 public:
  CarrierMaker(Communicator& bootstrap, Device& device, const DeviceCommunicatorOptions& options,
               const std::vector<int>& world_ranks)
      : bootstrap_(bootstrap), device_(device), options_(options), world_ranks_(world_ranks) {}

  absl::StatusOr<std::unique_ptr<Communicator>> Ipc() {
    return Agreed([&](const CudaModule& module, PeerGroup group) {
      return module.make_ipc(std::move(group), device_, options_.ipc);
    });
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Nccl() {
    return Agreed([&](const CudaModule& module, PeerGroup group) {
      return module.make_nccl(std::move(group), device_, options_.nccl);
    });
  }

 private:
  template <typename Make>
  absl::StatusOr<std::unique_ptr<Communicator>> Agreed(const Make& make) {
    ASSIGN_OR_RETURN(const CudaModule* module, LoadCudaModule());  // has been loaded before
    std::vector<int> everyone(bootstrap_.size());
    std::iota(everyone.begin(), everyone.end(), 0);
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, bootstrap_.Split(everyone));
    absl::StatusOr<std::unique_ptr<Communicator>> made =
        make(*module, PeerGroup{std::move(own), world_ranks_});
    RETURN_IF_ERROR(AgreeOnStatus(bootstrap_, made.status()));
    return made;
  }

  Communicator& bootstrap_;
  Device& device_;
  const DeviceCommunicatorOptions& options_;
  const std::vector<int>& world_ranks_;
};

// Takes what the ladder wants; under "auto" what cannot be made is told and left out.
absl::Status Climb(const LadderChoice& choice, bool automatic, CarrierMaker& maker,
                   Carriers& carriers) {
  if (choice.ipc) {
    absl::StatusOr<std::unique_ptr<Communicator>> ipc = maker.Ipc();
    if (!ipc.ok() && !(automatic && absl::IsFailedPrecondition(ipc.status()))) return ipc.status();
    if (ipc.ok()) {
      carriers.small = *std::move(ipc);
      absl::StrAppend(&carriers.description, "; ", carriers.small->description());
    } else {
      absl::StrAppend(&carriers.description, "; no ipc: ", ipc.status().message());
    }
  }
  if (choice.nccl) {
    absl::StatusOr<std::unique_ptr<Communicator>> nccl = maker.Nccl();
    if (!nccl.ok() && !(automatic && absl::IsFailedPrecondition(nccl.status()))) {
      return nccl.status();
    }
    if (nccl.ok()) {
      carriers.general = *std::move(nccl);
      absl::StrAppend(&carriers.description, "; ", carriers.general->description());
    } else {
      absl::StrAppend(&carriers.description, "; no nccl: ", nccl.status().message());
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Communicator>> DeviceCommunicator::Make(
    std::unique_ptr<Communicator> bootstrap, Device& device,
    const DeviceCommunicatorOptions& options, std::vector<int> world_ranks) {
  ASSIGN_OR_RETURN(const std::vector<PeerIdentity> identities,
                   GatherIdentities(*bootstrap, device, options.backend));
  ASSIGN_OR_RETURN(const LadderChoice choice, ChooseLadder(identities, options.backend));
  auto carriers = std::make_shared<Carriers>();
  carriers->description = choice.reason;
  carriers->direct = choice.direct;
  CarrierMaker maker(*bootstrap, device, options, world_ranks);
  RETURN_IF_ERROR(Climb(choice, options.backend == "auto", maker, *carriers));
  if (carriers->general == nullptr) carriers->general = std::move(carriers->small);
  carriers->bootstrap = std::move(bootstrap);
  if (carriers->general == nullptr) {
    carriers->general = MakeHostCommunicator(*carriers->bootstrap, device);
  }
  std::string name(carriers->general->backend());
  if (carriers->small != nullptr) name = absl::StrCat("ipc and ", name);
  if (choice.direct) name = std::string(carriers->bootstrap->backend());
  carriers->description = absl::StrCat(name, " over ", AllRanksOf(*carriers->bootstrap), " (",
                                       carriers->description, ")");
  return std::make_unique<DeviceCommunicator>(std::move(carriers), device, options,
                                              std::move(world_ranks));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeDeviceCommunicator(
    Communicator& bootstrap, Device& device, const DeviceCommunicatorOptions& options) {
  std::vector<int> everyone(bootstrap.size());
  std::iota(everyone.begin(), everyone.end(), 0);
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> own, bootstrap.Split(everyone));
  return DeviceCommunicator::Make(std::move(own), device, options, everyone);
}

}  // namespace tprun
