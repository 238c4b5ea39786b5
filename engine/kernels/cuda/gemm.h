#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/ops.h"

namespace tprun::cuda {

// out[t, r] = sum over c of x[t, c] * w[r, c], for many tokens: x [tokens, columns] and
// w [rows, columns] dense, of one element type, out f32 with out_stride floats from token to token;
// sums in f32. Bound to a stream. cuBLASLt, or plain loops where kernels are emulated.
class Gemm {
 public:
  virtual ~Gemm() = default;
  virtual absl::Status Multiply(Element element, const void* x, const void* w, int64_t tokens,
                                int64_t rows, int64_t columns, float* out, int64_t out_stride) = 0;
};

// `workspace` of kGemmWorkspaceBytes on the device. NVIDIA advises 32 MiB for Hopper (cuBLAS
// documentation, "cublasSetWorkspace").
inline constexpr int64_t kGemmWorkspaceBytes = int64_t{32} << 20;
absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm(const Stream& stream, void* workspace);

}  // namespace tprun::cuda
