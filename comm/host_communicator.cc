#include "comm/host_communicator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/status_macros.h"
#include "comm/communicator_checks.h"

namespace tprun {
namespace {

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(Communicator& bootstrap, Device& device)
      : bootstrap_(bootstrap), device_(device) {}

  int rank() const override { return bootstrap_.rank(); }
  int size() const override { return bootstrap_.size(); }
  absl::Duration timeout() const override { return bootstrap_.timeout(); }
  absl::string_view backend() const override { return "host"; }
  bool capturable() const override { return size() == 1 && device_.can_capture(); }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override;
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Send(const void* data, int64_t bytes, int to) override;
  absl::Status Receive(void* data, int64_t bytes, int from) override;
  absl::Status Barrier() override;
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int>) override {
    return absl::UnimplementedError("the owner of a HostCommunicator splits");
  }
  absl::Status Check() override { return bootstrap_.Check(); }
  void Abort(const std::string& reason) override { bootstrap_.Abort(reason); }

 private:
  bool direct() const { return device_.host_accessible(); }
  // Host memory of at least `bytes` bytes. The device may still be copying from what it held last:
  // that ends before the next copy to the host does, and every use waits for one or for the stream.
  absl::StatusOr<char*> Staging(int64_t bytes);
  // Copies the parts of this rank into `staging`, waiting for them.
  absl::Status Fetch(char* staging, const void* data, int64_t bytes);

  Communicator& bootstrap_;
  Device& device_;
  std::unique_ptr<Buffer> staging_;
};

absl::StatusOr<char*> HostCommunicator::Staging(int64_t bytes) {
  if (staging_ == nullptr || staging_->size() < bytes) {
    RETURN_IF_ERROR(device_.Synchronize());
    const int64_t last = staging_ == nullptr ? 0 : staging_->size();
    staging_.reset();
    ASSIGN_OR_RETURN(staging_, device_.AllocateHost(std::max(bytes, 2 * last)));
  }
  return static_cast<char*>(staging_->data());
}

absl::Status HostCommunicator::Fetch(char* staging, const void* data, int64_t bytes) {
  RETURN_IF_ERROR(device_.EnqueueCopyToHost(staging, data, bytes));
  return device_.Synchronize();
}

absl::Status HostCommunicator::AllReduceSum(const void* send, void* receive, int64_t count,
                                            DType dtype) {
  if (direct()) return bootstrap_.AllReduceSum(send, receive, count, dtype);
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", send, count));
  RETURN_IF_ERROR(CheckBuffer("AllReduceSum", receive, count));
  const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
  if (size() == 1) {
    return send == receive ? absl::OkStatus() : device_.EnqueueCopy(receive, send, bytes);
  }
  ASSIGN_OR_RETURN(char* const staging, Staging(bytes));
  RETURN_IF_ERROR(Fetch(staging, send, bytes));
  RETURN_IF_ERROR(bootstrap_.AllReduceSum(staging, staging, count, dtype));
  return device_.EnqueueCopyFromHost(receive, staging, bytes);
}

absl::Status HostCommunicator::AllGather(const void* send, void* receive,
                                         absl::Span<const int64_t> counts, DType dtype) {
  if (direct()) return bootstrap_.AllGather(send, receive, counts, dtype);
  RETURN_IF_ERROR(CheckAllGather(send, receive, counts, rank(), size(), dtype));
  const auto element = static_cast<int64_t>(SizeOf(dtype));
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0}) * element;
  const int64_t begin =
      std::accumulate(counts.begin(), counts.begin() + rank(), int64_t{0}) * element;
  const int64_t own = counts[rank()] * element;
  if (size() == 1)
    return send == receive ? absl::OkStatus() : device_.EnqueueCopy(receive, send, own);
  ASSIGN_OR_RETURN(char* const staging, Staging(total));
  RETURN_IF_ERROR(Fetch(staging + begin, send, own));
  RETURN_IF_ERROR(bootstrap_.AllGather(staging + begin, staging, counts, dtype));
  return device_.EnqueueCopyFromHost(receive, staging, total);
}

absl::Status HostCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  if (direct()) return bootstrap_.Broadcast(data, bytes, root);
  RETURN_IF_ERROR(CheckBuffer("Broadcast", data, bytes));
  RETURN_IF_ERROR(CheckRank("Broadcast", root, size()));
  if (size() == 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(char* const staging, Staging(bytes));
  // The others wait too: the last copy from the staging memory may be on its way still.
  RETURN_IF_ERROR(rank() == root ? Fetch(staging, data, bytes) : device_.Synchronize());
  RETURN_IF_ERROR(bootstrap_.Broadcast(staging, bytes, root));
  if (rank() == root) return absl::OkStatus();
  return device_.EnqueueCopyFromHost(data, staging, bytes);
}

absl::Status HostCommunicator::Send(const void* data, int64_t bytes, int to) {
  if (direct()) return bootstrap_.Send(data, bytes, to);
  RETURN_IF_ERROR(CheckBuffer("Send", data, bytes));
  RETURN_IF_ERROR(CheckRank("Send", to, size()));
  ASSIGN_OR_RETURN(char* const staging, Staging(bytes));
  RETURN_IF_ERROR(Fetch(staging, data, bytes));
  return bootstrap_.Send(staging, bytes, to);
}

absl::Status HostCommunicator::Receive(void* data, int64_t bytes, int from) {
  if (direct()) return bootstrap_.Receive(data, bytes, from);
  RETURN_IF_ERROR(CheckBuffer("Receive", data, bytes));
  RETURN_IF_ERROR(CheckRank("Receive", from, size()));
  ASSIGN_OR_RETURN(char* const staging, Staging(bytes));
  RETURN_IF_ERROR(device_.Synchronize());
  RETURN_IF_ERROR(bootstrap_.Receive(staging, bytes, from));
  return device_.EnqueueCopyFromHost(data, staging, bytes);
}

absl::Status HostCommunicator::Barrier() {
  RETURN_IF_ERROR(device_.Synchronize());
  return bootstrap_.Barrier();
}

}  // namespace

std::unique_ptr<Communicator> MakeHostCommunicator(Communicator& bootstrap, Device& device) {
  return std::make_unique<HostCommunicator>(bootstrap, device);
}

}  // namespace tprun
