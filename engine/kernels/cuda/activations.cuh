#pragma once

#include <cuda_runtime.h>

namespace tprun::cuda {

// x * sigmoid(z): silu with z = x; x / 2 (1 + tanh(z / 2)) is gelu (arXiv 1606.08415) in the form
// that does not cancel for negative z.
struct Silu {
  __device__ static __forceinline__ float Of(float x) { return x / (1.0f + expf(-x)); }
};
struct GeluTanh {
  __device__ static __forceinline__ float Of(float x) {
    const float z = 1.5957691216057308f * (x + 0.044715f * x * x * x);  // 2 sqrt(2 / pi)
    return x / (1.0f + expf(-z));
  }
};

}  // namespace tprun::cuda
