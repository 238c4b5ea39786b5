#include <algorithm>
#include <cmath>
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
};

std::string Describe(const Case& c, DType dtype) {
  return absl::StrCat(DTypeName(dtype), " heads ", c.query_heads, " from ", c.first_query_head,
                      " kv ", c.kv_heads, " dim ", c.head_dim, " at ", c.first_position, " tokens ",
                      c.tokens, " window ", c.window, " cap ", c.softcap, c.sinks ? " sinks" : "",
                      c.shared ? " shared" : "");
}

double Rounded(float value, DType dtype) {
  if (dtype == DType::kF16) return ToFloat(ToFloat16(value));
  if (dtype == DType::kBF16) return ToFloat(ToBFloat16(value));
  return value;
}

class AttentionTest : public KernelsTest {
 protected:
  void Check(const Case& c, DType dtype) {
    const std::string what = Describe(c, dtype);
    const int64_t positions = c.first_position + c.tokens;
    const int64_t capacity = positions + 3;
    const int64_t kv_dim = c.kv_heads * c.head_dim, q_dim = c.query_heads * c.head_dim;
    const std::vector<float> k = Random(positions * kv_dim);
    const std::vector<float> v = c.shared ? k : Random(positions * kv_dim);
    // NaN where nothing was stored: what an op must not read.
    std::vector<uint8_t> keys(c.kv_heads * capacity * c.head_dim * SizeOf(dtype), 0xff);
    std::vector<uint8_t> values = keys;
    const KvCacheView cache{keys.data(), c.shared ? keys.data() : values.data(),
                            dtype,       capacity,
                            c.kv_heads,  c.head_dim};
    ASSERT_TRUE(
        kernels_->StoreKv(k.data(), v.data(), kv_dim, OwnedBatch(0, positions).batch(), cache)
            .ok());

    const std::vector<float> sinks = Random(c.query_heads, 5);
    const AttentionShape shape{
        c.query_heads, c.first_query_head, c.first_kv_head, c.queries_per_kv_head,
        0.3f,          c.softcap,          c.window,        c.sinks ? sinks.data() : nullptr};
    const int64_t q_stride = q_dim + 7;
    const std::vector<float> q = Random(c.tokens * q_stride, 2);
    std::vector<float> out(c.tokens * q_dim + 1, kUntouched);
    const OwnedBatch batch(c.first_position, c.tokens);
    ASSERT_TRUE(
        kernels_->Attention(q.data(), q_stride, batch.batch(), cache, shape, out.data()).ok());
    EXPECT_EQ(out.back(), kUntouched);
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int h = 0; h < c.query_heads; ++h) {
        const int kv = (c.first_query_head + h) / c.queries_per_kv_head - c.first_kv_head;
        const auto key = [&](int64_t p, int i) {
          return Rounded(k[p * kv_dim + kv * c.head_dim + i], dtype);
        };
        const auto value = [&](int64_t p, int i) {
          return Rounded(v[p * kv_dim + kv * c.head_dim + i], dtype);
        };
        const float* query = &q[t * q_stride + h * c.head_dim];
        CheckQuery(c, query, c.first_position + t, shape.sinks == nullptr ? nullptr : &sinks[h],
                   key, value, &out[t * q_dim + h * c.head_dim], what);
      }
    }
  }

 private:
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
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Check({1, 0, 1, 0, 1, 1, 0, 1}, dtype);
    Check({4, 0, 4, 0, 1, 16, 0, 1}, dtype);    // every query head its own KV head
    Check({4, 0, 4, 0, 1, 16, 130, 1}, dtype);  // decode
    Check({8, 0, 2, 0, 4, 64, 200, 1}, dtype);  // decode, grouped
    Check({8, 0, 2, 0, 4, 64, 0, 70}, dtype);   // prefill
    Check({6, 0, 2, 0, 3, 20, 61, 7}, dtype);   // later part of a prefill
    Check({5, 0, 1, 0, 5, 33, 63, 2}, dtype);   // odd head size
    Check({3, 9, 2, 2, 4, 8, 5, 3}, dtype);     // heads 9, 10, 11 of KV head 2, rank has 2, 3
    Check({5, 3, 2, 0, 4, 8, 5, 3}, dtype);     // heads 3 to 7: the run crosses KV heads
    Check({2, 0, 1, 0, 2, 256, 64, 1}, dtype);
    Check({0, 0, 1, 0, 1, 8, 0, 2}, dtype);
    Check({4, 0, 1, 0, 4, 8, 0, 0}, dtype);
  }
  Check({130, 0, 1, 0, 130, 8, 3, 2}, DType::kF32);  // more heads than share a part
}

TEST_P(AttentionTest, WindowAndSoftcap) {
  for (int64_t window : {1, 2, 5, 64, 100, 1000}) {
    Check({4, 0, 2, 0, 2, 16, 0, 90, window}, DType::kF32);
    Check({4, 0, 2, 0, 2, 16, 150, 1, window}, DType::kF16);
    Check({1, 0, 1, 0, 1, 16, 150, 70, window, 20}, DType::kBF16);
  }
  Check({4, 0, 2, 0, 2, 16, 70, 3, 0, 5}, DType::kF32);
}

// Where many tokens of a sequence are taken together, in tiles of 64 rows and 32 or 64 positions.
TEST_P(AttentionTest, TilesOfTokens) {
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    Check({4, 0, 2, 0, 2, 64, 0, 33}, dtype);
    Check({3, 0, 1, 0, 3, 128, 70, 23, 0, 20}, dtype);
    Check({2, 1, 2, 0, 2, 96, 100, 16, 50}, dtype);  // a head of each of two KV heads
    Check({1, 0, 1, 0, 1, 64, 0, 130, 33}, dtype);
    Check({5, 3, 2, 0, 4, 64, 65, 20}, dtype);  // one head of the first KV head, four of the next
    Check({2, 0, 1, 0, 2, 256, 40, 17, 1}, dtype);
  }
}

// A logit per head that has no value: alone, over split sequences, and in tiles of tokens.
TEST_P(AttentionTest, Sinks) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Check({6, 0, 2, 0, 3, 64, 0, 1, 0, 0, true}, dtype);
    Check({6, 1, 3, 0, 3, 64, 300, 1, 0, 0, true}, dtype);
    Check({3, 0, 1, 0, 3, 64, 20, 21, 16, 0, true}, dtype);
    Check({2, 0, 1, 0, 2, 64, 20, 21, 0, 20, true}, dtype);
  }
}

// Latent attention: one head of keys that are the values too, wider than any other's.
TEST_P(AttentionTest, WideHeadsOfSharedKeysAndValues) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Check({5, 0, 1, 0, 5, 576, 40, 1, 0, 0, false, true}, dtype);
    Check({2, 0, 1, 0, 2, 576, 0, 19, 0, 0, false, true}, dtype);
    Check({3, 0, 1, 0, 3, 320, 300, 1, 0, 0, false, true}, dtype);
    Check({1, 0, 1, 0, 1, 301, 5, 2, 0, 0, false, true}, dtype);
  }
}

// Scores of +-2e4: exp of them overflows unless the maximum is taken off first.
TEST_P(AttentionTest, LargeScoresAreStable) {
  const int64_t positions = 100;
  std::vector<float> k(positions, -1), v(positions, 0);
  k[70] = 1;
  v[70] = 3;
  std::vector<float> keys(positions), values(positions);
  const KvCacheView cache{keys.data(), values.data(), DType::kF32, positions, 1, 1};
  ASSERT_TRUE(
      kernels_->StoreKv(k.data(), v.data(), 1, OwnedBatch(0, positions).batch(), cache).ok());
  for (float q : {2e4f, -2e4f}) {
    float out = kUntouched;
    const OwnedBatch last(positions - 1, 1);
    ASSERT_TRUE(kernels_->Attention(&q, 1, last.batch(), cache, {1, 0, 0, 1, 1}, &out).ok());
    EXPECT_EQ(out, q > 0 ? 3 : 0);
  }
}

TEST_P(AttentionTest, StoreKvRoundsAndTouchesOnlyItsPositions) {
  const int kv_heads = 2, dim = 19;
  const int64_t capacity = 6, tokens = 2, first = 3, stride = kv_heads * dim + 4;
  std::vector<float> k = Random(tokens * stride, 100), v = Random(tokens * stride, 1e-6f);
  k[0] = 1e6f;         // infinity in f16
  k[1] = 1.00390625f;  // halfway between two bf16: to even
  k[2] = std::numeric_limits<float>::quiet_NaN();
  k[dim] = -std::numeric_limits<float>::infinity();
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<uint8_t> keys(kv_heads * capacity * dim * SizeOf(dtype), 0x5a), values = keys;
    const KvCacheView cache{keys.data(), values.data(), dtype, capacity, kv_heads, dim};
    ASSERT_TRUE(
        kernels_->StoreKv(k.data(), v.data(), stride, OwnedBatch(first, tokens).batch(), cache)
            .ok());
    const auto check = [&](const std::vector<float>& in, const std::vector<uint8_t>& stored) {
      for (int64_t i = 0; i < kv_heads * capacity * dim; ++i) {
        const int64_t t = i / dim % capacity - first, h = i / dim / capacity;
        const uint8_t* bytes = &stored[i * SizeOf(dtype)];
        if (t < 0 || t >= tokens) {
          EXPECT_EQ(*bytes, 0x5a) << i;
          continue;
        }
        const float value = in[t * stride + h * dim + i % dim];
        float got;
        Float16 f16;
        BFloat16 bf16;
        std::memcpy(&got, bytes, dtype == DType::kF32 ? 4 : 0);
        std::memcpy(&f16, bytes, 2);
        std::memcpy(&bf16, bytes, 2);
        if (dtype == DType::kF16) got = ToFloat(f16);
        if (dtype == DType::kBF16) got = ToFloat(bf16);
        const float expected = static_cast<float>(Rounded(value, dtype));
        EXPECT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected)))
            << DTypeName(dtype) << " " << value << ": " << got << ", expected " << expected;
      }
    };
    check(k, keys);
    check(v, values);
  }
}

TEST_P(AttentionTest, RefusesWhatDoesNotFit) {
  float memory[8] = {}, x[8] = {}, out[8];
  const KvCacheView cache{memory, memory, DType::kF32, 4, 1, 2};
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
  const KvCacheView cache{memory, memory, DType::kF32, 4, 0, 2};
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
                            DType::kF32,
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
