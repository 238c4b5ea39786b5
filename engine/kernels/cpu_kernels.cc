#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/head_ops.h"
#include "engine/kernels/int8_matmul.h"
#include "engine/kernels/kernel_checks.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/plain_matmul.h"

namespace tprun {
namespace {

// From how many tokens on a decoded tile of weights is repaid, and how many share the packed x.
constexpr int64_t kMatMulFrom = 13;
constexpr int64_t kMatMulTokens = 512;
// Floats that are worth a worker of their own: some microseconds of work.
constexpr int64_t kElementGrain = 8192;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Cosines and sines of the angles of a position, kept for the next layer.
class Angles {
 public:
  // [half] cosines, then as many sines.
  const float* At(int64_t position, const RopeSpec& rope, int half, const float* frequencies) {
    if (position == position_ && rope.magnitude == magnitude_ &&
        std::equal(frequencies_.begin(), frequencies_.end(), frequencies, frequencies + half)) {
      return values_.data();
    }
    position_ = position;
    magnitude_ = rope.magnitude;
    frequencies_.assign(frequencies, frequencies + half);
    values_.resize(2 * half);
    for (int i = 0; i < half; ++i) {
      // In double: at position 100000 an f32 angle is off by up to 0.004.
      const double angle = static_cast<double>(position) * static_cast<double>(frequencies[i]);
      values_[i] = static_cast<float>(std::cos(angle) * rope.magnitude);
      values_[half + i] = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
    return values_.data();
  }

 private:
  int64_t position_ = -1;
  float magnitude_ = 0;
  std::vector<float> frequencies_;
  std::vector<float> values_;
};

class CpuKernels : public Kernels {
 public:
  CpuKernels(ThreadPool* pool, Activations activations)
      : pool_(pool),
        activations_(activations),
        ahead_(pool),
        int8_(pool, &ahead_, activations == Activations::kInt16 ? 2 : 1),
        plain_(pool, &ahead_, activations == Activations::kInt8),
        name_(absl::StrCat("cpu (", cpu::TargetName(), SuffixOf(activations), ")")),
        scratch_(pool->num_threads()),
        angles_(pool->num_threads()) {}

  absl::string_view name() const override { return name_; }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    RETURN_IF_ERROR(CheckWeights(table));
    const int64_t row_bytes = table.format->Bytes(table.columns);
    const std::vector<cpu::Units> units = ArrangedUnits(table);
    std::vector<uint8_t> gathered(row_bytes);
    for (int64_t t = 0; t < tokens; ++t, out += table.columns) {
      const int64_t row = ids[t] - first_row;
      if (row < 0 || row >= table.rows) {
        std::fill(out, out + table.columns, 0.0f);
        continue;
      }
      const uint8_t* from = static_cast<const uint8_t*>(table.data) + row * row_bytes;
      if (!units.empty()) {
        cpu::GatherRow(units, table, row, gathered.data());
        from = gathered.data();
      }
      table.format->dequantize(from, out, table.columns);
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

  absl::Status SumParts(absl::Span<const float* const> parts, int64_t count, float* out) override {
    pool_->ParallelFor(count, kElementGrain, [&](int64_t begin, int64_t end, int) {
      cpu::SumParts(parts, begin, end - begin, out + begin);
    });
    return absl::OkStatus();
  }

  absl::Status SumPartsRmsNorm(absl::Span<const float* const> parts, float* residual,
                               const float* w, int64_t tokens, int64_t dim, const NormSpec& norm,
                               float* out) override {
    const int64_t grain = kElementGrain / std::max<int64_t>(dim, 1) + 1;
    pool_->ParallelFor(tokens, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const float squares = cpu::AddParts(parts, t * dim, dim, residual + t * dim);
        if (w != nullptr) cpu::ScaleRow(residual + t * dim, squares, w, dim, norm, out + t * dim);
      }
    });
    return absl::OkStatus();
  }

  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    RETURN_IF_ERROR(CheckWeights(w));
    if (w.rows == 0) return absl::OkStatus();
    if (RunArranged(x, {{w, bias, out, out_stride}}, tokens)) return absl::OkStatus();
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

  absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                       int64_t tokens) override {
    for (const Projection& p : projections) RETURN_IF_ERROR(CheckWeights(p.weight));
    if (RunArranged(x, projections, tokens)) return absl::OkStatus();
    return Kernels::MatMuls(x, projections, tokens);
  }

  absl::Status ArrangeWeights(const WeightFormat& format, void* data, int64_t rows,
                              int64_t columns) override {
    const WeightMatrix w{data, &format, rows, columns};
    RETURN_IF_ERROR(CheckWeights(w));
    const std::vector<cpu::Units> units = ArrangedUnits(w);
    if (units.empty()) return absl::OkStatus();
    const int64_t tiles = CeilDivide(rows, cpu::kTileRows);
    pool_->ParallelFor(tiles, 1, [&](int64_t begin, int64_t end, int) {
      ArrangeTiles(units, w, begin, end, data);
    });
    return absl::OkStatus();
  }

  int64_t arranged_rows() const override { return cpu::kTileRows; }
  absl::Status ArrangeRows(const WeightFormat& format, void* data, int64_t rows, int64_t columns,
                           int64_t begin, int64_t end) override {
    const WeightMatrix w{data, &format, rows, columns};
    RETURN_IF_ERROR(CheckWeights(w));
    const bool whole = begin % cpu::kTileRows == 0 && (end % cpu::kTileRows == 0 || end == rows);
    if (!whole || begin < 0 || begin > end || end > rows) {
      return absl::InvalidArgumentError(absl::StrCat("ArrangeRows: rows ", begin, " to ", end,
                                                     " of ", rows, " are no whole tiles of ",
                                                     cpu::kTileRows));
    }
    const std::vector<cpu::Units> units = ArrangedUnits(w);
    if (units.empty()) return absl::OkStatus();
    ArrangeTiles(units, w, begin / cpu::kTileRows, CeilDivide(end, cpu::kTileRows), data);
    return absl::OkStatus();
  }

  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    RETURN_IF_ERROR(CheckBatch(batch));
    RETURN_IF_ERROR(CheckRope(rope, head_dim));
    if (rope.layout == RopeLayout::kNone || rope.dims == 0) return absl::OkStatus();
    const int half = rope.dims / 2;
    ForTokens(batch, 4, [&](int64_t t, int /*sequence*/, int64_t position, int worker) {
      const float* cosines = angles_[worker].At(position, rope, half, inverse_frequencies);
      cpu::RopeToken(x + t * stride, heads, head_dim, rope, cosines, cosines + half);
    });
    return absl::OkStatus();
  }

  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    RETURN_IF_ERROR(CheckCache(cache, batch));
    const int64_t dim = cache.head_dim;
    ForTokens(batch, 16, [&](int64_t t, int sequence, int64_t position, int /*worker*/) {
      for (int64_t h = 0; h < cache.kv_heads; ++h) {
        const int64_t from = t * stride + h * dim;
        const auto row = [&](void* data) { return CacheRow(cache, data, sequence, h, position); };
        cpu::StoreRounded(k + from, *cache.format, row(cache.keys), dim);
        cpu::StoreRounded(v + from, *cache.format, row(cache.values), dim);
      }
    });
    return absl::OkStatus();
  }

  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    RETURN_IF_ERROR(CheckAttention(cache, shape, batch));
    const cpu::AttentionParts work = cpu::CutAttention(shape, batch.runs, pool_->num_threads());
    const int64_t floats = cpu::AttentionScratchFloats(cache.head_dim);
    partial_.resize(work.partial_rows * cpu::PartialFloats(cache.head_dim));
    pool_->ParallelFor(work.workers(), 1, [&](int64_t begin, int64_t end, int worker) {
      float* scratch = Scratch(worker, floats);
      for (int64_t i = work.first[begin]; i < work.first[end]; ++i) {
        cpu::AttendPart(q, q_stride, cache, shape, work.parts[i], out, partial_.data(), scratch);
      }
    });
    for (const absl::Span<const cpu::AttentionPart> pieces : work.pieces()) {
      cpu::MergePieces(pieces, cache, shape, partial_.data(), out);
    }
    return absl::OkStatus();
  }

  absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                          int64_t tokens, int heads, const HeadVectors& out) override {
    if (!transposed || heads == 0 || w.rows % heads != 0) {
      return Kernels::HeadMatMul(x, w, transposed, tokens, heads, out);
    }
    RETURN_IF_ERROR(CheckWeights(w));
    const int64_t rows = w.rows / heads, bytes = rows * w.format->Bytes(w.columns);
    pool_->ParallelFor(heads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t h = begin; h < end; ++h) {
        const void* data = static_cast<const uint8_t*>(w.data) + h * bytes;
        TransposedHeadMatMul(x, {data, w.format, rows, w.columns}, tokens, static_cast<int>(h),
                             out);
      }
    });
    return absl::OkStatus();
  }

  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    // An exponential takes as long as several plain operations.
    pool_->ParallelFor(count, kElementGrain / 4, [&](int64_t begin, int64_t end, int) {
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

  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    std::vector<BestLogit> of_worker(pool_->num_threads());
    for (int64_t r = 0; r < rows; ++r, x += columns) {
      std::fill(of_worker.begin(), of_worker.end(), BestLogit());
      pool_->ParallelFor(columns, kElementGrain, [&](int64_t begin, int64_t end, int worker) {
        BestLogit own;  // of these columns: a worker's pieces come in any order
        for (int64_t c = begin; c < end; ++c) {
          if (x[c] <= own.logit && own.id >= 0) continue;
          TakeBetter({x[c], static_cast<int32_t>(first_id + c)}, &own);
        }
        TakeBetter(own, &of_worker[worker]);
      });
      best[r] = BestLogit();
      for (const BestLogit& candidate : of_worker) TakeBetter(candidate, &best[r]);
    }
    return absl::OkStatus();
  }

 private:
  static absl::string_view SuffixOf(Activations activations) {
    return activations == Activations::kInt8    ? ", int8 activations"
           : activations == Activations::kInt16 ? ", int16 activations"
                                                : "";
  }

  static void ArrangeTiles(const std::vector<cpu::Units>& units, const WeightMatrix& w,
                           int64_t begin, int64_t end, void* data) {
    std::vector<uint8_t> scratch(cpu::kTileRows * w.format->Bytes(w.columns));
    cpu::ArrangeTiles(units, w, begin, end, static_cast<uint8_t*>(data), scratch.data());
  }

  // What the rows of a matrix consist of that ArrangeWeights has arranged; empty: it lies as it
  // was.
  std::vector<cpu::Units> ArrangedUnits(const WeightMatrix& w) const {
    if (activations_ == Activations::kF32) return {};
    const cpu::Int8Format* format = cpu::FindInt8Format(*w.format);
    if (format == nullptr) return cpu::PlainUnits(*w.format, w.columns);
    return {format->units.begin(), format->units.end()};
  }

  // Whether the products are those of arranged matrices; then they are done.
  bool RunArranged(const float* x, absl::Span<const Projection> projections, int64_t tokens) {
    if (activations_ == Activations::kF32) return false;
    if (cpu::Int8MatMul::Takes(projections)) {
      int8_.Run(x, projections, tokens);
    } else if (cpu::PlainMatMul::Takes(projections)) {
      plain_.Run(x, projections, tokens);
    } else {
      return false;
    }
    return true;
  }

  static void TakeBetter(const BestLogit& candidate, BestLogit* best) {
    if (candidate.id < 0 || !std::isfinite(candidate.logit)) return;
    const bool first = best->id < 0 || candidate.logit > best->logit;
    if (first || (candidate.logit == best->logit && candidate.id < best->id)) *best = candidate;
  }

  // Calls body(token, sequence, position, worker) for every token of the batch.
  template <class Body>
  void ForTokens(const TokenBatch& batch, int64_t grain, const Body& body) {
    pool_->ParallelFor(batch.tokens, grain, [&](int64_t begin, int64_t end, int worker) {
      int64_t first = 0;  // token of the run
      for (const TokenRun& run : batch.runs) {
        const int64_t stop = std::min(end, first + run.tokens);
        for (int64_t t = std::max(begin, first); t < stop; ++t) {
          body(t, run.sequence, run.first_position + t - first, worker);
        }
        first += run.tokens;
      }
    });
  }

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

  // Calls body(part, worker) for tiles of rows, and cuts tokens too where there are few rows for
  // many workers.
  template <class Body>
  void ForTiles(int64_t rows, int64_t tile_rows, int64_t tokens, const Body& body) {
    const int64_t tiles = CeilDivide(rows, tile_rows);
    const int64_t wanted = pool_->num_threads() / tiles;
    const int64_t cuts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(tokens / 12, 1));
    pool_->ParallelFor(tiles * cuts, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end;) {
        const int64_t cut = i / tiles;
        const int64_t stop = std::min(end, (cut + 1) * tiles);
        body({i - cut * tiles, stop - cut * tiles, tokens * cut / cuts, tokens * (cut + 1) / cuts},
             worker);
        i = stop;
      }
    });
  }

  void BlockedMatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                     float* out, int64_t out_stride) {
    const int64_t packed_floats = cpu::PackedFloats(tokens, w.columns);
    if (static_cast<int64_t>(packed_.size()) < packed_floats) packed_.resize(packed_floats);
    pool_->ParallelFor(tokens, 4, [&](int64_t begin, int64_t end, int) {
      cpu::PackTokens(x, tokens, w.columns, begin, end, packed_.data());
    });
    ForTiles(w.rows, cpu::MatMulTileRows(), tokens, [&](const cpu::MatMulPart& part, int worker) {
      float* scratch = Scratch(worker, cpu::MatMulScratchFloats());
      cpu::MatMulTiles(packed_.data(), tokens, w, bias, out, out_stride, part, scratch);
    });
  }

  ThreadPool* const pool_;
  const Activations activations_;
  cpu::WeightsAhead ahead_;
  cpu::Int8MatMul int8_;
  cpu::PlainMatMul plain_;
  const std::string name_;
  std::vector<std::vector<float>> scratch_;  // of each worker
  std::vector<Angles> angles_;               // likewise
  std::vector<float> packed_;                // x of BlockedMatMul
  std::vector<float> partial_;               // of attention's pieces
};

}  // namespace

std::unique_ptr<Kernels> MakeCpuKernels(ThreadPool* pool, Activations activations) {
  return std::make_unique<CpuKernels>(pool, activations);
}

}  // namespace tprun
