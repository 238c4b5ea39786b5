#pragma once

#include <cstdint>

#include "engine/kernels/cuda/gemm.h"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda_kernels.h"

namespace tprun::cuda {

// How the one allocation of the kernels is cut; offsets in bytes, multiples of 256.
struct WorkspaceLayout {
  static constexpr int64_t kWeightBytes = int64_t{64} << 20;      // decoded rows, f16
  static constexpr int64_t kActivationBytes = int64_t{64} << 20;  // tokens as bf16 or f16
  static constexpr int64_t kMostTokens = 64 << 10;                // of a tile of activations

  static constexpr int64_t kWeights = 0;
  static constexpr int64_t kActivations = kWeights + kWeightBytes;
  static constexpr int64_t kGemm = kActivations + kActivationBytes;
  static constexpr int64_t kAttention = kGemm + kGemmWorkspaceBytes;
  static constexpr int64_t kMatVec = kAttention + kAttentionPartialFloats * 4;
  static constexpr int64_t kScales = kMatVec + kMatVecPartialFloats * 4;
  static constexpr int64_t kTickets = kScales + kMostTokens * 4;
  static constexpr int64_t kTicketBytes = int64_t{kMatVecTickets + kAttentionTickets} * 4;
  static_assert(kTickets + kTicketBytes <= kCudaKernelsWorkspaceBytes);
};

}  // namespace tprun::cuda
