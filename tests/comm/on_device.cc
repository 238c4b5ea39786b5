#include "tests/comm/on_device.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/status_macros.h"

namespace tprun {
namespace {

// Device memory that the operations of a rank use in turn: enough for every check, and allocated
// before the first, since on a GPU that ranks share allocating may wait for a kernel that waits for
// this rank.
class Scratch {
 public:
  explicit Scratch(Device& device) : device_(device), buffer_(device.Allocate(kBytes)) {}

  // On the device: null for null, else room for `bytes` bytes, filled from `host` if `copy`.
  absl::StatusOr<char*> Place(const void* host, int64_t bytes, bool copy) {
    if (host == nullptr) return nullptr;
    RETURN_IF_ERROR(buffer_.status());
    if (bytes > kBytes) return absl::InternalError("a check with larger messages than thought");
    char* const place = static_cast<char*>((*buffer_)->data());
    if (copy && bytes > 0) RETURN_IF_ERROR(device_.CopyFromHost(place, host, bytes));
    return place;
  }

 private:
  static constexpr int64_t kBytes = int64_t{44} << 20;

  Device& device_;
  const absl::StatusOr<std::unique_ptr<Buffer>> buffer_;
};

struct Scratches {
  explicit Scratches(Device& device) : send(device), receive(device) {}
  Scratch send, receive;
};

class DeviceBackedCommunicator final : public Communicator {
 public:
  DeviceBackedCommunicator(std::unique_ptr<Communicator> inner, Device& device,
                           std::shared_ptr<Scratches> scratches)
      : inner_(std::move(inner)), device_(device), scratches_(std::move(scratches)) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  absl::Duration timeout() const override { return inner_->timeout(); }
  absl::string_view backend() const override { return inner_->backend(); }
  std::string description() const override { return inner_->description(); }
  bool buffers_sends() const override { return inner_->buffers_sends(); }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override {
    const int64_t bytes = count * static_cast<int64_t>(SizeOf(dtype));
    ASSIGN_OR_RETURN(char* const from, scratches_->send.Place(send, bytes, true));
    ASSIGN_OR_RETURN(char* to, scratches_->receive.Place(receive, bytes, false));
    if (send == receive) to = from;
    RETURN_IF_ERROR(inner_->AllReduceSum(from, to, count, dtype));
    return Back(receive, to, bytes);
  }

  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override {
    const auto element = static_cast<int64_t>(SizeOf(dtype));
    if (counts.size() != size() || *std::min_element(counts.begin(), counts.end()) < 0) {
      return inner_->AllGather(send, receive, counts, dtype);
    }
    const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0}) * element;
    const int64_t begin =
        std::accumulate(counts.begin(), counts.begin() + rank(), int64_t{0}) * element;
    const int64_t own = counts[rank()] * element;
    ASSIGN_OR_RETURN(char* from, scratches_->send.Place(send, own, true));
    ASSIGN_OR_RETURN(char* const to, scratches_->receive.Place(receive, total, true));
    if (send == static_cast<char*>(receive) + begin) from = to + begin;
    RETURN_IF_ERROR(inner_->AllGather(from, to, counts, dtype));
    return Back(receive, to, total);
  }

  absl::Status Broadcast(void* data, int64_t bytes, int root) override {
    ASSIGN_OR_RETURN(char* const place, scratches_->send.Place(data, bytes, true));
    RETURN_IF_ERROR(inner_->Broadcast(place, bytes, root));
    return Back(data, place, bytes);
  }

  absl::Status Send(const void* data, int64_t bytes, int to) override {
    ASSIGN_OR_RETURN(char* const place, scratches_->send.Place(data, bytes, true));
    RETURN_IF_ERROR(inner_->Send(place, bytes, to));
    return device_.Synchronize();  // `place` is used again
  }

  absl::Status Receive(void* data, int64_t bytes, int from) override {
    ASSIGN_OR_RETURN(char* const place, scratches_->receive.Place(data, bytes, false));
    RETURN_IF_ERROR(inner_->Receive(place, bytes, from));
    return Back(data, place, bytes);
  }

  absl::Status Barrier() override { return inner_->Barrier(); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, inner_->Split(ranks));
    return std::make_unique<DeviceBackedCommunicator>(std::move(group), device_, scratches_);
  }
  absl::Status Check() override { return inner_->Check(); }
  void Abort(const std::string& reason) override { inner_->Abort(reason); }

 private:
  absl::Status Back(void* host, const char* place, int64_t bytes) {
    if (bytes <= 0) return device_.Synchronize();
    return device_.CopyToHost(host, place, bytes);
  }

  const std::unique_ptr<Communicator> inner_;
  Device& device_;
  const std::shared_ptr<Scratches> scratches_;
};

}  // namespace

std::unique_ptr<Communicator> OnDevice(std::unique_ptr<Communicator> communicator, Device& device) {
  return std::make_unique<DeviceBackedCommunicator>(std::move(communicator), device,
                                                    std::make_shared<Scratches>(device));
}

}  // namespace tprun
