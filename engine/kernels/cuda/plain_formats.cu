#include "engine/kernels/cuda/make_format_ops.cuh"

namespace tprun::cuda {

const FormatOps* PlainOps(Format format) {
  switch (format) {
    case Format::kF32:
      return OpsInFileOrder<PlainReader<F32Element>>();
    case Format::kF16:
      return OpsInFileOrder<PlainReader<F16Element>>();
    case Format::kBF16:
      return OpsInFileOrder<PlainReader<Bf16Element>>();
    default:
      return nullptr;
  }
}

}  // namespace tprun::cuda
