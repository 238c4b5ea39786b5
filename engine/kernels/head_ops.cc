#include "engine/kernels/head_ops.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/kernel_checks.h"
#include "engine/kernels/kernels.h"

// A matrix per head, as latent attention has them, over the other ops.

namespace tprun {
namespace {

float* At(const HeadVectors& x, int64_t token, int head) {
  return x.data + token * x.token_stride + head * x.head_stride;
}

}  // namespace

void TransposedHeadMatMul(const HeadVectors& x, const WeightMatrix& w, int64_t tokens, int head,
                          const HeadVectors& out) {
  const auto* data = static_cast<const char*>(w.data);
  std::vector<float> row(w.columns);
  for (int64_t t = 0; t < tokens; ++t) std::fill_n(At(out, t, head), w.columns, 0.0f);
  for (int64_t r = 0; r < w.rows; ++r) {
    w.format->dequantize(data + r * w.format->Bytes(w.columns), row.data(), w.columns);
    for (int64_t t = 0; t < tokens; ++t) {
      const float factor = At(x, t, head)[r];
      float* to = At(out, t, head);
      for (int64_t c = 0; c < w.columns; ++c) to[c] += factor * row[c];
    }
  }
}

absl::Status Kernels::HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                                 int64_t tokens, int heads, const HeadVectors& out) {
  RETURN_IF_ERROR(CheckWeights(w));
  if (heads == 0 || tokens == 0) return absl::OkStatus();
  if (w.rows % heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a matrix of ", w.rows, " rows for ", heads, " heads"));
  }
  WeightMatrix of_head = w;
  of_head.rows = w.rows / heads;
  const int64_t bytes = of_head.rows * w.format->Bytes(w.columns);
  std::vector<float> rows(transposed ? 0 : tokens * w.columns);
  for (int h = 0; h < heads; ++h) {
    of_head.data = static_cast<const char*>(w.data) + h * bytes;
    if (transposed) {
      TransposedHeadMatMul(x, of_head, tokens, h, out);
      continue;
    }
    for (int64_t t = 0; t < tokens; ++t) {
      std::copy_n(At(x, t, h), w.columns, rows.data() + t * w.columns);
    }
    RETURN_IF_ERROR(MatMul(rows.data(), of_head, nullptr, tokens, At(out, 0, h), out.token_stride));
  }
  return absl::OkStatus();
}

absl::Status Kernels::CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                                const HeadVectors& out) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int h = 0; h < heads; ++h) std::copy_n(At(x, t, h), count, At(out, t, h));
  }
  return absl::OkStatus();
}

}  // namespace tprun
