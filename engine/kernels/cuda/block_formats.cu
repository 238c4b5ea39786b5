// ggml's formats that are read where they lie.

#include "engine/kernels/cuda/block_formats.cuh"

#include "engine/kernels/cuda/make_format_ops.cuh"

namespace tprun::cuda {

const FormatOps* BlockOps(Format format) {
  switch (format) {
    case Format::kQ4_1:
      return OpsInFileOrder<BlockReader<Q4_1>>();
    case Format::kQ5_0:
      return OpsInFileOrder<BlockReader<Q5_0>>();
    case Format::kQ5_1:
      return OpsInFileOrder<BlockReader<Q5_1>>();
    case Format::kQ2_K:
      return OpsInFileOrder<BlockReader<Q2_K>>();
    case Format::kQ3_K:
      return OpsInFileOrder<BlockReader<Q3_K>>();
    case Format::kIq4Nl:
      return OpsInFileOrder<BlockReader<Iq4Nl>>();
    case Format::kIq4Xs:
      return OpsInFileOrder<BlockReader<Iq4Xs>>();
    default:
      return nullptr;
  }
}

}  // namespace tprun::cuda
