#include "comm/cuda_timer.h"

#include <algorithm>
#include <limits>

#include "base/status_macros.h"
#include "comm/cuda_error.h"

namespace tprun {
namespace {

class CudaEvent {
 public:
  ~CudaEvent() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  absl::Status Create() { return CUDA_STATUS(cudaEventCreate(&event_)); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

absl::StatusOr<double> BestSeconds(CudaDevice& device, int rounds,
                                   const std::function<absl::Status()>& work) {
  RETURN_IF_ERROR(device.MakeCurrent());
  CudaEvent begin, end;
  RETURN_IF_ERROR(begin.Create());
  RETURN_IF_ERROR(end.Create());
  float best = std::numeric_limits<float>::infinity();
  for (int round = -2; round < rounds; ++round) {
    CUDA_RETURN_IF_ERROR(cudaEventRecord(begin.get(), device.stream()));
    RETURN_IF_ERROR(work());
    CUDA_RETURN_IF_ERROR(cudaEventRecord(end.get(), device.stream()));
    RETURN_IF_ERROR(device.Synchronize());
    float milliseconds = 0;
    CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    if (round >= 0) best = std::min(best, milliseconds);
  }
  return static_cast<double>(best) / 1e3;
}

}  // namespace tprun
