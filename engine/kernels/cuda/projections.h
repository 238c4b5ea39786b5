#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/kernels/cuda/gemm.h"
#include "engine/kernels/cuda/ops.h"

namespace tprun::cuda {

// One matrix of a product of several with the same x.
struct CudaProjection {
  Matrix weight;
  bool row_scaled = false;  // fp8: see Fp8Question
  const float* bias = nullptr;
  float* out = nullptr;
  int64_t out_stride = 0;
};

// Products of matrices with activations: for a few tokens by own kernels, which read each weight
// once; for more by cuBLASLt, with x rounded to the type that the weights have or are decoded to
// (bf16 for bf16; f16 with a power of two per token for f16 and block formats; f32 for f32), or fp8
// weights as they are with x in fp8, see ChooseFp8.
class Projections {
 public:
  // `workspace` is kCudaKernelsWorkspaceBytes on the device, its tickets zero. `fp8`: activations
  // may be rounded to fp8 where they meet fp8 weights.
  Projections(const Stream& stream, char* workspace, std::unique_ptr<Gemm> gemm, bool fp8)
      : stream_(stream), workspace_(workspace), gemm_(std::move(gemm)), fp8_(fp8) {}

  // Whether row_scaled of an fp8 matrix can make a difference.
  bool AsksForRowScales() const;

  // All of one width; tokens, rows and columns may be 0. InvalidArgument for blocks whose address
  // is not a multiple of 16.
  absl::Status Run(const float* x, absl::Span<const CudaProjection> projections, int64_t tokens);

  // out = act(x gate) * (x up) in one launch, if the weights are such and the tokens so few that
  // there is one; else nothing happens and the result is false.
  absl::StatusOr<bool> RunGated(const float* x, const Matrix& gate, const Matrix& up, Gate kind,
                                int64_t tokens, float* out);

 private:
  absl::StatusOr<const float*> Aligned(const float* x, int64_t floats);
  MatVecArguments ArgumentsFor(const float* x, int64_t columns, int tokens) const;
  absl::Status RunFew(const float* x, absl::Span<const CudaProjection> projections, int tokens);
  absl::Status RunPlain(const float* x, const CudaProjection& p, int64_t tokens);
  absl::Status RunMany(const float* x, absl::Span<const CudaProjection> projections,
                       int64_t tokens);
  absl::Status MultiplyTile(const float* x, const CudaProjection& p, int64_t tokens, Element* cast);
  absl::Status MultiplyDecoded(const CudaProjection& p, int64_t tokens);
  Fp8Choice InFp8(const CudaProjection& p, int64_t tokens) const;
  absl::Status MultiplyFp8(const float* x, const CudaProjection& p, int64_t tokens,
                           const Fp8Choice& choice, Element* cast);
  absl::Status MultiplyFp8Part(const CudaProjection& p, const Fp8Choice& choice, int64_t first,
                               int64_t rows);

  const Stream stream_;
  char* const workspace_;
  const std::unique_ptr<Gemm> gemm_;
  bool fp8_;  // until cuBLASLt turns out to have no such product
};

}  // namespace tprun::cuda
