#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

struct Case {
  int query_heads, first_query_head, kv_heads, first_kv_head, queries_per_kv_head, head_dim;
  int64_t first_position, tokens;
  int64_t window = 0;
  float softcap = 0;
  bool sinks = false;
  bool shared = false;  // keys are the values too, as in latent attention
  bool paged = false;
};

std::string Describe(const Case& c, const WeightFormat& format) {
  return absl::StrCat(format.name, " heads ", c.query_heads, " from ", c.first_query_head, " kv ",
                      c.kv_heads, " dim ", c.head_dim, " at ", c.first_position, " tokens ",
                      c.tokens, " window ", c.window, " cap ", c.softcap, c.sinks ? " sinks" : "",
                      c.shared ? " shared" : "", c.paged ? " paged" : "");
}

// Rows of `width` values as a cache of `format` gives them back.
std::vector<float> Rounded(const std::vector<float>& values, int64_t width,
                           const WeightFormat& format) {
  std::vector<float> rounded(values.size());
  std::vector<uint8_t> row(format.Bytes(width));
  for (size_t i = 0; i + width <= values.size(); i += width) {
    format.quantize(&values[i], row.data(), width);
    format.dequantize(row.data(), &rounded[i], width);
  }
  return rounded;
}

class AttentionTest : public KernelsTest {
 protected:
  void Check(const Case& c, const WeightFormat& format) {
    const std::string what = Describe(c, format);
    if (!kernels_->CheckHasCacheOf(format).ok()) return;  // see CachesThatThereAre
    const int64_t positions = c.first_position + c.tokens;
    const int64_t capacity = positions + 3;
    const int64_t kv_dim = c.kv_heads * c.head_dim, q_dim = c.query_heads * c.head_dim;
    const std::vector<float> k = Random(positions * kv_dim);
    const std::vector<float> v = c.shared ? k : Random(positions * kv_dim);
    // NaN where nothing was stored: what an op must not read.
    const int64_t page_count = 2 * KvPagesOf(capacity) + 1;
    const int64_t rows = c.paged ? page_count * kKvPagePositions : capacity;  // of a head
    std::vector<uint8_t> keys(c.kv_heads * rows * format.Bytes(c.head_dim), 0xff);
    std::vector<uint8_t> values = keys;
    KvCacheView cache{keys.data(), c.shared ? keys.data() : values.data(),
                      &format,     capacity,
                      c.kv_heads,  c.head_dim};
    // Sequence 1 has every other page, the last of the pool first.
    std::vector<int32_t> pages(2 * KvPagesOf(capacity));
    if (c.paged) {
      for (size_t i = 0; i < pages.size(); ++i) {
        pages[i] = static_cast<int32_t>(page_count - 1 - 2 * (i % (pages.size() / 2)));
        if (i < pages.size() / 2) --pages[i];
      }
      cache.sequences = 2;
      cache.pages = pages.data();
      cache.page_count = page_count;
    }
    const int sequence = c.paged ? 1 : 0;
    const OwnedBatch all({{sequence, 0, positions}});
    ASSERT_TRUE(kernels_->StoreKv(k.data(), v.data(), kv_dim, all.batch(), cache).ok());
    if (c.paged) CheckPages(c, format, k, &pages[pages.size() / 2], keys);

    const std::vector<float> sinks = Random(c.query_heads, 5);
    const AttentionShape shape{
        c.query_heads, c.first_query_head, c.first_kv_head, c.queries_per_kv_head,
        0.3f,          c.softcap,          c.window,        c.sinks ? sinks.data() : nullptr};
    const int64_t q_stride = q_dim + 7;
    // Longer sums round more often: smaller scores, for the bound of CheckQuery.
    const float size = c.head_dim <= 256 ? 2 : c.head_dim <= 512 ? 1 : 0.5f;
    const std::vector<float> q = Random(c.tokens * q_stride, size);
    std::vector<float> out(c.tokens * q_dim + 1, kUntouched);
    const OwnedBatch batch({{sequence, c.first_position, c.tokens}});
    ASSERT_TRUE(
        kernels_->Attention(q.data(), q_stride, batch.batch(), cache, shape, out.data()).ok());
    EXPECT_EQ(out.back(), kUntouched);
    const std::vector<float> k_kept = Rounded(k, c.head_dim, format);
    const std::vector<float> v_kept = Rounded(v, c.head_dim, format);
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int h = 0; h < c.query_heads; ++h) {
        const int kv = (c.first_query_head + h) / c.queries_per_kv_head - c.first_kv_head;
        const auto key = [&](int64_t p, int i) { return k_kept[p * kv_dim + kv * c.head_dim + i]; };
        const auto value = [&](int64_t p, int i) {
          return v_kept[p * kv_dim + kv * c.head_dim + i];
        };
        const float* query = &q[t * q_stride + h * c.head_dim];
        CheckQuery(c, query, c.first_position + t, shape.sinks == nullptr ? nullptr : &sinks[h],
                   key, value, &out[t * q_dim + h * c.head_dim], what);
      }
    }
  }

 private:
  // That the keys are in the pages of their sequence.
  static void CheckPages(const Case& c, const WeightFormat& format, const std::vector<float>& k,
                         const int32_t* pages, const std::vector<uint8_t>& keys) {
    std::vector<uint8_t> row(format.Bytes(c.head_dim));
    for (int64_t i = 0; i * c.head_dim < static_cast<int64_t>(k.size()); ++i) {
      const int64_t position = i / c.kv_heads, head = i % c.kv_heads;
      const int64_t in_pool =
          (pages[position / kKvPagePositions] * c.kv_heads + head) * kKvPagePositions +
          position % kKvPagePositions;
      format.quantize(&k[i * c.head_dim], row.data(), c.head_dim);
      EXPECT_EQ(std::memcmp(&keys[in_pool * row.size()], row.data(), row.size()), 0)
          << format.name << " position " << position << " head " << head;
    }
  }

  template <class Key, class Value>
  void CheckQuery(const Case& c, const float* q, int64_t position, const float* sink,
                  const Key& key, const Value& value, const float* out, const std::string& what) {
    std::vector<double> weight(position + 1, 0);
    double total = sink == nullptr ? 0 : std::exp(double{*sink});
    for (int64_t p = 0; p <= position; ++p) {
      if (c.window > 0 && p <= position - c.window) continue;
      double score = 0;
      for (int i = 0; i < c.head_dim; ++i) score += q[i] * key(p, i);
      score *= double{0.3f};
      if (c.softcap > 0) score = c.softcap * std::tanh(score / c.softcap);
      weight[p] = std::exp(score);  // scores stay below 60 here: no overflow in double
      total += weight[p];
    }
    for (int i = 0; i < c.head_dim; ++i) {
      double expected = 0;
      for (int64_t p = 0; p <= position; ++p) expected += weight[p] / total * value(p, i);
      // Scores reach about 50; rounded in f32 they, and so the relative weights, are off by a few
      // 1e-6 each, of values about 1.
      ExpectNear(out[i], expected, 2e-5, absl::StrCat(what, " at ", position, " [", i, "]"));
    }
  }
};

TEST_P(AttentionTest, Shapes) {
  for (const WeightFormat* f : {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format}) {
    Check({1, 0, 1, 0, 1, 1, 0, 1}, *f);
    Check({4, 0, 4, 0, 1, 16, 0, 1}, *f);    // every query head its own KV head
    Check({4, 0, 4, 0, 1, 16, 130, 1}, *f);  // decode
    Check({8, 0, 2, 0, 4, 64, 200, 1}, *f);  // decode, grouped
    Check({8, 0, 2, 0, 4, 64, 0, 70}, *f);   // prefill
    Check({6, 0, 2, 0, 3, 20, 61, 7}, *f);   // later part of a prefill
    Check({5, 0, 1, 0, 5, 33, 63, 2}, *f);   // odd head size
    Check({3, 9, 2, 2, 4, 8, 5, 3}, *f);     // heads 9, 10, 11 of KV head 2, rank has 2, 3
    Check({5, 3, 2, 0, 4, 8, 5, 3}, *f);     // heads 3 to 7: the run crosses KV heads
    Check({2, 0, 1, 0, 2, 256, 64, 1}, *f);
    Check({0, 0, 1, 0, 1, 8, 0, 2}, *f);
    Check({4, 0, 1, 0, 4, 8, 0, 0}, *f);
  }
  Check({130, 0, 1, 0, 130, 8, 3, 2}, kF32Format);  // more heads than share a part
}

// Formats whose blocks are a part of a head.
TEST_P(AttentionTest, Blocks) {
  for (const WeightFormat* f : {&kQ8_0Format, &kQ4_0Format, &kQ5_1Format, &kIq4NlFormat}) {
    Check({1, 0, 1, 0, 1, 32, 0, 1}, *f);
    Check({4, 0, 4, 0, 1, 32, 130, 1}, *f);
    Check({8, 0, 2, 0, 4, 64, 200, 1}, *f);
    Check({8, 0, 2, 0, 4, 64, 0, 70}, *f);
    Check({6, 0, 2, 0, 3, 96, 61, 7, 20, 5}, *f);
    Check({5, 3, 2, 0, 4, 128, 5, 3}, *f);
  }
}

// Every implementation keeps caches of all types, or says that it does not.
TEST_P(AttentionTest, CachesThatThereAre) {
  for (const WeightFormat* f :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format, &kQ5_1Format,
        &kQ5_0Format, &kQ4_1Format, &kQ4_0Format, &kIq4NlFormat}) {
    const bool on_cuda = f == &kF32Format || f == &kF16Format || f == &kBF16Format ||
                         f == &kE4M3Format || f == &kQ8_0Format;
    std::vector<uint8_t> keys(2 * f->Bytes(32)), values = keys;
    const KvCacheView cache{keys.data(), values.data(), f, 2, 1, 32};
    const std::vector<float> x = Random(32);
    std::vector<float> out(32);
    const OwnedBatch batch(0, 1);
    for (const absl::Status& status :
         {kernels_->CheckHasCacheOf(*f),
          kernels_->StoreKv(x.data(), x.data(), 32, batch.batch(), cache),
          kernels_->Attention(x.data(), 32, batch.batch(), cache, {1}, out.data())}) {
      const bool refused = GetParam().is_cuda() && !on_cuda;
      EXPECT_EQ(status.code(), refused ? absl::StatusCode::kUnimplemented : absl::StatusCode::kOk)
          << f->name << ": " << status;
    }
  }
}

TEST_P(AttentionTest, WindowAndSoftcap) {
  for (int64_t window : {1, 2, 5, 64, 100, 1000}) {
    Check({4, 0, 2, 0, 2, 16, 0, 90, window}, kF32Format);
    Check({4, 0, 2, 0, 2, 16, 150, 1, window}, kF16Format);
    Check({1, 0, 1, 0, 1, 16, 150, 70, window, 20}, kBF16Format);
  }
  Check({4, 0, 2, 0, 2, 16, 70, 3, 0, 5}, kF32Format);
}

// Where many tokens of a sequence are taken together, in tiles of 64 rows and 32 or 64 positions.
TEST_P(AttentionTest, TilesOfTokens) {
  for (const WeightFormat* f : {&kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    Check({4, 0, 2, 0, 2, 64, 0, 33}, *f);
    Check({3, 0, 1, 0, 3, 128, 70, 23, 0, 20}, *f);
    Check({2, 1, 2, 0, 2, 96, 100, 16, 50}, *f);  // a head of each of two KV heads
    Check({1, 0, 1, 0, 1, 64, 0, 130, 33}, *f);
    Check({5, 3, 2, 0, 4, 64, 65, 20}, *f);  // one head of the first KV head, four of the next
    Check({2, 0, 1, 0, 2, 256, 40, 17, 1}, *f);
    Check({2, 0, 1, 0, 2, 256, 0, 40, 0, 20, true}, *f);
    // Heads that fill a part of a tile.
    Check({2, 0, 2, 0, 1, 32, 20, 30}, *f);
    Check({3, 0, 1, 0, 3, 192, 31, 18, 0, 20, true}, *f);
    if (f->block_elements > 1) continue;
    Check({2, 0, 2, 0, 1, 8, 0, 20}, *f);
    Check({4, 2, 3, 0, 2, 80, 60, 21, 40}, *f);
    Check({2, 0, 1, 0, 2, 120, 10, 19, 0, 0, true}, *f);
    Check({2, 0, 1, 0, 2, 36, 10, 19}, *f);  // no multiple of 8: token by token
  }
}

// What is no number in the cache is none in what sees it, whatever the kernel.
TEST_P(AttentionTest, NotANumberInTheCache) {
  constexpr int64_t kPositions = 40, kDim = 64, kAt = 22;
  for (const WeightFormat* f : {&kF16Format, &kBF16Format, &kE4M3Format}) {
    const std::vector<float> k = Random(kPositions * kDim), q = Random(kPositions * kDim);
    std::vector<float> v = Random(kPositions * kDim), out(kPositions * kDim);
    v[kAt * kDim + 5] = std::numeric_limits<float>::quiet_NaN();
    v[kAt * kDim + 6] = -v[kAt * kDim + 5];
    std::vector<uint8_t> keys(kPositions * f->Bytes(kDim)), values = keys;
    const KvCacheView cache{keys.data(), values.data(), f, kPositions, 1, kDim};
    const OwnedBatch batch(0, kPositions);
    ASSERT_TRUE(kernels_->StoreKv(k.data(), v.data(), kDim, batch.batch(), cache).ok());
    ASSERT_TRUE(
        kernels_->Attention(q.data(), kDim, batch.batch(), cache, {1, 0, 0, 1, 0.1f}, out.data())
            .ok());
    for (int64_t t = kAt; t < kPositions; ++t) {
      for (int i : {4, 5, 6, 7}) {
        EXPECT_EQ(std::isnan(out[t * kDim + i]), i == 5 || i == 6)
            << f->name << " token " << t << " element " << i << ": " << out[t * kDim + i];
      }
    }
  }
}

// A logit per head that has no value: alone, over split sequences, and in tiles of tokens.
TEST_P(AttentionTest, Sinks) {
  for (const WeightFormat* f :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    Check({6, 0, 2, 0, 3, 64, 0, 1, 0, 0, true}, *f);
    Check({6, 1, 3, 0, 3, 64, 300, 1, 0, 0, true}, *f);
    Check({3, 0, 1, 0, 3, 64, 20, 21, 16, 0, true}, *f);
    Check({2, 0, 1, 0, 2, 64, 20, 21, 0, 20, true}, *f);
  }
}

// Latent attention: one head of keys that are the values too, wider than any other's.
TEST_P(AttentionTest, WideHeadsOfSharedKeysAndValues) {
  for (const WeightFormat* f :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    Check({5, 0, 1, 0, 5, 576, 40, 1, 0, 0, false, true}, *f);
    Check({2, 0, 1, 0, 2, 576, 0, 19, 0, 0, false, true}, *f);
    Check({3, 0, 1, 0, 3, 320, 300, 1, 0, 0, false, true}, *f);
    if (f->block_elements == 1) Check({1, 0, 1, 0, 1, 301, 5, 2, 0, 0, false, true}, *f);
    // In tiles of 16 or 32 rows and 32 positions; the last is too wide for them.
    Check({5, 0, 1, 0, 5, 576, 30, 17, 0, 0, false, true}, *f);
    Check({3, 0, 1, 0, 3, 320, 0, 70, 33, 20, true, true}, *f);
    Check({2, 1, 2, 0, 2, 288, 40, 20}, *f);  // values of their own
    Check({1, 0, 1, 0, 1, 640, 0, 17, 0, 0, false, true}, *f);
    if (f->block_elements == 1) Check({2, 0, 1, 0, 2, 456, 3, 16, 5, 0, false, true}, *f);
  }
}

// Sequences in pages of one pool: split decode, both kinds of tiles, and tokens by themselves.
TEST_P(AttentionTest, Pages) {
  if (!kernels_->HasPages()) {
    float memory[64 * 32], x[32] = {};
    const int32_t page = 0;
    KvCacheView cache{memory, memory, &kF32Format, 4, 1, 32};
    cache.pages = &page;
    EXPECT_EQ(kernels_->StoreKv(x, x, 32, OwnedBatch(0, 1).batch(), cache).code(),
              absl::StatusCode::kInvalidArgument);
    return;
  }
  for (const WeightFormat* f :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    const auto check = [&](Case c) {
      c.paged = true;
      Check(c, *f);
    };
    check({8, 0, 2, 0, 4, 64, 300, 1});
    check({6, 1, 3, 0, 3, 64, 300, 2, 100, 20, true});
    check({5, 3, 2, 0, 4, 128, 65, 20});
    check({4, 0, 2, 0, 2, 64, 0, 130, 70, 20, true});
    check({5, 0, 1, 0, 5, 320, 130, 1, 0, 0, false, true});
    check({2, 0, 1, 0, 2, 320, 50, 30, 0, 0, false, true});
  }
}

// A ring gives, chunk after chunk, what a cache of all positions gives, and holds what was stored.
TEST_P(AttentionTest, Rings) {
  constexpr int kHeads = 4, kKvHeads = 2, kDim = 64, kStride = (kHeads + 2 * kKvHeads) * kDim;
  constexpr int64_t kPositions = 300;
  RopeSpec rope;
  rope.dims = 20;
  std::vector<float> frequency(rope.dims / 2);
  InverseFrequencies(rope, nullptr, frequency.data());
  for (const WeightFormat* f : {&kF32Format, &kF16Format, &kQ8_0Format}) {
    if (!kernels_->CheckHasCacheOf(*f).ok()) continue;
    for (const auto& [window, chunk] : {std::pair<int64_t, int64_t>{1, 1}, {8, 3}, {70, 40}}) {
      const AttentionShape shape{kHeads, 0, 0, kHeads / kKvHeads, 0.3f, 0, window};
      const int64_t kept = window - 1 + chunk, row = f->Bytes(kDim);
      std::vector<uint8_t> whole_k(2 * kKvHeads * kPositions * row, 0xff), whole_v = whole_k;
      std::vector<uint8_t> ring_k(2 * kKvHeads * kept * row, 0xff), ring_v = ring_k;
      const KvCacheView whole{whole_k.data(),
                              whole_v.data(),
                              f,
                              kPositions,
                              kKvHeads,
                              kDim,
                              kKvHeads * kPositions * row,
                              2};
      const KvCacheView ring{ring_k.data(), ring_v.data(),         f, kept,      kKvHeads,
                             kDim,          kKvHeads * kept * row, 2, kPositions};
      for (int64_t first = 0; first < 250;) {
        const int64_t tokens = first % 7 == 3 ? 1 : chunk;
        const OwnedBatch batch({{1, first, tokens}, {0, first, 1}});
        std::vector<float> qkv = Random((tokens + 1) * kStride);
        const auto attend = [&](std::vector<float> x, const KvCacheView& cache) {
          std::vector<float> out((tokens + 1) * kHeads * kDim);
          float* k = x.data() + kHeads * kDim;
          EXPECT_TRUE(kernels_
                          ->RopeStoreKv(x.data(), k, k + kKvHeads * kDim, kStride, batch.batch(),
                                        kHeads, rope, frequency.data(), cache)
                          .ok());
          const absl::Status status =
              kernels_->Attention(x.data(), kStride, batch.batch(), cache, shape, out.data());
          EXPECT_TRUE(status.ok()) << status;
          return out;
        };
        const std::vector<float> expected = attend(qkv, whole), got = attend(qkv, ring);
        // Sequence 0 has holes: what it sees of them is garbage.
        const size_t compared = tokens * kHeads * kDim;
        for (size_t i = 0; i < compared; ++i) {
          ExpectNear(got[i], expected[i], 1e-5,
                     absl::StrCat(f->name, " window ", window, " at ", first, " element ", i));
        }
        first += tokens;
      }
    }
  }
}

TEST_P(AttentionTest, RingsOfTooFewRows) {
  float memory[64] = {}, x[64] = {}, out[64];
  const KvCacheView ring{memory, memory, &kF32Format, 4, 1, 2, 32, 1, 100};
  AttentionShape shape{1, 0, 0, 1, 1};
  const auto attend = [&](int64_t first, int64_t tokens, int64_t window) {
    shape.window = window;
    return kernels_->Attention(x, 2, OwnedBatch(first, tokens).batch(), ring, shape, out).code();
  };
  EXPECT_EQ(attend(50, 2, 3), absl::StatusCode::kOk);
  EXPECT_EQ(attend(50, 3, 3), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(attend(50, 1, 5), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(attend(50, 1, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(attend(99, 2, 3), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(kernels_->StoreKv(x, x, 2, OwnedBatch(50, 5).batch(), ring).code(),
            absl::StatusCode::kInvalidArgument);
}

// Scores of +-2e4: exp of them overflows unless the maximum is taken off first.
TEST_P(AttentionTest, LargeScoresAreStable) {
  const int64_t positions = 100;
  std::vector<float> k(positions, -1), v(positions, 0);
  k[70] = 1;
  v[70] = 3;
  std::vector<float> keys(positions), values(positions);
  const KvCacheView cache{keys.data(), values.data(), &kF32Format, positions, 1, 1};
  ASSERT_TRUE(
      kernels_->StoreKv(k.data(), v.data(), 1, OwnedBatch(0, positions).batch(), cache).ok());
  for (float q : {2e4f, -2e4f}) {
    float out = kUntouched;
    const OwnedBatch last(positions - 1, 1);
    ASSERT_TRUE(kernels_->Attention(&q, 1, last.batch(), cache, {1, 0, 0, 1, 1}, &out).ok());
    EXPECT_EQ(out, q > 0 ? 3 : 0);
  }
}

// The bytes that the format's encoder gives, at their positions only.
TEST_P(AttentionTest, StoreKvRoundsAndTouchesOnlyItsPositions) {
  for (const WeightFormat* format :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format, &kQ4_0Format}) {
    if (!kernels_->CheckHasCacheOf(*format).ok()) continue;
    const int kv_heads = 2, dim = format->block_elements == 1 ? 19 : 64;
    const int64_t capacity = 6, tokens = 2, first = 3, stride = kv_heads * dim + 4;
    std::vector<float> k = Random(tokens * stride, 100), v = Random(tokens * stride, 1e-6f);
    k[0] = 1e6f;         // infinity in f16
    k[1] = 1.00390625f;  // halfway between two bf16: to even
    k[2] = std::numeric_limits<float>::quiet_NaN();
    k[3] = 0.0146484375f;  // 7.5 steps of the smallest of e4m3
    k[4] = -0.001953125f;
    k[5] = 17;  // halfway between two e4m3
    k[6] = -19;
    k[7] = 1e-30f;
    const uint32_t all_ones = 0x7fffffff;  // another NaN
    std::memcpy(&k[8], &all_ones, sizeof(all_ones));
    k[dim] = -std::numeric_limits<float>::infinity();
    for (int i = 0; i < dim; ++i) {  // multiples of half a step of q8_0
      k[stride + i] = static_cast<float>(i % 2 == 0 ? 127 : i) / 2;
      v[stride + i] = static_cast<float>(dim - i) * 6e-3f;  // on both sides of 2^-6
    }
    const int64_t row = format->Bytes(dim);
    std::vector<uint8_t> keys(kv_heads * capacity * row, 0x5a), values = keys;
    const KvCacheView cache{keys.data(), values.data(), format, capacity, kv_heads, dim};
    ASSERT_TRUE(
        kernels_->StoreKv(k.data(), v.data(), stride, OwnedBatch(first, tokens).batch(), cache)
            .ok());
    const auto check = [&](const std::vector<float>& in, const std::vector<uint8_t>& stored) {
      std::vector<uint8_t> expected(stored.size(), 0x5a);
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t h = 0; h < kv_heads; ++h) {
          format->quantize(&in[t * stride + h * dim], &expected[(h * capacity + first + t) * row],
                           dim);
        }
      }
      for (size_t i = 0; i < stored.size(); ++i) {
        if (stored[i] == expected[i]) continue;
        // A NaN has many forms.
        std::vector<float> a(dim), b(dim);
        const int64_t at = static_cast<int64_t>(i) / row * row;
        format->dequantize(&stored[at], a.data(), dim);
        format->dequantize(&expected[at], b.data(), dim);
        for (int c = 0; c < dim; ++c) {
          EXPECT_TRUE(a[c] == b[c] || (std::isnan(a[c]) && std::isnan(b[c])))
              << format->name << " byte " << i << ", element " << c << ": " << a[c] << ", expected "
              << b[c];
        }
      }
    };
    check(k, keys);
    check(v, values);
  }
}

TEST_P(AttentionTest, RefusesWhatDoesNotFit) {
  float memory[8] = {}, x[8] = {}, out[8];
  const KvCacheView cache{memory, memory, &kF32Format, 4, 1, 2};
  const auto store = [&](std::vector<TokenRun> runs) {
    return kernels_->StoreKv(x, x, 2, OwnedBatch(std::move(runs)).batch(), cache).code();
  };
  EXPECT_EQ(store({{0, 3, 2}}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store({{0, -1, 1}}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store({{1, 0, 1}}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store({{-1, 0, 1}}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store({{0, 0, -1}}), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(store({{0, 0, 1}, {0, 4, 1}}), absl::StatusCode::kOutOfRange);
  const OwnedBatch one(0, 1);
  TokenBatch wrong = one.batch();
  wrong.tokens = 2;
  EXPECT_EQ(kernels_->StoreKv(x, x, 2, wrong, cache).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(kernels_->Attention(x, 2, OwnedBatch(4, 1).batch(), cache, {1}, out).code(),
            absl::StatusCode::kOutOfRange);
  const AttentionShape beyond{2, 0, 0, 1, 1};  // its second head reads a KV head that is not here
  EXPECT_EQ(kernels_->Attention(x, 4, one.batch(), cache, beyond, out).code(),
            absl::StatusCode::kInvalidArgument);
  const AttentionShape before{1, 0, 1, 1, 1};
  EXPECT_EQ(kernels_->Attention(x, 4, one.batch(), cache, before, out).code(),
            absl::StatusCode::kInvalidArgument);
}

// A rank with an empty share of the heads.
TEST_P(AttentionTest, NoHeadsAreNothingToDo) {
  float memory[8] = {}, x[8] = {}, frequency[1] = {1}, out[8];
  const KvCacheView cache{memory, memory, &kF32Format, 4, 0, 2};
  RopeSpec rope;
  rope.dims = 2;
  const OwnedBatch batch(1, 2);
  EXPECT_TRUE(kernels_->Rope(x, batch.batch(), 0, 2, 0, rope, frequency).ok());
  EXPECT_TRUE(kernels_->StoreKv(x, x, 0, batch.batch(), cache).ok());
  const absl::Status both =
      kernels_->RopeStoreKv(x, x, x, 0, batch.batch(), 0, rope, frequency, cache);
  EXPECT_TRUE(both.ok()) << both;
  EXPECT_TRUE(kernels_->Attention(x, 0, batch.batch(), cache, {0, 0, 0, 2, 1}, out).ok());
}

// Several sequences in one batch give what each gives alone and leave the others' memory as it was.
TEST_P(AttentionTest, SequencesOfABatch) {
  const int heads = 6, kv_heads = 2, dim = 20;
  const int64_t capacity = 90, stride = (heads + 2 * kv_heads) * dim;
  const std::vector<TokenRun> runs = {{3, 0, 70}, {0, 5, 1}, {2, 0, 0}, {1, 17, 3}};
  const int64_t tokens = 74, out_stride = heads * dim;
  const AttentionShape shape{heads, 0, 0, heads / kv_heads, 0.3f, 0, 16};
  RopeSpec rope;
  rope.dims = 10;
  std::vector<float> frequency(rope.dims / 2);
  InverseFrequencies(rope, nullptr, frequency.data());
  const std::vector<float> qkv = Random(tokens * stride);
  const std::vector<float> before = Random(4 * kv_heads * capacity * dim);  // of earlier steps
  const auto run = [&](const std::vector<TokenRun>& part, int64_t first_token,
                       std::vector<float>* keys, std::vector<float>* values) {
    const OwnedBatch batch(part);
    const int64_t count = batch.batch().tokens;
    const KvCacheView cache{keys->data(),
                            values->data(),
                            &kF32Format,
                            capacity,
                            kv_heads,
                            dim,
                            kv_heads * capacity * dim * 4,
                            4};
    std::vector<float> q(qkv.begin() + first_token * stride,
                         qkv.begin() + (first_token + count) * stride);
    std::vector<float> out(count * out_stride);
    float* k = q.data() + heads * dim;
    EXPECT_TRUE(kernels_
                    ->RopeStoreKv(q.data(), k, k + kv_heads * dim, stride, batch.batch(), heads,
                                  rope, frequency.data(), cache)
                    .ok());
    EXPECT_TRUE(
        kernels_->Attention(q.data(), stride, batch.batch(), cache, shape, out.data()).ok());
    return out;
  };
  std::vector<float> keys = before, values = before, keys_apart = before, values_apart = before;
  const std::vector<float> together = run(runs, 0, &keys, &values);
  std::vector<float> apart;
  for (const TokenRun& one : runs) {
    const std::vector<float> part =
        run({one}, apart.size() / out_stride, &keys_apart, &values_apart);
    apart.insert(apart.end(), part.begin(), part.end());
  }
  ASSERT_EQ(together.size(), apart.size());
  for (size_t i = 0; i < apart.size(); ++i) {
    // Sums in another order where the work is cut otherwise.
    ExpectNear(together[i], apart[i], 1e-5, absl::StrCat("element ", i));
  }
  EXPECT_EQ(keys, keys_apart);
  EXPECT_EQ(values, values_apart);
  const int64_t sequence = kv_heads * capacity * dim;  // floats
  EXPECT_TRUE(std::equal(&keys[2 * sequence], &keys[3 * sequence], &before[2 * sequence]));
  EXPECT_NE(keys[3 * sequence], before[3 * sequence]);
}

TPRUN_FOR_ALL_KERNELS(AttentionTest);

}  // namespace
}  // namespace tprun
