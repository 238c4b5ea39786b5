#include "comm/ipc_communicator.h"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/communicator_checks.h"
#include "comm/cuda_device.h"
#include "comm/cuda_error.h"
#include "comm/deadline.h"
#include "comm/ipc_channels.h"
#include "comm/ipc_launch.h"
#include "comm/ipc_protocol.h"
#include "comm/peer_memory.h"

namespace tprun {
namespace {

constexpr int64_t kTrySumCount = 1000;

class IpcCommunicator final : public Communicator, public StreamWatcher {
 public:
  IpcCommunicator(PeerGroup group, CudaDevice& device)
      : group_(std::move(group)), device_(device) {}
  ~IpcCommunicator() override;
  absl::Status Initialize(const IpcOptions& options);

  // Where ranks are threads a sender waits on the host until it is told that there is room.
  bool buffers_sends() const override { return !meet_; }
  int rank() const override { return group_.bootstrap->rank(); }
  int size() const override { return group_.bootstrap->size(); }
  absl::Duration timeout() const override { return group_.bootstrap->timeout(); }
  absl::string_view backend() const override { return "ipc"; }
  std::string description() const override { return description_; }
  bool capturable() const override { return true; }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  // Few tokens: each is one channel's.
  bool FusesNorm(int64_t tokens, int64_t /*dim*/) const override {
    return tokens <= view_.layout.channels;
  }
  absl::Status AllReduceAddNorm(const SumAndNorm& what) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int>) override {
    return absl::UnimplementedError("the owner of an IpcCommunicator splits");
  }
  absl::Status Check() override { return group_.bootstrap->Check(); }
  void Abort(const std::string& reason) override { group_.bootstrap->Abort(reason); }

  // While the device waits for its stream.
  absl::Status Poll() override;
  absl::Status Finished() override;

 private:
  absl::Status Connect(const IpcOptions& options);
  absl::StatusOr<IpcPlace> FindPlace();
  absl::StatusOr<int> AgreeOnChannels(int channels);
  absl::Status WritePatterns();
  absl::Status CheckPatterns();
  absl::Status ClearSlab();
  absl::Status TrySum(Buffer& buffer);
  // Gives a kernel to the stream with `launch()`.
  template <typename Launch>
  absl::Status Run(const char* operation, const Launch& launch);
  // The same on all ranks.
  template <typename Launch>
  absl::Status RunTogether(const char* operation, const Launch& launch);
  absl::Status Meet() { return MeetsNow() ? group_.bootstrap->Barrier() : absl::OkStatus(); }
  bool MeetsNow() const;
  absl::Status Gather(const char* operation, const void* send, void* receive,
                      const std::vector<int64_t>& sizes);
  // Of threads of one process, which tell each other on the host what they do with a ring.
  enum Note : char { kGiven, kTaken };
  absl::Status Tell(int peer, Note note);
  absl::Status Hear(int peer, Note wanted);
  absl::Status SendNoted(const char* data, int64_t bytes, int to);
  absl::Status ReceiveNoted(char* data, int64_t bytes, int from);

  const PeerGroup group_;
  CudaDevice& device_;
  std::string description_;
  std::unique_ptr<PeerMemory> memory_;
  std::unique_ptr<Buffer> status_memory_;
  IpcStatus* status_ = nullptr;  // in status_memory_, which kernels of the GPU read and write
  IpcView view_;
  bool meet_ = false;                          // see IpcOptions
  std::vector<IpcRingCount> sent_, received_;  // by peer
  std::vector<std::array<int, 2>>
      early_notes_;  // of each kind, that came while another was awaited
  const char* last_operation_ = "";
  absl::Status failure_;
};

// Makes the kernels ready too.
absl::StatusOr<IpcPlace> IpcCommunicator::FindPlace() {
  IpcPlace place;
  ASSIGN_OR_RETURN(place.peer, IdentifyPeer(device_));
  int blocks = 0;
  CUDA_RETURN_IF_ERROR(PrepareIpcKernels(&blocks));
  place.resident_blocks = int64_t{device_.multiprocessors()} * blocks;
  return place;
}

absl::StatusOr<int> IpcCommunicator::AgreeOnChannels(int channels) {
  const absl::StatusOr<IpcPlace> own = FindPlace();
  RETURN_IF_ERROR(AgreeOnStatus(*group_.bootstrap, own.status()));
  static_assert(sizeof(IpcPlace) % sizeof(float) == 0);
  std::vector<IpcPlace> places(size());
  const std::vector<int64_t> counts(size(), sizeof(IpcPlace) / sizeof(float));
  RETURN_IF_ERROR(group_.bootstrap->AllGather(&*own, places.data(), counts, DType::kF32));
  return ChannelsThatFit(places, channels);
}

absl::Status IpcCommunicator::Connect(const IpcOptions& options) {
  ASSIGN_OR_RETURN(const int channels, AgreeOnChannels(options.channels));
  view_.layout = LayOutIpc(size(), channels, options.chunk_bytes, options.ring_bytes);
  view_.rank = rank();
  absl::StatusOr<std::unique_ptr<Buffer>> pinned = device_.AllocateHost(sizeof(IpcStatus));
  RETURN_IF_ERROR(AgreeOnStatus(*group_.bootstrap, pinned.status()));
  status_memory_ = *std::move(pinned);
  status_ = static_cast<IpcStatus*>(status_memory_->data());
  view_.status = status_;
  view_.timeout_ns = std::max<int64_t>(1, absl::ToInt64Nanoseconds(timeout()));
  ASSIGN_OR_RETURN(memory_, PeerMemory::Share(group_, device_, view_.layout.total));
  std::copy(memory_->slabs().begin(), memory_->slabs().end(), view_.slabs);
  meet_ = options.meet_on_host && memory_->threads_share_process();
  sent_.assign(size(), IpcRingCount(view_.layout.ring_bytes));
  received_ = sent_;
  early_notes_.resize(size());
  return absl::OkStatus();
}

absl::Status IpcCommunicator::WritePatterns() {
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    char* const ring = view_.slabs[peer] + view_.layout.RingOffset(rank());
    CUDA_RETURN_IF_ERROR(
        LaunchWritePattern(ring, view_.layout.ring_bytes, rank(), peer, device_.stream()));
  }
  return device_.Synchronize();
}

// What the others have written into this rank's memory, read by this rank's GPU.
absl::Status IpcCommunicator::CheckPatterns() {
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> counts,
                   device_.Allocate(size() * static_cast<int64_t>(sizeof(unsigned))));
  auto* const wrong = static_cast<unsigned*>(counts->data());
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    const char* const ring = view_.slabs[rank()] + view_.layout.RingOffset(peer);
    CUDA_RETURN_IF_ERROR(LaunchCheckPattern(ring, view_.layout.ring_bytes, peer, rank(),
                                            wrong + peer, device_.stream()));
  }
  std::vector<unsigned> found(size());
  RETURN_IF_ERROR(device_.CopyToHost(found.data(), wrong, counts->size()));
  for (int peer = 0; peer < size(); ++peer) {
    if (found[peer] == 0) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(found[peer], " of ", view_.layout.ring_bytes / 4, " words that rank ",
                     group_.world_ranks[peer], " wrote into the memory of rank ",
                     group_.world_ranks[rank()], " (", device_.name(),
                     ") arrived wrong or not at all: peer access between their GPUs is "
                     "broken (PCIe ACS or an IOMMU is the usual reason)"));
  }
  return absl::OkStatus();
}

absl::Status IpcCommunicator::ClearSlab() {
  CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(view_.slabs[rank()], 0, view_.layout.total, device_.stream()));
  return device_.Synchronize();
}

// The flags too: a sum whose result is known, in little time.
absl::Status IpcCommunicator::TrySum(Buffer& buffer) {
  const uint64_t timeout_ns = view_.timeout_ns;
  view_.timeout_ns = std::min<uint64_t>(timeout_ns, uint64_t{5000} * 1000 * 1000);
  std::vector<float> values(kTrySumCount, static_cast<float>(rank() + 1));
  const int64_t bytes = values.size() * static_cast<int64_t>(sizeof(float));
  RETURN_IF_ERROR(device_.CopyFromHost(buffer.data(), values.data(), bytes));
  RETURN_IF_ERROR(AllReduceSum(buffer.data(), buffer.data(), values.size(), DType::kF32));
  const absl::Status copied = device_.CopyToHost(values.data(), buffer.data(), bytes);
  view_.timeout_ns = timeout_ns;
  const float wanted = static_cast<float>(size() * (size() + 1)) / 2;
  const auto right = std::count(values.begin(), values.end(), wanted);
  if (copied.ok() && right == static_cast<int64_t>(values.size())) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "a sum tried over the GPUs' memory failed on rank ", group_.world_ranks[rank()], ": ",
      copied.ok() ? absl::StrCat(values.size() - right, " of its elements are wrong")
                  : std::string(copied.message())));
}

absl::Status IpcCommunicator::Initialize(const IpcOptions& options) {
  Communicator& bootstrap = *group_.bootstrap;
  RETURN_IF_ERROR(device_.MakeCurrent());
  RETURN_IF_ERROR(Connect(options));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, WritePatterns()));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, CheckPatterns()));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, ClearSlab()));
  device_.Watch(this);
  // Allocated before any kernel waits: on a GPU that ranks share, allocating could wait for it.
  const absl::StatusOr<std::unique_ptr<Buffer>> buffer =
      device_.Allocate(kTrySumCount * static_cast<int64_t>(sizeof(float)));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, buffer.status()));
  RETURN_IF_ERROR(AgreeOnStatus(bootstrap, TrySum(**buffer)));
  description_ = absl::StrCat("own one-step all-reduce in peer memory, written and read back (",
                              FormatBytes(view_.layout.total), " on each rank)");
  return absl::OkStatus();
}

IpcCommunicator::~IpcCommunicator() {
  device_.Unwatch(this);
  // Kernels of this rank that still wait for others must not outlive the memory.
  if (status_ == nullptr || !device_.MakeCurrent().ok()) return;
  const Deadline patience(absl::Seconds(5));
  const Deadline in_order(Check().ok() ? absl::Seconds(1) : absl::ZeroDuration());
  while (cudaStreamQuery(device_.stream()) == cudaErrorNotReady && !patience.Passed()) {
    if (in_order.Passed()) *static_cast<volatile uint32_t*>(&status_->abort) = 1;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

absl::Status IpcCommunicator::Poll() {
  if (!failure_.ok()) return failure_;
  absl::Status health = Check();
  if (!health.ok()) {
    failure_ = std::move(health);
    *static_cast<volatile uint32_t*>(&status_->abort) = 1;
    return failure_;
  }
  return Finished();
}

absl::Status IpcCommunicator::Finished() {
  if (!failure_.ok()) return failure_;
  const uint32_t failed = *static_cast<volatile uint32_t*>(&status_->failed);
  if (failed == 0) return absl::OkStatus();
  const absl::Status health = Check();
  failure_ = health.ok() ? DeadlineError(last_operation_, group_.world_ranks[rank()],
                                         group_.world_ranks, timeout())
                         : health;
  return failure_;
}

template <typename Launch>
absl::Status IpcCommunicator::Run(const char* operation, const Launch& launch) {
  if (!failure_.ok()) return failure_;
  RETURN_IF_ERROR(device_.MakeCurrent());
  last_operation_ = operation;
  return CUDA_STATUS(launch());
}

template <typename Launch>
absl::Status IpcCommunicator::RunTogether(const char* operation, const Launch& launch) {
  RETURN_IF_ERROR(Meet());
  RETURN_IF_ERROR(Run(operation, launch));
  return Meet();
}

absl::Status IpcCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                           DType dtype) {
  if (count == 0) return failure_;
  return RunTogether("AllReduceSum", [&] {
    return LaunchIpcAllReduce(view_, send, receive, count, dtype, device_.stream());
  });
}

absl::Status IpcCommunicator::AllReduceAddNorm(const SumAndNorm& what) {
  if (what.tokens == 0 || what.dim == 0) return failure_;
  return RunTogether("AllReduceAddNorm",
                     [&] { return LaunchIpcAllReduceNorm(view_, what, device_.stream()); });
}

absl::Status IpcCommunicator::Gather(const char* operation, const void* send, void* receive,
                                     const std::vector<int64_t>& sizes) {
  std::vector<int64_t> offsets(sizes.size(), 0);
  for (size_t r = 1; r < sizes.size(); ++r) offsets[r] = offsets[r - 1] + sizes[r - 1];
  if (offsets.back() + sizes.back() == 0) return failure_;
  return RunTogether(operation, [&] {
    return LaunchIpcAllGather(view_, send, receive, sizes.data(), offsets.data(), device_.stream());
  });
}

absl::Status IpcCommunicator::AllGather(const void* send, void* receive,
                                        absl::Span<const int64_t> counts, DType dtype) {
  std::vector<int64_t> sizes(counts.begin(), counts.end());
  for (int64_t& size : sizes) size *= static_cast<int64_t>(SizeOf(dtype));
  return Gather("AllGather", send, receive, sizes);
}

absl::Status IpcCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  std::vector<int64_t> sizes(size(), 0);
  sizes[root] = bytes;
  return Gather("Broadcast", data, data, sizes);
}

absl::Status IpcCommunicator::Send(const void* data, int64_t bytes, int to) {
  if (bytes == 0) return failure_;
  if (MeetsNow()) return SendNoted(static_cast<const char*>(data), bytes, to);
  return Run("Send", [&] { return LaunchIpcSend(view_, data, bytes, to, device_.stream()); });
}

absl::Status IpcCommunicator::Receive(void* data, int64_t bytes, int from) {
  if (bytes == 0) return failure_;
  if (MeetsNow()) return ReceiveNoted(static_cast<char*>(data), bytes, from);
  return Run("Receive",
             [&] { return LaunchIpcReceive(view_, data, bytes, from, device_.stream()); });
}

// While a step is recorded no kernel waits, and it runs again without the host: nobody meets, so
// that a rank whose recording fails holds up no other.
bool IpcCommunicator::MeetsNow() const {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return meet_ && cudaStreamIsCapturing(device_.stream(), &status) == cudaSuccess &&
         status == cudaStreamCaptureStatusNone;
}

absl::Status IpcCommunicator::Tell(int peer, Note note) {
  return group_.bootstrap->Send(&note, 1, peer);
}

absl::Status IpcCommunicator::Hear(int peer, Note wanted) {
  std::array<int, 2>& early = early_notes_[peer];
  while (early[wanted] == 0) {
    Note note;
    RETURN_IF_ERROR(group_.bootstrap->Receive(&note, 1, peer));
    ++early[note];
  }
  --early[wanted];
  return absl::OkStatus();
}

// Where ranks are threads, no kernel is given that would wait for another thread's: a message is
// on its way before it is received, and there is room before it is sent.
absl::Status IpcCommunicator::SendNoted(const char* data, int64_t bytes, int to) {
  const int64_t most = sent_[to].most_part();
  for (int64_t done = 0; done < bytes; done += most) {
    const int64_t part = std::min(most, bytes - done);
    if (sent_[to].Add(part)) RETURN_IF_ERROR(Hear(to, kTaken));
    RETURN_IF_ERROR(
        Run("Send", [&] { return LaunchIpcSend(view_, data + done, part, to, device_.stream()); }));
    RETURN_IF_ERROR(Tell(to, kGiven));
  }
  return absl::OkStatus();
}

absl::Status IpcCommunicator::ReceiveNoted(char* data, int64_t bytes, int from) {
  const int64_t most = received_[from].most_part();
  for (int64_t done = 0; done < bytes; done += most) {
    const int64_t part = std::min(most, bytes - done);
    if (received_[from].Add(part)) {
      RETURN_IF_ERROR(device_.Synchronize());
      RETURN_IF_ERROR(Tell(from, kTaken));
    }
    RETURN_IF_ERROR(Hear(from, kGiven));
    RETURN_IF_ERROR(Run("Receive", [&] {
      return LaunchIpcReceive(view_, data + done, part, from, device_.stream());
    }));
  }
  return absl::OkStatus();
}

absl::Status IpcCommunicator::Barrier() {
  RETURN_IF_ERROR(device_.Synchronize());
  return group_.bootstrap->Barrier();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeIpcCommunicator(PeerGroup group, Device& device,
                                                                  const IpcOptions& options) {
  ASSIGN_OR_RETURN(CudaDevice* const cuda, CudaDevice::Of(device));
  auto communicator = std::make_unique<IpcCommunicator>(std::move(group), *cuda);
  RETURN_IF_ERROR(communicator->Initialize(options));
  return communicator;
}

}  // namespace tprun
