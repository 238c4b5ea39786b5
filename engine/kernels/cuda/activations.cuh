#pragma once

#include <cuda_runtime.h>

#include "engine/kernels/cuda/ops.h"

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

// gpt-oss: the gate is cut off at 7, the other factor at -7 and 7.
struct ClampedSwiGlu {
  __device__ static __forceinline__ float Of(float gate, float up) {
    const float g = fminf(gate, 7.0f), u = fminf(fmaxf(up, -7.0f), 7.0f);
    return g / (1.0f + expf(-1.702f * g)) * (u + 1.0f);
  }
};

// act(gate) * up.
__device__ __forceinline__ float Gated(Gate kind, float gate, float up) {
  if (kind == Gate::kClampedSwiGlu) return ClampedSwiGlu::Of(gate, up);
  return (kind == Gate::kSilu ? Silu::Of(gate) : GeluTanh::Of(gate)) * up;
}

}  // namespace tprun::cuda
