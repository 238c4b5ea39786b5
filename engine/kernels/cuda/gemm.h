#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/kernels/cuda/fp8_products.h"
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
  // The same of fp8 factors, each group's part of a sum times both of its scales, or both without
  // scales: for what ChooseFp8 lets through. Unimplemented: it has none after all.
  virtual absl::Status MultiplyFp8(const Fp8Factor& x, const Fp8Factor& w, int64_t tokens,
                                   int64_t rows, int64_t columns, float* out,
                                   int64_t out_stride) = 0;
  virtual size_t cublaslt_version() const = 0;
};

// `workspace` of kGemmWorkspaceBytes on the device. NVIDIA advises 32 MiB for Hopper (cuBLAS
// documentation, "cublasSetWorkspace").
inline constexpr int64_t kGemmWorkspaceBytes = int64_t{32} << 20;
absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm(const Stream& stream, void* workspace);

}  // namespace tprun::cuda
