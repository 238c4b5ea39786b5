// Attention of up to kAttentionQueries queries that share a KV head, over a chunk of positions at a
// time with a running softmax (arXiv 1805.02867, 2205.14135): keys and values are widened to f32
// once for all of them.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/kernel_checks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/gemm_tile-inl.h"
#include "engine/kernels/quant_blocks-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kChunk = 64;    // positions: keys and values of 128 elements are 32 KiB each
constexpr int64_t kTurnFrom = 4;  // queries from which turning the keys is repaid
static_assert(kChunk % kTileN == 0);

int64_t PaddedHead(int64_t head_dim) { return (head_dim + kTileN - 1) / kTileN * kTileN; }

// Pieces of one worker's memory, f32.
struct Scratch {
  Scratch(float* p, int64_t head)
      : head(head),
        query(p),
        sums(query + kAttentionQueries * head),
        rows(sums + kAttentionQueries * head),
        keys(rows + kChunk * head),
        scores(keys + kChunk * head),
        max(scores + kAttentionQueries * kChunk),
        total(max + kAttentionQueries) {}
  static int64_t Floats(int64_t head) {
    return (2 * kAttentionQueries + 2 * kChunk) * head + kAttentionQueries * (kChunk + 2);
  }
  int64_t head;   // head_dim, padded
  float* query;   // [queries, head], scaled
  float* sums;    // [queries, head]: values, weighted relative to exp(max)
  float* rows;    // [chunk, head]: keys, then values
  float* keys;    // [head, chunk]
  float* scores;  // [queries, chunk], then their weights
  float* max;     // [queries]
  float* total;   // [queries]: sum of the weights relative to exp(max)
};

int64_t AttentionScratchFloats(int64_t head_dim) { return Scratch::Floats(PaddedHead(head_dim)); }

struct Item {
  const KvCacheView& cache;
  const AttentionShape& shape;
  const AttentionPart& part;
  int heads() const { return part.head_end - part.head_begin; }
  int64_t queries() const { return heads() * (part.token_end - part.token_begin); }
  // Queries are ordered by token, then head.
  int64_t position(int64_t query) const { return part.position + query / heads(); }
  // Keys or values of the part's sequence and KV head from position p on.
  const uint8_t* at(void* data, int64_t p) const {
    return CacheRow(cache, data, part.sequence, part.kv_head, p);
  }
};

HWY_INLINE void WidenFrom(const WeightFormat& format, const uint8_t* in, int64_t count,
                          float* out) {
  if (&format == &kF32Format) return Widen<F32Element>(in, count, out);
  if (&format == &kF16Format) return Widen<F16Element>(in, count, out);
  if (&format == &kBF16Format) return Widen<BF16Element>(in, count, out);
  if (&format == &kE4M3Format) return Widen<E4M3Element>(in, count, out);
  if (&format == &kQ8_0Format) return DecodeBlocks<Q8_0Block>(in, count, out);
  format.dequantize(in, out, count);
}

// s.rows [count, head] = keys or values of positions [first, first + count).
HWY_NOINLINE void WidenRows(const Item& item, void* data, int64_t first, int64_t count,
                            const Scratch& s) {
  const int64_t head_dim = item.cache.head_dim;
  const int64_t row_bytes = item.cache.row_bytes();
  const uint8_t* in = item.at(data, first);
  for (int64_t p = 0; p < count; ++p) {
    float* row = s.rows + p * s.head;
    WidenFrom(*item.cache.format, in + p * row_bytes, head_dim, row);
    std::fill(row + head_dim, row + s.head, 0.0f);
  }
}

// s.scores [queries, chunk] = query . key; those past `count` are unspecified.
HWY_NOINLINE void ScoreChunk(const Item& item, int64_t first, int64_t count, const Scratch& s) {
  WidenRows(item, item.cache.keys, first, count, s);
  const int64_t queries = item.queries();
  if (queries >= kTurnFrom) {
    const int64_t whole = (count + 3) / 4 * 4;
    Transpose(s.rows, s.head, whole, item.cache.head_dim, s.keys, kChunk);
    std::fill(s.scores, s.scores + queries * kChunk, 0.0f);
    Gemm(queries, kChunk, item.cache.head_dim, s.query, s.head, s.keys, kChunk, s.scores, kChunk);
    return;
  }
  const F32Tag d;
  for (int64_t p = 0; p < count; ++p) {
    for (int64_t q = 0; q < queries; ++q) {
      F32Vec sum0 = hn::Zero(d), sum1 = hn::Zero(d);
      for (int64_t i = 0; i < s.head; i += 2 * kLanes) {
        const float* a = s.query + q * s.head + i;
        const float* b = s.rows + p * s.head + i;
        sum0 = hn::MulAdd(hn::LoadU(d, a), hn::LoadU(d, b), sum0);
        sum1 = hn::MulAdd(hn::LoadU(d, a + kLanes), hn::LoadU(d, b + kLanes), sum1);
      }
      s.scores[q * kChunk + p] = Sum(hn::Add(sum0, sum1));
    }
  }
}

HWY_INLINE void CapScores(float* scores, float cap) {
  const F32Tag d;
  for (int64_t i = 0; i < kChunk; i += kLanes) {
    const F32Vec v = hn::Mul(hn::LoadU(d, scores + i), hn::Set(d, 1 / cap));
    hn::StoreU(hn::Mul(hn::Set(d, cap), hn::Tanh(d, v)), d, scores + i);
  }
}

// Turns the scores of query q at positions [first, first + kChunk) into weights and rescales its
// sums to the new maximum.
HWY_NOINLINE void WeighChunk(const Item& item, int64_t q, int64_t first, const Scratch& s) {
  const F32Tag d;
  float* scores = s.scores + q * kChunk;
  if (item.shape.logit_softcap > 0) CapScores(scores, item.shape.logit_softcap);
  // Seen: [begin, end) of the chunk.
  const int64_t position = item.position(q);
  const int64_t begin = std::clamp<int64_t>(FirstVisible(item.shape, position) - first, 0, kChunk);
  const int64_t end = std::clamp<int64_t>(position + 1 - first, begin, kChunk);
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + begin, kMasked);
  std::fill(scores + end, scores + kChunk, kMasked);
  if (begin == end) {
    std::fill(scores, scores + kChunk, 0.0f);
    return;
  }
  F32Vec maxima = hn::Set(d, s.max[q]);
  for (int64_t i = 0; i < kChunk; i += kLanes) {
    maxima = hn::Max(maxima, hn::LoadU(d, scores + i));
  }
  const float max = hn::GetLane(hn::MaxOfLanes(d, maxima));
  F32Vec total = hn::Zero(d);
  for (int64_t i = 0; i < kChunk; i += kLanes) {
    const F32Vec weight = hn::Exp(d, hn::Sub(hn::LoadU(d, scores + i), hn::Set(d, max)));
    total = hn::Add(total, weight);
    hn::StoreU(weight, d, scores + i);
  }
  const float keep = hn::GetLane(hn::Exp(d, hn::Set(d, s.max[q] - max)));
  s.total[q] = s.total[q] * keep + Sum(total);
  s.max[q] = max;
  if (keep == 1) return;
  float* sums = s.sums + q * s.head;
  for (int64_t i = 0; i < s.head; i += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, sums + i), hn::Set(d, keep)), d, sums + i);
  }
}

void StartItem(const Item& item, const float* q, int64_t q_stride, const Scratch& s) {
  const int64_t head_dim = item.cache.head_dim;
  for (int64_t i = 0; i < item.queries(); ++i) {
    const float* in = q + (item.part.token_begin + i / item.heads()) * q_stride +
                      (item.part.head_begin + i % item.heads()) * head_dim;
    float* out = s.query + i * s.head;
    for (int64_t c = 0; c < head_dim; ++c) out[c] = in[c] * item.shape.scale;
    std::fill(out + head_dim, out + s.head, 0.0f);
    std::fill(s.sums + i * s.head, s.sums + (i + 1) * s.head, 0.0f);
    // A sink is a position that has been weighed. Finite: lowest - lowest is no NaN.
    const float* sinks = item.shape.sinks;
    s.max[i] = sinks == nullptr ? std::numeric_limits<float>::lowest()
                                : sinks[item.part.head_begin + i % item.heads()];
    s.total[i] = sinks == nullptr ? 0 : 1;
  }
}

void FinishItem(const Item& item, const Scratch& s, float* out) {
  const int64_t head_dim = item.cache.head_dim;
  for (int64_t i = 0; i < item.queries(); ++i) {
    const int64_t token = item.part.token_begin + i / item.heads();
    const int64_t head = item.part.head_begin + i % item.heads();
    float* to = out + (token * item.shape.query_heads + head) * head_dim;
    for (int64_t c = 0; c < head_dim; ++c) to[c] = s.sums[i * s.head + c] / s.total[i];
  }
}

void AttendPart(const float* q, int64_t q_stride, const KvCacheView& cache,
                const AttentionShape& shape, const AttentionPart& part, float* out,
                float* scratch) {
  const Item item{cache, shape, part};
  const Scratch s(scratch, PaddedHead(cache.head_dim));
  StartItem(item, q, q_stride, s);
  const int64_t last = item.position(item.queries() - 1);
  for (int64_t first = FirstVisible(shape, item.position(0)); first <= last; first += kChunk) {
    const int64_t count = std::min(kChunk, last + 1 - first);
    ScoreChunk(item, first, count, s);
    for (int64_t i = 0; i < item.queries(); ++i) WeighChunk(item, i, first, s);
    WidenRows(item, cache.values, first, count, s);
    Gemm(item.queries(), s.head, count, s.scores, kChunk, s.rows, s.head, s.sums, s.head);
  }
  FinishItem(item, s, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(AttentionScratchFloats);
HWY_EXPORT(AttendPart);

int64_t AttentionScratchFloats(int64_t head_dim) {
  return HWY_DYNAMIC_DISPATCH(AttentionScratchFloats)(head_dim);
}
void AttendPart(const float* q, int64_t q_stride, const KvCacheView& cache,
                const AttentionShape& shape, const AttentionPart& part, float* out,
                float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendPart)
  (q, q_stride, cache, shape, part, out, scratch);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
