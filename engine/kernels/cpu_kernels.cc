#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/kernel_checks.h"
#include "engine/kernels/kernels.h"

namespace tprun {
namespace {

// From how many tokens on a decoded tile of weights is repaid, and how many share the packed x.
constexpr int64_t kMatMulFrom = 13;
constexpr int64_t kMatMulTokens = 512;
// Floats that are worth a worker of their own: some microseconds of work.
constexpr int64_t kElementGrain = 8192;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

class CpuKernels : public Kernels {
 public:
  explicit CpuKernels(ThreadPool* pool)
      : pool_(pool),
        name_(absl::StrCat("cpu (", cpu::TargetName(), ")")),
        scratch_(pool->num_threads()) {}

  absl::string_view name() const override { return name_; }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    RETURN_IF_ERROR(CheckWeights(table));
    const int64_t row_bytes = table.format->Bytes(table.columns);
    for (int64_t t = 0; t < tokens; ++t, out += table.columns) {
      const int64_t row = ids[t] - first_row;
      if (row < 0 || row >= table.rows) {
        std::fill(out, out + table.columns, 0.0f);
        continue;
      }
      table.format->dequantize(static_cast<const uint8_t*>(table.data) + row * row_bytes, out,
                               table.columns);
      if (scale != 1) cpu::Scale(out, table.columns, scale);
    }
    return absl::OkStatus();
  }

  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    const int64_t grain = kElementGrain / std::max<int64_t>(dim, 1) + 1;
    pool_->ParallelFor(tokens, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        cpu::RmsNormRow(x + t * dim, w, dim, norm, out + t * dim);
      }
    });
    return absl::OkStatus();
  }

  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    RETURN_IF_ERROR(CheckWeights(w));
    if (w.rows == 0) return absl::OkStatus();
    if (tokens < kMatMulFrom) {
      MatVec(x, w, bias, tokens, out, out_stride);
      return absl::OkStatus();
    }
    for (int64_t first = 0; first < tokens; first += kMatMulTokens) {
      BlockedMatMul(x + first * w.columns, w, bias, std::min(kMatMulTokens, tokens - first),
                    out + first * out_stride, out_stride);
    }
    return absl::OkStatus();
  }

  absl::Status Rope(float* x, int64_t tokens, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies,
                    int64_t first_position) override {
    RETURN_IF_ERROR(CheckRope(rope, head_dim));
    if (rope.layout == RopeLayout::kNone || rope.dims == 0) return absl::OkStatus();
    const int half = rope.dims / 2;
    pool_->ParallelFor(tokens, 4, [&](int64_t begin, int64_t end, int worker) {
      float* cosines = Scratch(worker, 2 * half);
      float* sines = cosines + half;
      for (int64_t t = begin; t < end; ++t) {
        // In double: at position 100000 an f32 angle is off by up to 0.004.
        for (int i = 0; i < half; ++i) {
          const double angle =
              static_cast<double>(first_position + t) * static_cast<double>(inverse_frequencies[i]);
          cosines[i] = static_cast<float>(std::cos(angle));
          sines[i] = static_cast<float>(std::sin(angle));
        }
        cpu::RopeToken(x + t * stride, heads, head_dim, rope, cosines, sines);
      }
    });
    return absl::OkStatus();
  }

  absl::Status StoreKv(const float* k, const float* v, int64_t tokens, int64_t stride,
                       int64_t first_position, const KvCacheView& cache) override {
    RETURN_IF_ERROR(CheckCache(cache, first_position, tokens));
    const int64_t dim = cache.head_dim;
    pool_->ParallelFor(tokens, 16, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t h = 0; h < cache.kv_heads; ++h) {
          const int64_t from = t * stride + h * dim;
          const int64_t to = (h * cache.capacity + first_position + t) * dim;
          cpu::StoreRounded(k + from, cache.dtype, cache.keys, to, dim);
          cpu::StoreRounded(v + from, cache.dtype, cache.values, to, dim);
        }
      }
    });
    return absl::OkStatus();
  }

  absl::Status Attention(const float* q, int64_t tokens, int64_t q_stride, int64_t first_position,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    RETURN_IF_ERROR(CheckAttention(cache, shape, first_position, tokens));
    const std::vector<cpu::AttentionPart> parts = CutAttention(shape, tokens);
    const int64_t floats = cpu::AttentionScratchFloats(cache.head_dim);
    pool_->ParallelFor(parts.size(), 1, [&](int64_t begin, int64_t end, int worker) {
      float* scratch = Scratch(worker, floats);
      for (int64_t i = begin; i < end; ++i) {
        cpu::AttendPart(q, q_stride, first_position, cache, shape, parts[i], out, scratch);
      }
    });
    return absl::OkStatus();
  }

  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    pool_->ParallelFor(count, kElementGrain, [&](int64_t begin, int64_t end, int) {
      cpu::GatedActivation(activation, gate + begin, up + begin, end - begin);
    });
    return absl::OkStatus();
  }

  absl::Status Add(float* x, const float* y, int64_t count) override {
    pool_->ParallelFor(count, 4 * kElementGrain, [&](int64_t begin, int64_t end, int) {
      cpu::Add(x + begin, y + begin, end - begin);
    });
    return absl::OkStatus();
  }

  absl::Status Softcap(float* x, int64_t count, float cap) override {
    pool_->ParallelFor(count, kElementGrain, [&](int64_t begin, int64_t end, int) {
      cpu::Softcap(x + begin, end - begin, cap);
    });
    return absl::OkStatus();
  }

 private:
  // A worker's own memory, kept from call to call.
  float* Scratch(int worker, int64_t floats) {
    std::vector<float>& scratch = scratch_[worker];
    if (static_cast<int64_t>(scratch.size()) < floats) scratch.resize(floats);
    return scratch.data();
  }

  void MatVec(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens, float* out,
              int64_t out_stride) {
    if (tokens == 0) return;
    const int64_t floats =
        cpu::MatVecNeedsScratch(*w.format) ? cpu::kMatVecScratchRows * w.columns : 0;
    pool_->ParallelFor(w.rows, 4, [&](int64_t begin, int64_t end, int worker) {
      cpu::MatVecRows(x, w, bias, tokens, out, out_stride, begin, end, Scratch(worker, floats));
    });
  }

  // Cut over rows, and over tokens too where there are few rows for many workers.
  void BlockedMatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                     float* out, int64_t out_stride) {
    const int64_t packed_floats = cpu::PackedFloats(tokens, w.columns);
    if (static_cast<int64_t>(packed_.size()) < packed_floats) packed_.resize(packed_floats);
    pool_->ParallelFor(tokens, 4, [&](int64_t begin, int64_t end, int) {
      cpu::PackTokens(x, tokens, w.columns, begin, end, packed_.data());
    });
    const int64_t tiles = CeilDivide(w.rows, cpu::MatMulTileRows());
    const int64_t wanted = pool_->num_threads() / tiles;
    const int64_t cuts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(tokens / 12, 1));
    pool_->ParallelFor(tiles * cuts, 1, [&](int64_t begin, int64_t end, int worker) {
      float* scratch = Scratch(worker, cpu::MatMulScratchFloats());
      for (int64_t i = begin; i < end;) {
        const int64_t cut = i / tiles;
        const int64_t stop = std::min(end, (cut + 1) * tiles);
        const cpu::MatMulPart part{i - cut * tiles, stop - cut * tiles, tokens * cut / cuts,
                                   tokens * (cut + 1) / cuts};
        cpu::MatMulTiles(packed_.data(), tokens, w, bias, out, out_stride, part, scratch);
        i = stop;
      }
    });
  }

  // The runs of query heads that read the same KV head, for blocks of tokens; fewer tokens, then
  // fewer heads at a time while there are fewer parts than workers.
  std::vector<cpu::AttentionPart> CutAttention(const AttentionShape& shape, int64_t tokens) const {
    std::vector<cpu::AttentionPart> parts;
    if (tokens == 0) return parts;
    const int64_t kv_heads = std::max(1, shape.query_heads / shape.queries_per_kv_head);
    const int64_t wanted = CeilDivide(pool_->num_threads(), kv_heads);
    const int64_t head_cuts = CeilDivide(wanted, tokens);
    for (int begin = 0; begin < shape.query_heads;) {
      int end = begin + 1;
      while (end < shape.query_heads && KvHeadOf(shape, end) == KvHeadOf(shape, begin)) ++end;
      const int64_t heads =
          std::min<int64_t>(CeilDivide(end - begin, head_cuts), cpu::kAttentionQueries);
      const int64_t step = std::min(cpu::kAttentionQueries / heads, CeilDivide(tokens, wanted));
      for (int64_t h = begin; h < end; h += heads) {
        const int stop = static_cast<int>(std::min<int64_t>(h + heads, end));
        AddTokenBlocks({KvHeadOf(shape, begin), static_cast<int>(h), stop, 0, tokens}, step,
                       &parts);
      }
      begin = end;
    }
    return parts;
  }

  // Later tokens see more: from both ends in turn, so that halves of the list cost the same.
  static void AddTokenBlocks(cpu::AttentionPart part, int64_t step,
                             std::vector<cpu::AttentionPart>* parts) {
    const int64_t tokens = part.token_end;
    const int64_t blocks = CeilDivide(tokens, step);
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t block = i % 2 == 0 ? i / 2 : blocks - 1 - i / 2;
      part.token_begin = block * step;
      part.token_end = std::min(tokens, (block + 1) * step);
      parts->push_back(part);
    }
  }

  ThreadPool* const pool_;
  const std::string name_;
  std::vector<std::vector<float>> scratch_;  // of each worker
  std::vector<float> packed_;                // x of BlockedMatMul
};

}  // namespace

std::unique_ptr<Kernels> MakeCpuKernels(ThreadPool* pool) {
  return std::make_unique<CpuKernels>(pool);
}

}  // namespace tprun
