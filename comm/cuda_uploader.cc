#include "comm/cuda_uploader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/cuda_error.h"

namespace tprun {
namespace {

class CudaUploader final : public Uploader {
 public:
  explicit CudaUploader(CudaDevice& device) : device_(device) {}
  ~CudaUploader() override;
  absl::Status Initialize(int64_t capacity);

  absl::StatusOr<char*> Stage() override;
  absl::Status Upload(void* to, int64_t bytes) override;
  absl::Status Finish() override { return CUDA_STATUS(cudaStreamSynchronize(stream_)); }

 private:
  struct Staging {
    std::unique_ptr<Buffer> memory;
    cudaEvent_t copied = nullptr;
  };

  CudaDevice& device_;
  cudaStream_t stream_ = nullptr;
  Staging stagings_[2];
  int current_ = 0;
};

absl::Status CudaUploader::Initialize(int64_t capacity) {
  RETURN_IF_ERROR(device_.MakeCurrent());
  CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  for (Staging& staging : stagings_) {
    ASSIGN_OR_RETURN(staging.memory, device_.AllocateHost(capacity));
    CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&staging.copied, cudaEventDisableTiming));
  }
  return absl::OkStatus();
}

CudaUploader::~CudaUploader() {
  cudaSetDevice(device_.index());
  if (stream_ != nullptr) {
    cudaStreamSynchronize(stream_);  // the copies read memory that goes now
    cudaStreamDestroy(stream_);
  }
  for (const Staging& staging : stagings_) {
    if (staging.copied != nullptr) cudaEventDestroy(staging.copied);
  }
}

absl::StatusOr<char*> CudaUploader::Stage() {
  RETURN_IF_ERROR(device_.MakeCurrent());
  current_ = 1 - current_;
  CUDA_RETURN_IF_ERROR(cudaEventSynchronize(stagings_[current_].copied));
  return static_cast<char*>(stagings_[current_].memory->data());
}

absl::Status CudaUploader::Upload(void* to, int64_t bytes) {
  Staging& staging = stagings_[current_];
  if (bytes < 0 || bytes > staging.memory->size()) {
    return absl::InvalidArgumentError(absl::StrCat(device_.name(), ": an upload of ", bytes,
                                                   " bytes from a staging buffer of ",
                                                   staging.memory->size()));
  }
  if (bytes == 0) return absl::OkStatus();
  RETURN_IF_ERROR(device_.MakeCurrent());
  CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(to, staging.memory->data(), bytes, cudaMemcpyHostToDevice, stream_));
  return CUDA_STATUS(cudaEventRecord(staging.copied, stream_));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Uploader>> MakeCudaUploader(CudaDevice& device, int64_t capacity) {
  auto uploader = std::make_unique<CudaUploader>(device);
  RETURN_IF_ERROR(uploader->Initialize(capacity));
  return uploader;
}

}  // namespace tprun
