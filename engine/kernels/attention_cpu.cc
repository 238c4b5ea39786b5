// Attention of up to kAttentionQueries queries that share a KV head, over a chunk of positions at a
// time with a running softmax (arXiv 1805.02867, 2205.14135). Few queries take keys and values as
// they lie in the cache, widened in registers, once for all queries; many turn a chunk of keys into
// columns first, which is then repaid.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "absl/types/span.h"
#include "engine/kernels/attention_parts.h"
#include "engine/kernels/cpu_ops.h"
#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/kernel_checks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/attention_cpu.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/cache_rows-inl.h"
#include "engine/kernels/gemm_tile-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

constexpr int64_t kTurnFrom = 16;  // queries from which turning the keys is repaid
constexpr int64_t kChunk = 128;    // most positions at a time; few queries take half as many
static_assert(kChunk % (2 * kTileN) == 0 && kAttentionQueries % kLanes == 0);

int64_t RoundUpToTile(int64_t count) { return (count + kTileN - 1) / kTileN * kTileN; }
int64_t PaddedHead(int64_t head_dim) { return RoundUpToTile(head_dim); }

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
  float* rows;    // [chunk, head]: keys or values, where they are widened first
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
  // Queries are ordered by token, then head.
  int64_t position(int64_t query) const { return part.position + query / part.heads(); }
  // Keys or values from position p on.
  const uint8_t* at(void* data, int64_t p) const {
    return CacheRow(cache, data, part.sequence, part.kv_head, p);
  }
};

// s.rows [count, head] = keys or values of positions [first, first + count), zeros beside them.
HWY_NOINLINE void WidenRows(const Item& item, void* data, int64_t first, int64_t count,
                            const Scratch& s) {
  const int64_t head_dim = item.cache.head_dim, row_bytes = item.cache.row_bytes();
  const uint8_t* in = item.at(data, first);
  for (int64_t p = 0; p < count; ++p) {
    float* row = s.rows + p * s.head;
    WidenRow(*item.cache.format, in + p * row_bytes, head_dim, row);
    std::fill(row + head_dim, row + s.head, 0.0f);
  }
}

// Scores of kQ queries and the next kLanes / kQ positions, of which `count` are there.
template <class Rows, int kQ>
HWY_INLINE void ScoreBlock(const Rows& rows, int64_t count, int64_t head_dim, const float* query,
                           int64_t head, float* scores) {
  constexpr int kP = kLanes / kQ;
  const F32Tag d;
  F32Vec sums[kLanes];
  for (int i = 0; i < kLanes; ++i) sums[i] = hn::Zero(d);
  const uint8_t* row[kP];
  for (int p = 0; p < kP; ++p) row[p] = rows.data + std::min<int64_t>(p, count - 1) * rows.stride;
  const auto add = [&](int64_t i, auto load) HWY_ATTR {
    F32Vec k[kP];
    for (int p = 0; p < kP; ++p) k[p] = load(row[p]);
    for (int q = 0; q < kQ; ++q) {
      const F32Vec x = hn::LoadU(d, query + q * head + i);
      for (int p = 0; p < kP; ++p) sums[q * kP + p] = hn::MulAdd(x, k[p], sums[q * kP + p]);
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= head_dim; i += kLanes) {
    add(i, [i](const uint8_t* r) HWY_ATTR { return Rows::Load(r, i); });
  }
  if (i < head_dim) {
    add(i, [=](const uint8_t* r) HWY_ATTR { return Rows::LoadTail(r, i, head_dim - i); });
  }
  HWY_ALIGN float all[kLanes];
  hn::Store(SumEach(sums), d, all);
  for (int q = 0; q < kQ; ++q) std::copy_n(all + q * kP, kP, scores + q * kChunk);
}

// What will be read soon, so that it is not waited for.
struct Ahead {
  const uint8_t* keys;    // of the next chunk
  const uint8_t* values;  // of this one
};

HWY_INLINE void FetchLines(const uint8_t* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) hwy::Prefetch(data + i);
}

// Scores of kQ queries and `count` positions; beyond them up to a whole block is written.
template <class Rows, int kQ>
HWY_INLINE void ScoreQueries(Rows rows, int64_t count, int64_t head_dim, const float* query,
                             int64_t head, const Ahead* ahead, float* scores) {
  constexpr int kP = kLanes / kQ;
  const int64_t bytes = kP * rows.stride;
  for (int64_t p = 0; p < count; p += kP, rows.data += bytes) {
    if (ahead != nullptr) {
      FetchLines(ahead->keys + p * rows.stride, bytes);
      FetchLines(ahead->values + p * rows.stride, bytes);
    }
    ScoreBlock<Rows, kQ>(rows, count - p, head_dim, query, head, scores + p);
  }
}

struct ScoreRows {
  const Item& item;
  const Scratch& s;
  int64_t count;
  Ahead ahead;

  template <class Rows>
  HWY_NOINLINE void operator()(const Rows& rows) const {
    int64_t q = 0;
    const auto run = [&](auto queries) HWY_ATTR {
      constexpr int kQ = decltype(queries)::value;
      if constexpr (kQ <= kLanes) {  // else there is no position to a vector
        for (; q + kQ <= item.part.queries(); q += kQ) {
          ScoreQueries<Rows, kQ>(rows, count, item.cache.head_dim, s.query + q * s.head, s.head,
                                 q == 0 ? &ahead : nullptr, s.scores + q * kChunk);
        }
      }
    };
    run(std::integral_constant<int, 8>());
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 2>());
    run(std::integral_constant<int, 1>());
  }
};

// s.scores [queries, chunk] = query . key; those past `count` are unspecified.
void ScoreChunk(const Item& item, int64_t first, int64_t count, const Scratch& s) {
  const int64_t queries = item.part.queries(), head_dim = item.cache.head_dim;
  if (queries < kTurnFrom) {
    const Ahead ahead = {item.at(item.cache.keys, first) + count * item.cache.row_bytes(),
                         item.at(item.cache.values, first)};
    const ScoreRows score = {item, s, count, ahead};
    if (WithRows(item.cache, item.at(item.cache.keys, first), score)) return;
    WidenRows(item, item.cache.keys, first, count, s);
    return score(RowsAt(s.rows, s.head));
  }
  WidenRows(item, item.cache.keys, first, count, s);
  Transpose(s.rows, s.head, (count + 3) / 4 * 4, head_dim, s.keys, kChunk);
  Gemm</*kAdd=*/false>(queries, RoundUpToTile(count), head_dim, s.query, s.head,
                       RowsAt(s.keys, kChunk), s.scores, kChunk);
}

struct AddValueRows {
  const Item& item;
  const Scratch& s;
  int64_t count;

  template <class Rows>
  HWY_NOINLINE void operator()(const Rows& rows) const {
    Gemm(item.part.queries(), s.head, count, s.scores, kChunk, rows, s.sums, s.head);
  }
};

// s.sums += weights . values.
void AddValues(const Item& item, int64_t first, int64_t count, const Scratch& s) {
  const AddValueRows add = {item, s, count};
  const bool as_they_are = s.head == item.cache.head_dim && item.part.queries() < kTurnFrom;
  if (as_they_are && WithRows(item.cache, item.at(item.cache.values, first), add)) return;
  WidenRows(item, item.cache.values, first, count, s);
  add(RowsAt(s.rows, s.head));
}

// e^x = 2^(x / ln 2) for x <= 0; 0 below 2^-126. 2^f for f in [-1/2, 1/2] is the polynomial of
// degree 5 through its values at the Chebyshev nodes, 1e-7 off; the whole part goes into the
// exponent.
HWY_INLINE F32Vec ExpOfNegative(F32Vec x) {
  const F32Tag d;
  const I32Tag di;
  x = hn::Mul(x, hn::Set(d, 1.44269504f));
  const auto there = hn::Ge(x, hn::Set(d, -126.0f));
  x = hn::Max(x, hn::Set(d, -126.0f));
  const auto whole = hn::NearestInt(x);
  const F32Vec f = hn::Sub(x, hn::ConvertTo(d, whole));
  F32Vec y = hn::Set(d, 0.00133908634f);
  for (float c : {0.00967603192f, 0.0555035711f, 0.240221075f, 0.693147188f, 1.00000008f}) {
    y = hn::MulAdd(y, f, hn::Set(d, c));
  }
  const auto scaled = hn::Add(hn::BitCast(di, y), hn::ShiftLeft<23>(whole));
  return hn::IfThenElseZero(there, hn::BitCast(d, scaled));
}
HWY_INLINE float ExpOfNegative(float x) { return hn::GetLane(ExpOfNegative(hn::Set(F32Tag(), x))); }

HWY_INLINE void CapScores(float* scores, int64_t count, float cap) {
  const F32Tag d;
  for (int64_t i = 0; i < count; i += kLanes) {
    const F32Vec v = hn::Mul(hn::LoadU(d, scores + i), hn::Set(d, 1 / cap));
    hn::StoreU(hn::Mul(hn::Set(d, cap), hn::Tanh(d, v)), d, scores + i);
  }
}

// Scores of query q at positions [first, first + padded) that it does not see are -infinity.
HWY_INLINE void MaskScores(const Item& item, int64_t q, int64_t first, int64_t count,
                           int64_t padded, float* scores) {
  const int64_t position = item.position(q);
  const int64_t begin = std::clamp<int64_t>(FirstVisible(item.shape, position) - first, 0, count);
  const int64_t end = std::clamp<int64_t>(position + 1 - first, begin, count);
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + begin, kMasked);
  std::fill(scores + end, scores + padded, kMasked);
}

// Turns the scores of queries [q, q + kLanes), of which `queries` are there, into weights and
// rescales their sums to the new maxima. A score of -infinity has no weight: maxima are finite.
HWY_NOINLINE void WeighQueries(const Item& item, int64_t q, int64_t queries, int64_t first,
                               int64_t count, const Scratch& s) {
  const F32Tag d;
  const int64_t padded = (count + kLanes - 1) / kLanes * kLanes;
  float* const scores = s.scores + q * kChunk;
  F32Vec each[kLanes];
  for (int64_t r = 0; r < kLanes; ++r) {
    float* const row = scores + std::min(r, queries - 1) * kChunk;
    if (r < queries) {
      if (item.shape.logit_softcap > 0) CapScores(row, padded, item.shape.logit_softcap);
      MaskScores(item, q + r, first, count, padded, row);
    }
    F32Vec max = hn::LoadU(d, row);
    for (int64_t i = kLanes; i < padded; i += kLanes) max = hn::Max(max, hn::LoadU(d, row + i));
    each[r] = max;
  }
  const F32Vec last = hn::LoadU(d, s.max + q), max = hn::Max(last, MaxEach(each));
  hn::StoreU(max, d, s.max + q);
  for (int64_t r = 0; r < queries; ++r) {
    float* const row = scores + r * kChunk;
    const F32Vec own = hn::Set(d, s.max[q + r]);
    F32Vec total[2] = {hn::Zero(d), hn::Zero(d)};
    const auto weigh = [&](int64_t i, F32Vec& sum) HWY_ATTR {
      const F32Vec weight = ExpOfNegative(hn::Sub(hn::LoadU(d, row + i), own));
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, d, row + i);
    };
    int64_t i = 0;
    for (; i + 2 * kLanes <= padded; i += 2 * kLanes) {
      weigh(i, total[0]);
      weigh(i + kLanes, total[1]);
    }
    if (i < padded) weigh(i, total[0]);
    each[r] = hn::Add(total[0], total[1]);
  }
  HWY_ALIGN float keep[kLanes];
  const F32Vec kept = ExpOfNegative(hn::Sub(last, max));
  hn::Store(kept, d, keep);
  hn::StoreU(hn::MulAdd(hn::LoadU(d, s.total + q), kept, SumEach(each)), d, s.total + q);
  for (int64_t r = 0; r < queries; ++r) {
    if (keep[r] == 1) continue;
    float* const sums = s.sums + (q + r) * s.head;
    for (int64_t i = 0; i < s.head; i += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, sums + i), hn::Set(d, keep[r])), d, sums + i);
    }
  }
}

void StartItem(const Item& item, const float* q, int64_t q_stride, const Scratch& s) {
  const int64_t head_dim = item.cache.head_dim;
  const AttentionPart& part = item.part;
  // A sink is a position that has been weighed, in the first piece.
  const float* sinks = part.first_piece ? item.shape.sinks : nullptr;
  // Whole vectors of them, also where there are fewer queries.
  std::fill_n(s.max, kAttentionQueries, std::numeric_limits<float>::lowest());
  std::fill_n(s.total, kAttentionQueries, 0.0f);
  for (int64_t i = 0; i < part.queries(); ++i) {
    const int64_t head = part.head_begin + i % part.heads();
    const float* in = q + (part.token_begin + i / part.heads()) * q_stride + head * head_dim;
    float* out = s.query + i * s.head;
    for (int64_t c = 0; c < head_dim; ++c) out[c] = in[c] * item.shape.scale;
    std::fill(out + head_dim, out + s.head, 0.0f);
    std::fill(s.sums + i * s.head, s.sums + (i + 1) * s.head, 0.0f);
    if (sinks == nullptr) continue;  // finite: lowest - lowest is no NaN
    s.max[i] = sinks[head];
    s.total[i] = 1;
  }
}

// The part's output, or, of a piece, its row [sums | max | total] for each query.
void FinishItem(const Item& item, const Scratch& s, float* out, float* partial) {
  const int64_t head_dim = item.cache.head_dim;
  const AttentionPart& part = item.part;
  for (int64_t i = 0; i < part.queries(); ++i) {
    const float* sums = s.sums + i * s.head;
    if (part.partial_row >= 0) {
      float* row = partial + (part.partial_row + i) * PartialFloats(head_dim);
      std::copy_n(sums, head_dim, row);
      row[head_dim] = s.max[i];
      row[head_dim + 1] = s.total[i];
      continue;
    }
    const int64_t token = part.token_begin + i / part.heads();
    const int64_t head = part.head_begin + i % part.heads();
    float* to = out + (token * item.shape.query_heads + head) * head_dim;
    for (int64_t c = 0; c < head_dim; ++c) to[c] = sums[c] / s.total[i];
  }
}

void AttendPart(const float* q, int64_t q_stride, const KvCacheView& cache,
                const AttentionShape& shape, const AttentionPart& part, float* out, float* partial,
                float* scratch) {
  const Item item{cache, shape, part};
  const Scratch s(scratch, PaddedHead(cache.head_dim));
  StartItem(item, q, q_stride, s);
  const int64_t queries = part.queries();
  const int64_t chunk = queries < kTurnFrom ? kChunk / 2 : kChunk;
  for (int64_t first = part.key_begin; first < part.key_end;) {
    // As far as rows lie one after the other.
    const int64_t count =
        std::min({chunk, part.key_end - first, cache.capacity - first % cache.capacity});
    ScoreChunk(item, first, count, s);
    for (int64_t q = 0; q < queries; q += kLanes) {
      WeighQueries(item, q, std::min<int64_t>(queries - q, kLanes), first, count, s);
    }
    AddValues(item, first, count, s);
    first += count;
  }
  FinishItem(item, s, out, partial);
}

// Relative to the largest maximum of the pieces, of which the first may be all there is.
void MergePieces(absl::Span<const AttentionPart> pieces, const KvCacheView& cache,
                 const AttentionShape& shape, const float* partial, float* out) {
  const int64_t head_dim = cache.head_dim, floats = PartialFloats(head_dim);
  const AttentionPart& part = pieces[0];
  for (int64_t i = 0; i < part.queries(); ++i) {
    const auto row = [&](const AttentionPart& piece) {
      return partial + (piece.partial_row + i) * floats;
    };
    float max = std::numeric_limits<float>::lowest();
    for (const AttentionPart& piece : pieces) max = std::max(max, row(piece)[head_dim]);
    const int64_t token = part.token_begin + i / part.heads();
    const int64_t head = part.head_begin + i % part.heads();
    float* to = out + (token * shape.query_heads + head) * head_dim;
    std::fill_n(to, head_dim, 0.0f);
    float total = 0;
    for (const AttentionPart& piece : pieces) {
      const float* from = row(piece);
      const float weight = ExpOfNegative(from[head_dim] - max);
      total += weight * from[head_dim + 1];
      for (int64_t c = 0; c < head_dim; ++c) to[c] += weight * from[c];
    }
    for (int64_t c = 0; c < head_dim; ++c) to[c] /= total;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {

HWY_EXPORT(AttentionScratchFloats);
HWY_EXPORT(AttendPart);
HWY_EXPORT(MergePieces);

int64_t AttentionScratchFloats(int64_t head_dim) {
  return HWY_DYNAMIC_DISPATCH(AttentionScratchFloats)(head_dim);
}
void AttendPart(const float* q, int64_t q_stride, const KvCacheView& cache,
                const AttentionShape& shape, const AttentionPart& part, float* out, float* partial,
                float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendPart)
  (q, q_stride, cache, shape, part, out, partial, scratch);
}
void MergePieces(absl::Span<const AttentionPart> pieces, const KvCacheView& cache,
                 const AttentionShape& shape, const float* partial, float* out) {
  HWY_DYNAMIC_DISPATCH(MergePieces)(pieces, cache, shape, partial, out);
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
