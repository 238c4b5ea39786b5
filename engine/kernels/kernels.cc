#include "engine/kernels/kernels.h"

#include <vector>

#include "base/status_macros.h"

// The steps of several ops, one op after the other.

namespace tprun {

absl::Status Kernels::MatMuls(const float* x, absl::Span<const Projection> projections,
                              int64_t tokens) {
  for (const Projection& p : projections) {
    RETURN_IF_ERROR(MatMul(x, p.weight, p.bias, tokens, p.out, p.out_stride));
  }
  return absl::OkStatus();
}

absl::Status Kernels::GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                                  Activation activation, int64_t tokens, float* out,
                                  float* up_out) {
  RETURN_IF_ERROR(
      MatMuls(x, {{gate, nullptr, out, gate.rows}, {up, nullptr, up_out, up.rows}}, tokens));
  return GatedActivation(activation, out, up_out, tokens * gate.rows);
}

absl::Status Kernels::HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                               int64_t stride, const NormSpec& norm) {
  for (int64_t t = 0; t < tokens; ++t) {
    float* token = x + t * stride;
    RETURN_IF_ERROR(RmsNorm(token, w, heads, head_dim, norm, token));
  }
  return absl::OkStatus();
}

absl::Status Kernels::RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                                  const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                                  const float* inverse_frequencies, const KvCacheView& cache) {
  RETURN_IF_ERROR(Rope(q, batch, query_heads, cache.head_dim, stride, rope, inverse_frequencies));
  RETURN_IF_ERROR(
      Rope(k, batch, cache.kv_heads, cache.head_dim, stride, rope, inverse_frequencies));
  return StoreKv(k, v, stride, batch, cache);
}

absl::Status Kernels::AddBias(float* x, const float* bias, int64_t tokens, int64_t dim) {
  for (int64_t t = 0; t < tokens; ++t) RETURN_IF_ERROR(Add(x + t * dim, bias, dim));
  return absl::OkStatus();
}

absl::Status Kernels::AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                                 int64_t dim, const NormSpec& norm, float* out) {
  RETURN_IF_ERROR(Add(residual, y, tokens * dim));
  return RmsNorm(residual, w, tokens, dim, norm, out);
}

absl::Status Kernels::SumParts(absl::Span<const float* const> parts, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (const float* part : parts) sum += part[i];
    out[i] = sum;
  }
  return absl::OkStatus();
}

absl::Status Kernels::SumPartsRmsNorm(absl::Span<const float* const> parts, float* residual,
                                      const float* w, int64_t tokens, int64_t dim,
                                      const NormSpec& norm, float* out) {
  std::vector<float> sum(tokens * dim);
  RETURN_IF_ERROR(SumParts(parts, tokens * dim, sum.data()));
  RETURN_IF_ERROR(Add(residual, sum.data(), tokens * dim));
  if (w == nullptr) return absl::OkStatus();
  return RmsNorm(residual, w, tokens, dim, norm, out);
}

}  // namespace tprun
