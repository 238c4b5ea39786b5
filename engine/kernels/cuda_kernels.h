#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// The op set on a CudaDevice's stream. Matrices of block formats must have gone through
// ArrangeWeights. Only inside the CUDA module; the device outlives the kernels. Not thread-safe.
absl::StatusOr<std::unique_ptr<Kernels>> MakeCudaKernels(Device& device);

// Device memory that they hold: decoded weights and activations for cuBLASLt, its workspace, and
// the parts of split sums. The same for every model, so that a plan knows it without a GPU.
inline constexpr int64_t kCudaKernelsWorkspaceBytes = int64_t{178} << 20;

// What a layer's block needs that the CUDA kernels do not have yet; nullptr: nothing.
inline const char* MissingOnCuda(const LayerSpec& layer, BlockKind kind) {
  if (kind != BlockKind::kAttention && kind != BlockKind::kMlp) return nullptr;
  const bool attention = kind == BlockKind::kAttention;
  if (!layer.stack.empty()) return "a second stack of layers";
  if (attention && layer.attention.is_latent()) return "latent attention";
  if (attention && layer.attention.sinks) return "attention sinks";
  return !attention && layer.mlp.experts.count > 0 ? "mixtures of experts" : nullptr;
}

// Whether they can keep a KV cache of this format.
inline bool HasCudaCacheOf(const WeightFormat& format) {
  return format.name == "f32" || format.name == "f16" || format.name == "bf16";
}

}  // namespace tprun
