#include "comm/cuda_matmul_rate.h"

#include <cublasLt.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "comm/cuda_error.h"
#include "comm/cuda_timer.h"

namespace tprun {
namespace {

constexpr int64_t kSide = 4096;
constexpr int64_t kWorkspaceBytes = int64_t{64} << 20;
constexpr int kProducts = 5;  // timed together

#define CUBLAS_RETURN_IF_ERROR(expr)                                                \
  do {                                                                              \
    const cublasStatus_t tprun_cublas_status = (expr);                              \
    if (tprun_cublas_status != CUBLAS_STATUS_SUCCESS) {                             \
      return absl::InternalError(                                                   \
          absl::StrCat(#expr, ": ", cublasLtGetStatusString(tprun_cublas_status))); \
    }                                                                               \
  } while (false)

// What cuBLASLt wants to know of a product of two square matrices.
class SquareProduct {
 public:
  ~SquareProduct() {
    if (preference_ != nullptr) cublasLtMatmulPreferenceDestroy(preference_);
    if (layout_ != nullptr) cublasLtMatrixLayoutDestroy(layout_);
    if (description_ != nullptr) cublasLtMatmulDescDestroy(description_);
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }

  absl::Status Prepare() {
    CUBLAS_RETURN_IF_ERROR(cublasLtCreate(&handle_));
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUBLAS_RETURN_IF_ERROR(cublasLtMatrixLayoutCreate(&layout_, CUDA_R_16BF, kSide, kSide, kSide));
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmulPreferenceCreate(&preference_));
    const auto bytes = static_cast<size_t>(kWorkspaceBytes);
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmulPreferenceSetAttribute(
        preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
    int found = 0;
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmulAlgoGetHeuristic(handle_, description_, layout_, layout_,
                                                          layout_, layout_, preference_, 1,
                                                          &algorithm_, &found));
    if (found == 0) return absl::UnimplementedError("cuBLASLt has no bf16 product for this GPU");
    return absl::OkStatus();
  }

  // c = a b
  absl::Status Run(const void* a, const void* b, void* c, void* workspace, cudaStream_t stream) {
    const float one = 1, zero = 0;
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmul(handle_, description_, &one, a, layout_, b, layout_,
                                          &zero, c, layout_, c, layout_, &algorithm_.algo,
                                          workspace, kWorkspaceBytes, stream));
    return absl::OkStatus();
  }

 private:
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t description_ = nullptr;
  cublasLtMatrixLayout_t layout_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulHeuristicResult_t algorithm_ = {};
};

// Random bits that are numbers around 1: a GPU multiplies zeros faster.
absl::Status FillRandom(CudaDevice& device, void* to) {
  std::unique_ptr<uint16_t[]> values(new uint16_t[kSide * kSide]);
  uint32_t random = 1;
  for (int64_t i = 0; i < kSide * kSide; ++i) {
    random = random * 1664525 + 1013904223;
    values[i] = static_cast<uint16_t>((random >> 31 << 15) | 0x3f00 | (random >> 16 & 0xff));
  }
  return device.CopyFromHost(to, values.get(), kSide * kSide * 2);
}

}  // namespace

absl::StatusOr<double> MeasureBf16MatMul(CudaDevice& device) {
  RETURN_IF_ERROR(device.MakeCurrent());
  SquareProduct product;
  RETURN_IF_ERROR(product.Prepare());
  constexpr int64_t kBytes = kSide * kSide * 2;
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> a, device.Allocate(kBytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> b, device.Allocate(kBytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> c, device.Allocate(kBytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> workspace, device.Allocate(kWorkspaceBytes));
  RETURN_IF_ERROR(FillRandom(device, a->data()));
  RETURN_IF_ERROR(FillRandom(device, b->data()));
  ASSIGN_OR_RETURN(const double seconds, BestSeconds(device, /*rounds=*/8, [&]() -> absl::Status {
                     for (int i = 0; i < kProducts; ++i) {
                       RETURN_IF_ERROR(product.Run(a->data(), b->data(), c->data(),
                                                   workspace->data(), device.stream()));
                     }
                     return absl::OkStatus();
                   }));
  return 2.0 * kSide * kSide * kSide * kProducts / seconds;
}

}  // namespace tprun
