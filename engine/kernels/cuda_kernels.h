#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// The op set on a CudaDevice's stream. Matrices of block formats must have gone through
// ArrangeWeights. `fp8_activations`: products of many tokens with fp8 weights may round activations
// to fp8. Only inside the CUDA module; the device outlives the kernels. Not thread-safe.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Device& device, bool fp8_activations);

// Device memory that they hold: decoded weights and activations for cuBLASLt, its workspace, and
// the parts of split sums. The same for every model, so that a plan knows it without a GPU.
inline constexpr int64_t kCudaKernelsWorkspaceBytes = int64_t{178} << 20;

// The widest head of the KV cache (576 in latent attention) and the most experts of a layer that
// they take.
inline constexpr int kMostHeadDimOnCuda = 768;
inline constexpr int kMostExpertsOnCuda = 2048;

// What a layer's block needs that the CUDA kernels do not have; nullptr: nothing.
inline const char* MissingOnCuda(const LayerSpec& layer, BlockKind kind) {
  const AttentionSpec& attention = layer.attention;
  if (kind == BlockKind::kAttention &&
      std::max<int64_t>(attention.head_dim, attention.latent_cache()) > kMostHeadDimOnCuda) {
    return "attention with heads that wide";
  }
  const bool many = kind == BlockKind::kMlp && layer.mlp.experts.count > kMostExpertsOnCuda;
  return many ? "so many experts" : nullptr;
}

// Whether they can keep a KV cache of this format.
inline bool HasCudaCacheOf(const WeightFormat& format) {
  return format.name == "f32" || format.name == "f16" || format.name == "bf16" ||
         format.name == "fp8_e4m3" || format.name == "q8_0";
}

}  // namespace tprun
