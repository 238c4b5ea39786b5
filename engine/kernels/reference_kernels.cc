#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/status_macros.h"
#include "engine/kernels/kernel_checks.h"
#include "engine/kernels/kernels.h"

namespace tprun {
namespace {

const uint8_t* Row(const WeightMatrix& w, int64_t row) {
  return static_cast<const uint8_t*>(w.data) + row * w.format->Bytes(w.columns);
}

// act(gate) * up.
double Activate(Activation activation, double x, double up) {
  if (activation == Activation::kClampedSwiGlu) {
    const double gate = std::min(x, 7.0);
    return gate / (1 + std::exp(-1.702 * gate)) * (std::clamp(up, -7.0, 7.0) + 1);
  }
  if (activation == Activation::kSilu) return x / (1 + std::exp(-x)) * up;
  // x / 2 (1 + tanh(z)), arXiv 1606.08415, in the form that does not cancel for negative z.
  const double z = 0.7978845608028654 * (x + 0.044715 * x * x * x);  // sqrt(2 / pi)
  return x / (1 + std::exp(-2 * z)) * up;
}

class ReferenceKernels : public Kernels {
 public:
  absl::string_view name() const override { return "reference"; }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    RETURN_IF_ERROR(CheckWeights(table));
    for (int64_t t = 0; t < tokens; ++t, out += table.columns) {
      const int64_t row = ids[t] - first_row;
      std::fill(out, out + table.columns, 0.0f);
      if (row < 0 || row >= table.rows) continue;
      table.format->dequantize(Row(table, row), out, table.columns);
      for (int64_t c = 0; c < table.columns; ++c) out[c] *= scale;
    }
    return absl::OkStatus();
  }

  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    for (int64_t t = 0; t < tokens; ++t, x += dim, out += dim) {
      double sum = 0;
      for (int64_t i = 0; i < dim; ++i) sum += static_cast<double>(x[i]) * x[i];
      const double scale = 1 / std::sqrt(sum / dim + norm.eps);
      for (int64_t i = 0; i < dim; ++i) {
        out[i] = static_cast<float>(x[i] * scale * (w[i] + (norm.unit_offset ? 1.0 : 0.0)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    RETURN_IF_ERROR(CheckWeights(w));
    std::vector<float> row(w.columns);
    for (int64_t r = 0; tokens > 0 && r < w.rows; ++r) {
      if (w.columns > 0) w.format->dequantize(Row(w, r), row.data(), w.columns);
      for (int64_t t = 0; t < tokens; ++t) {
        double sum = bias == nullptr ? 0 : bias[r];
        for (int64_t c = 0; c < w.columns; ++c) {
          sum += static_cast<double>(x[t * w.columns + c]) * row[c];
        }
        out[t * out_stride + r] = static_cast<float>(sum);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    RETURN_IF_ERROR(CheckBatch(batch));
    RETURN_IF_ERROR(CheckRope(rope, head_dim));
    if (rope.layout == RopeLayout::kNone) return absl::OkStatus();
    for (const TokenRun& run : batch.runs) {
      for (int64_t t = 0; t < run.tokens; ++t, x += stride) {
        for (int h = 0; h < heads; ++h) {
          Rotate(x + static_cast<int64_t>(h) * head_dim, run.first_position + t, rope,
                 inverse_frequencies);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    RETURN_IF_ERROR(CheckCache(cache, batch));
    for (const TokenRun& run : batch.runs) {
      for (int64_t t = 0; t < run.tokens; ++t, k += stride, v += stride) {
        const int64_t position = run.first_position + t;
        for (int64_t h = 0; h < cache.kv_heads; ++h) {
          const auto row = [&](void* data) {
            return CacheRow(cache, data, run.sequence, h, position);
          };
          cache.format->quantize(k + h * cache.head_dim, row(cache.keys), cache.head_dim);
          cache.format->quantize(v + h * cache.head_dim, row(cache.values), cache.head_dim);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    RETURN_IF_ERROR(CheckAttention(cache, shape, batch));
    for (const TokenRun& run : batch.runs) {
      for (int64_t t = 0; t < run.tokens; ++t, q += q_stride) {
        for (int h = 0; h < shape.query_heads; ++h, out += cache.head_dim) {
          AttendOne(q + static_cast<int64_t>(h) * cache.head_dim, run.sequence,
                    run.first_position + t, KvHeadOf(shape, h), cache, shape,
                    shape.sinks == nullptr ? nullptr : shape.sinks + h, out);
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    for (int64_t i = 0; i < count; ++i) {
      gate[i] = static_cast<float>(Activate(activation, gate[i], up[i]));
    }
    return absl::OkStatus();
  }

  absl::Status Add(float* x, const float* y, int64_t count) override {
    for (int64_t i = 0; i < count; ++i) x[i] += y[i];
    return absl::OkStatus();
  }

  absl::Status Softcap(float* x, int64_t count, float cap) override {
    for (int64_t i = 0; i < count; ++i) {
      x[i] = static_cast<float>(cap * std::tanh(static_cast<double>(x[i]) / cap));
    }
    return absl::OkStatus();
  }

  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    for (int64_t r = 0; r < rows; ++r, x += columns) {
      best[r] = BestLogit();
      for (int64_t c = 0; c < columns; ++c) {
        if (!std::isfinite(x[c]) || (best[r].id >= 0 && !(x[c] > best[r].logit))) continue;
        best[r] = {x[c], static_cast<int32_t>(first_id + c)};
      }
    }
    return absl::OkStatus();
  }

 private:
  static void Rotate(float* head, int64_t position, const RopeSpec& rope,
                     const float* inverse_frequencies) {
    const bool interleaved = rope.layout == RopeLayout::kInterleaved;
    const int half = rope.dims / 2;
    for (int i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(position) * static_cast<double>(inverse_frequencies[i]);
      float& a = head[interleaved ? 2 * i : i];
      float& b = head[interleaved ? 2 * i + 1 : i + half];
      const double a_in = a, b_in = b;
      const double cosine = std::cos(angle) * rope.magnitude;
      const double sine = std::sin(angle) * rope.magnitude;
      a = static_cast<float>(a_in * cosine - b_in * sine);
      b = static_cast<float>(a_in * sine + b_in * cosine);
    }
  }

  // One query against the positions it sees.
  static void AttendOne(const float* q, int sequence, int64_t position, int kv_head,
                        const KvCacheView& cache, const AttentionShape& shape, const float* sink,
                        float* out) {
    const auto row = [&](void* data, int64_t p) {
      std::vector<float> decoded(cache.head_dim);
      cache.format->dequantize(CacheRow(cache, data, sequence, kv_head, p), decoded.data(),
                               cache.head_dim);
      return decoded;
    };
    const int64_t first = FirstVisible(shape, position);
    std::vector<double> weight(position + 1 - first);
    double max = -std::numeric_limits<double>::infinity();
    for (int64_t p = first; p <= position; ++p) {
      const std::vector<float> key = row(cache.keys, p);
      double dot = 0;
      for (int i = 0; i < cache.head_dim; ++i) dot += static_cast<double>(q[i]) * key[i];
      dot *= shape.scale;
      if (shape.logit_softcap > 0) {
        dot = shape.logit_softcap * std::tanh(dot / shape.logit_softcap);
      }
      weight[p - first] = dot;
      max = std::max(max, dot);
    }
    if (sink != nullptr) max = std::max<double>(max, *sink);
    double sum = sink == nullptr ? 0 : std::exp(*sink - max);
    for (double& w : weight) sum += (w = std::exp(w - max));
    std::vector<double> value(cache.head_dim);
    for (int64_t p = first; p <= position; ++p) {
      const std::vector<float> of_position = row(cache.values, p);
      for (int i = 0; i < cache.head_dim; ++i) value[i] += weight[p - first] * of_position[i];
    }
    for (int i = 0; i < cache.head_dim; ++i) out[i] = static_cast<float>(value[i] / sum);
  }
};

}  // namespace

std::unique_ptr<Kernels> MakeReferenceKernels() { return std::make_unique<ReferenceKernels>(); }

}  // namespace tprun
