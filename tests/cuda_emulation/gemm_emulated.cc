// What cuBLASLt computes, as plain loops: for tests whose kernels are emulated.

#include "base/dtype.h"
#include "engine/format/fp8_bits.h"
#include "engine/kernels/cuda/gemm.h"

namespace tprun::cuda {
namespace {

float At(Element element, const void* data, int64_t i) {
  switch (element) {
    case Element::kF32:
      return static_cast<const float*>(data)[i];
    case Element::kF16:
      return ToFloat(static_cast<const Float16*>(data)[i]);
    case Element::kBF16:
      return ToFloat(static_cast<const BFloat16*>(data)[i]);
    case Element::kE4M3:
    case Element::kQ8_0:
      break;  // no matrix has these
  }
  return 0;
}

class EmulatedGemm final : public Gemm {
 public:
  absl::Status Multiply(Element element, const void* x, const void* w, int64_t tokens, int64_t rows,
                        int64_t columns, float* out, int64_t out_stride) override {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        float sum = 0;
        for (int64_t c = 0; c < columns; ++c) {
          sum += At(element, x, t * columns + c) * At(element, w, r * columns + c);
        }
        out[t * out_stride + r] = sum;
      }
    }
    return absl::OkStatus();
  }

  absl::Status MultiplyFp8(const Fp8Factor& x, const Fp8Factor& w, int64_t tokens, int64_t rows,
                           int64_t columns, float* out, int64_t out_stride) override {
    const auto* xs = static_cast<const uint8_t*>(x.values);
    const auto* ws = static_cast<const uint8_t*>(w.values);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) {
        float sum = 0;
        for (int64_t group = 0; group < columns / kFp8Group; ++group) {
          float part = 0;
          for (int64_t c = group * kFp8Group; c < (group + 1) * kFp8Group; ++c) {
            part += FromE4M3(xs[t * columns + c]) * FromE4M3(ws[r * columns + c]);
          }
          if (w.scales != nullptr) part *= w.scales[group * rows + r];
          if (x.scales != nullptr) part *= x.scales[group * tokens + t];
          sum += part;
        }
        out[t * out_stride + r] = sum;
      }
    }
    return absl::OkStatus();
  }

  size_t cublaslt_version() const override { return 130000; }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm(const Stream&, void*) {
  return std::make_unique<EmulatedGemm>();
}

}  // namespace tprun::cuda
