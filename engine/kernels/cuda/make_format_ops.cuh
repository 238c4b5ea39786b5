#pragma once

#include "engine/kernels/cuda/format_ops.h"
#include "engine/kernels/cuda/row_matvec.cuh"
#include "engine/kernels/cuda/transposed_heads.cuh"
#include "engine/kernels/cuda/weights.cuh"

namespace tprun::cuda {

// The ops of a format that is read as it is in the checkpoint.
template <class Reader>
const FormatOps* OpsInFileOrder() {
  static constexpr FormatOps kOps = [] {
    FormatOps ops = {&LaunchEmbedding<Reader>, nullptr, &LaunchRowMatVec<Reader>,
                     &LaunchTransposedHeads<Reader>};
    if constexpr (Reader::kElements == 8) ops.decode = &LaunchDecode<Reader>;
    return ops;
  }();
  return &kOps;
}

// Of one that ArrangeBlocks has arranged; InFile reads it as it was before.
template <class Reader, class InFile>
const FormatOps* OpsOfArranged() {
  static constexpr FormatOps kOps = {&LaunchEmbedding<Reader>, &LaunchDecode<Reader>, nullptr,
                                     &LaunchTransposedHeads<InFile>};
  return &kOps;
}

}  // namespace tprun::cuda
