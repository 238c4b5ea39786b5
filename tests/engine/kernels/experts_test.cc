#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/format/weight_format.h"
#include "tests/engine/kernels/kernels_under_test.h"

// The ops of mixtures of experts and latent attention against plain loops in double.

namespace tprun {
namespace {

constexpr double kTolerance = 1e-5;  // sums of up to 64 products of the size of one

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class ExpertsTest : public KernelsTest {
 protected:
  // y = w x of row-major [rows, x.size()] from `first_row` on.
  static std::vector<double> Product(const std::vector<float>& w, int64_t first_row, int64_t rows,
                                     const std::vector<double>& x) {
    std::vector<double> y(rows);
    const auto columns = static_cast<int64_t>(x.size());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) y[r] += w[(first_row + r) * columns + c] * x[c];
    }
    return y;
  }

  static WeightMatrix F32(const std::vector<float>& w, int64_t columns) {
    return {w.data(), &kF32Format, static_cast<int64_t>(w.size()) / columns, columns};
  }
};

TEST_P(ExpertsTest, RouterTakesTheBestAndScalesTheirScores) {
  const ExpertsSpec spec = {.count = 4, .per_token = 2, .normalize = true, .scale = 2};
  const std::vector<float> logits = {1, 3, 2, 3, -1, -2, -3, -4};
  std::vector<int32_t> ids(4);
  std::vector<float> weights(4);
  ASSERT_TRUE(
      kernels_->RouteExperts(logits.data(), nullptr, 2, spec, ids.data(), weights.data()).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3, 0, 1}));  // the lower id among equals
  ExpectNear(weights[0], 1, kTolerance, "half of two");
  ExpectNear(weights[1], 1, kTolerance, "half of two");
  ExpectNear(weights[2], 2 * Sigmoid(1), kTolerance, "softmax of the two");
  ExpectNear(weights[3], 2 * Sigmoid(-1), kTolerance, "softmax of the two");
}

TEST_P(ExpertsTest, RouterWithoutNormalisationKeepsSoftmaxOfAll) {
  const ExpertsSpec spec = {.count = 3, .per_token = 1, .normalize = false};
  const std::vector<float> logits = {0.5f, -1, 2};
  int32_t id = 0;
  float weight = 0;
  ASSERT_TRUE(kernels_->RouteExperts(logits.data(), nullptr, 1, spec, &id, &weight).ok());
  EXPECT_EQ(id, 2);
  ExpectNear(weight, std::exp(2.0) / (std::exp(0.5) + std::exp(-1.0) + std::exp(2.0)), kTolerance,
             "softmax");
}

// Three groups of two; without a bias the best expert of a group counts, with one the sum of two.
TEST_P(ExpertsTest, RouterStaysInTheBestGroups) {
  ExpertsSpec spec = {
      .count = 6, .per_token = 2, .normalize = false, .groups = 3, .groups_per_token = 1};
  const std::vector<float> logits = {3, -9, 2, 2, 1, 1};
  std::vector<int32_t> ids(2);
  std::vector<float> weights(2);
  ASSERT_TRUE(
      kernels_->RouteExperts(logits.data(), nullptr, 1, spec, ids.data(), weights.data()).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 1}));
  spec.score = RouterScore::kSigmoid;
  const std::vector<float> bias = {0, 0, 0, 0.01f, 0, 0};
  ASSERT_TRUE(
      kernels_->RouteExperts(logits.data(), bias.data(), 1, spec, ids.data(), weights.data()).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{3, 2}));
  ExpectNear(weights[0], Sigmoid(2), kTolerance, "the score without the bias");
}

TEST_P(ExpertsTest, RouterSurvivesNotANumberAndRefusesTooFewExperts) {
  const ExpertsSpec spec = {.count = 3, .per_token = 2};
  const std::vector<float> logits = {NAN, NAN, NAN, NAN};
  std::vector<int32_t> ids(3, -1);
  std::vector<float> weights(3);
  ASSERT_TRUE(
      kernels_->RouteExperts(logits.data(), nullptr, 1, spec, ids.data(), weights.data()).ok());
  for (int k : {0, 1}) EXPECT_TRUE(ids[k] >= 0 && ids[k] < 3) << ids[k];
  EXPECT_EQ(ids[2], -1);
  EXPECT_NE(ids[0], ids[1]);
  const ExpertsSpec bad = {.count = 4, .per_token = 3, .groups = 2, .groups_per_token = 1};
  EXPECT_FALSE(
      kernels_->RouteExperts(logits.data(), nullptr, 1, bad, ids.data(), weights.data()).ok());
}

// A bias that is broken so that the sum of every group is no number.
TEST_P(ExpertsTest, RouterSurvivesInfiniteBiasesOfBothSigns) {
  const ExpertsSpec spec = {.count = 6,
                            .per_token = 2,
                            .score = RouterScore::kSigmoid,
                            .groups = 3,
                            .groups_per_token = 1};
  const std::vector<float> logits(6, 1.0f);
  const std::vector<float> bias = {INFINITY, -INFINITY, INFINITY, -INFINITY, INFINITY, -INFINITY};
  std::vector<int32_t> ids(2, -1);
  std::vector<float> weights(2);
  ASSERT_TRUE(
      kernels_->RouteExperts(logits.data(), bias.data(), 1, spec, ids.data(), weights.data()).ok());
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 1})) << "the first group, as among equals";
}

// Experts [1, 4) of five, of which tokens choose two: slots of the ones that are here.
TEST_P(ExpertsTest, GatedMatMulAndSumVisitTheChosenExperts) {
  constexpr int64_t kDim = 24, kFfn = 10;
  constexpr int kExperts = 3, kFirst = 1, kPerToken = 2;
  for (const bool biased : {false, true}) {
    for (const int64_t tokens : {int64_t{1}, int64_t{3}, int64_t{40}}) {
      const std::vector<float> x = Random(tokens * kDim);
      const std::vector<float> gate = Random(kExperts * kFfn * kDim, 0.2f);
      const std::vector<float> up = Random(kExperts * kFfn * kDim, 0.2f);
      const std::vector<float> down = Random(kExperts * kDim * kFfn, 0.3f);
      const std::vector<float> gate_bias = Random(kExperts * kFfn);
      const std::vector<float> down_bias = Random(kExperts * kDim);
      std::vector<int32_t> ids;
      for (int64_t t = 0; t < tokens; ++t) {
        ids.push_back(static_cast<int32_t>(t % 5));
        ids.push_back(static_cast<int32_t>((t + 1 + t % 3) % 5));
      }
      const std::vector<float> weights = Random(tokens * kPerToken);
      const ExpertChoice choice = {ids.data(), weights.data(), tokens, kPerToken, kFirst, kExperts};
      const auto bias = [&](const std::vector<float>& b) { return biased ? b.data() : nullptr; };
      std::vector<float> h(tokens * kPerToken * kFfn, kUntouched), scratch(h.size());
      ASSERT_TRUE(kernels_
                      ->ExpertGatedMatMul(x.data(), {F32(gate, kDim), kFfn, bias(gate_bias)},
                                          {F32(up, kDim), kFfn, bias(gate_bias)}, Activation::kSilu,
                                          choice, h.data(), scratch.data())
                      .ok());
      std::vector<float> out = Random(tokens * kDim);
      std::vector<double> expected(out.begin(), out.end());
      ASSERT_TRUE(
          kernels_
              ->ExpertSum(h.data(), {F32(down, kFfn), kDim, bias(down_bias)}, choice, out.data())
              .ok());
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> in(x.begin() + t * kDim, x.begin() + (t + 1) * kDim);
        int64_t slot = t * kPerToken;
        for (int k = 0; k < kPerToken; ++k) {
          const int e = ids[t * kPerToken + k] - kFirst;
          if (e < 0 || e >= kExperts) continue;
          const auto g = Product(gate, e * kFfn, kFfn, in);
          const auto u = Product(up, e * kFfn, kFfn, in);
          std::vector<double> product(kFfn);
          for (int64_t i = 0; i < kFfn; ++i) {
            const double b = biased ? gate_bias[e * kFfn + i] : 0;
            product[i] = (g[i] + b) * Sigmoid(g[i] + b) * (u[i] + b);
            ExpectNear(h[slot * kFfn + i], product[i], kTolerance, "h");
          }
          const auto d = Product(down, e * kDim, kDim, product);
          for (int64_t i = 0; i < kDim; ++i) {
            expected[t * kDim + i] +=
                weights[t * kPerToken + k] * (d[i] + (biased ? down_bias[e * kDim + i] : 0));
          }
          ++slot;
        }
        for (; slot < (t + 1) * kPerToken; ++slot) EXPECT_EQ(h[slot * kFfn], kUntouched);
        for (int64_t i = 0; i < kDim; ++i) {
          ExpectNear(out[t * kDim + i], expected[t * kDim + i], kTolerance, "out");
        }
      }
    }
  }
}

// A stack of three matrices of `width` columns, with the values that its bytes decode to.
struct Stack {
  std::vector<uint8_t> bytes;
  std::vector<float> values;
  ExpertMatrices matrices;
};

class ExpertFormatsTest : public ExpertsTest {
 protected:
  // Those of a rank that has neither the first nor the last.
  static constexpr int kExperts = 3, kFirst = 2, kPerToken = 2;

  Stack MakeStack(const WeightFormat& format, int64_t rows, int64_t width) {
    Stack stack;
    const std::vector<float> random = Random(kExperts * rows * width, 0.1f);
    stack.values.resize(random.size());
    stack.bytes.resize(format.Bytes(random.size()));
    format.quantize(random.data(), stack.bytes.data(), random.size());
    format.dequantize(stack.bytes.data(), stack.values.data(), random.size());
    stack.matrices = {{stack.bytes.data(), &format, kExperts * rows, width}, rows};
    return stack;
  }

  // CUDA rounds x to 17 bits (2^-18) where experts have more than eight tokens each on average.
  static double RoundingOf(const WeightFormat& format, int64_t tokens) {
    const bool tiles = GetParam().is_cuda() && tokens * kPerToken > 8 * kExperts;
    return tiles && format.name != "f32" ? std::ldexp(1, -18) : 0;
  }
  // The sums of the products' magnitudes.
  static std::vector<double> Magnitudes(const std::vector<float>& w, int64_t first_row,
                                        int64_t rows, const std::vector<double>& x) {
    std::vector<float> magnitudes(w.size());
    std::vector<double> of_x(x.size());
    std::transform(w.begin(), w.end(), magnitudes.begin(), [](float v) { return std::fabs(v); });
    std::transform(x.begin(), x.end(), of_x.begin(), [](double v) { return std::fabs(v); });
    return Product(magnitudes, first_row, rows, of_x);
  }

  void Check(const WeightFormat& gate_format, const WeightFormat& format, int64_t width,
             const std::vector<int64_t>& token_counts = {1, 2, 13}) {
    const Stack gate = MakeStack(gate_format, width, width), up = MakeStack(format, width, width),
                down = MakeStack(format, width, width);
    for (const int64_t tokens : token_counts) {
      const double rounding = RoundingOf(format, tokens);
      const std::vector<float> x = Random(tokens * width);
      std::vector<int32_t> ids;
      for (int64_t t = 0; t < tokens; ++t) {  // the first expert most often
        ids.push_back(kFirst + (t % 5 == 4 ? 1 : 0));
        ids.push_back(t % 3 != 2 ? kFirst + 2 : t % 2 == 0 ? 1 : 7);  // 1 and 7 are not here
      }
      const std::vector<float> weights = Random(tokens * kPerToken);
      const ExpertChoice choice = {ids.data(), weights.data(), tokens, kPerToken, kFirst, kExperts};
      std::vector<float> h(tokens * kPerToken * width, kUntouched), scratch(h.size());
      std::vector<float> out = Random(tokens * width);
      std::vector<double> expected(out.begin(), out.end());
      // Sums of some hundred products each, of which values of about 10 come.
      std::vector<double> tolerances(out.size(), 1e-4);
      ASSERT_TRUE(kernels_
                      ->ExpertGatedMatMul(x.data(), gate.matrices, up.matrices, Activation::kSilu,
                                          choice, h.data(), scratch.data())
                      .ok());
      ASSERT_TRUE(kernels_->ExpertSum(h.data(), down.matrices, choice, out.data()).ok());
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<double> in(x.begin() + t * width, x.begin() + (t + 1) * width);
        for (int k = 0; k < kPerToken; ++k) {
          const int e = ids[t * kPerToken + k] - kFirst;
          if (e < 0 || e >= kExperts) {
            EXPECT_EQ(h[(t * kPerToken + k) * width], kUntouched);
            continue;
          }
          auto g = Product(gate.values, e * width, width, in);
          const auto u = Product(up.values, e * width, width, in);
          // What rounding can do to h: silu and its slope are at most 1.1 times the argument and 1.
          const auto of_gate = Magnitudes(gate.values, e * width, width, in);
          const auto of_up = Magnitudes(up.values, e * width, width, in);
          std::vector<double> errors(width);
          for (int64_t i = 0; i < width; ++i) {
            errors[i] =
                1.1 * rounding * (of_gate[i] * std::fabs(u[i]) + of_up[i] * std::fabs(g[i]));
            g[i] *= Sigmoid(g[i]) * u[i];
            errors[i] += rounding * std::fabs(g[i]);
          }
          const auto d = Product(down.values, e * width, width, g);
          const auto error = Magnitudes(down.values, e * width, width, errors);
          const double weight = weights[t * kPerToken + k];
          for (int64_t i = 0; i < width; ++i) {
            expected[t * width + i] += weight * d[i];
            tolerances[t * width + i] += std::fabs(weight) * error[i];
          }
        }
        for (int64_t i = 0; i < width; ++i) {
          ExpectNear(out[t * width + i], expected[t * width + i], tolerances[t * width + i],
                     std::string(format.name));
        }
      }
    }
  }
};

// Through gate, up and down of so many tokens that experts have one, several and more than eight.
TEST_P(ExpertFormatsTest, GiveTheSumsOfTheirValues) {
  for (const char* name : {"bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "mxfp4", "fp8",
                           "int4_g128", "q3_k"}) {
    Check(*FindWeightFormat(name), *FindWeightFormat(name), 256);
  }
  // Rows that are no whole chunks, and a gate of another format.
  for (const char* name : {"bf16", "f16", "q8_0", "q4_0", "mxfp4"}) {
    Check(*FindWeightFormat(name), *FindWeightFormat(name), 96);
  }
  Check(kF16Format, kQ8_0Format, 96);
  Check(kQ4_0Format, kQ4_1Format, 32);
}

// So many tokens that an expert has more than a tile of 64, another a part of one; with rows that
// are no whole chunks, no whole tiles of 32 and no whole blocks of 8 tiles; and biases.
TEST_P(ExpertFormatsTest, ManyTokensGoInTiles) {
  if (!GetParam().is_cuda()) GTEST_SKIP() << "only CUDA has tiles of tokens";
  for (const char* name : {"bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "mxfp4", "fp8",
                           "int4_g128", "int4_g128_bf16", "q3_k"}) {
    const WeightFormat& format = *FindWeightFormat(name);
    Check(format, format, std::max<int64_t>(format.block_elements, 96), {90});
  }
  Check(kF16Format, kQ8_0Format, 288, {90});
  Check(kQ4_0Format, kQ4_1Format, 32, {90});  // of which one cannot be tiled
}

// Latent attention's products in each kind of format, of more tokens than go at once.
TEST_P(ExpertFormatsTest, HeadMatMulBothWays) {
  constexpr int64_t kTokens = 11, kRows = 16;
  for (const char* name : {"f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k", "mxfp4",
                           "fp8", "int4_g32", "q5_1"}) {
    const WeightFormat& format = *FindWeightFormat(name);
    const int64_t columns = std::max<int64_t>(format.block_elements, 96);
    const Stack w = MakeStack(format, kRows, columns);
    for (const int64_t tokens : {int64_t{1}, kTokens}) {
      for (const bool transposed : {false, true}) {
        const int64_t in = transposed ? kRows : columns, to = transposed ? columns : kRows;
        const int64_t in_head = in + 4, out_head = to + 3;  // with something between the heads
        std::vector<float> x = Random(tokens * kExperts * in_head);
        std::vector<float> out(tokens * kExperts * out_head, kUntouched);
        ASSERT_TRUE(kernels_
                        ->HeadMatMul({x.data(), kExperts * in_head, in_head}, w.matrices.all,
                                     transposed, tokens, kExperts,
                                     {out.data(), kExperts * out_head, out_head})
                        .ok());
        for (int64_t i = 0; i < tokens * kExperts; ++i) {
          const float* of_head = w.values.data() + i % kExperts * kRows * columns;
          for (int64_t o = 0; o < to; ++o) {
            double sum = 0;
            for (int64_t c = 0; c < in; ++c) {
              sum += x[i * in_head + c] * of_head[transposed ? c * columns + o : o * columns + c];
            }
            ExpectNear(out[i * out_head + o], sum, kTolerance, name);
          }
          EXPECT_EQ(out[i * out_head + to], kUntouched);
        }
      }
    }
  }
}

TEST_P(ExpertsTest, FewerExpertsThanChoicesHaveFewerSlots) {
  const std::vector<int32_t> ids = {4, 2, 0};
  const std::vector<float> weights = {1, 2, 3}, x = {1, 2}, w = {3, 4};
  const ExpertChoice choice = {ids.data(), weights.data(), 1, 3, 2, 1};  // only expert 2 is here
  EXPECT_EQ(choice.slots(), 1);
  float h = 0, scratch = 0;
  const ExpertMatrices matrices = {F32(w, 2), 1};
  ASSERT_TRUE(
      kernels_
          ->ExpertGatedMatMul(x.data(), matrices, matrices, Activation::kSilu, choice, &h, &scratch)
          .ok());
  ExpectNear(h, 11 * 11 * Sigmoid(11), 1e-3, "h");
  if (GetParam().is_cuda()) return;  // the choice is on the device alone
  const std::vector<int32_t> twice = {2, 2, 0};
  const ExpertChoice bad = {twice.data(), weights.data(), 1, 3, 2, 1};
  EXPECT_FALSE(
      kernels_
          ->ExpertGatedMatMul(x.data(), matrices, matrices, Activation::kSilu, bad, &h, &scratch)
          .ok());
}

TEST_P(ExpertsTest, SigmoidScale) {
  const std::vector<float> gate = {-2, 0.5f};
  std::vector<float> x = Random(2 * 7);
  const std::vector<float> in = x;
  ASSERT_TRUE(kernels_->SigmoidScale(x.data(), gate.data(), 2, 7).ok());
  for (int i = 0; i < 14; ++i) ExpectNear(x[i], in[i] * Sigmoid(gate[i / 7]), kTolerance, "x");
}

TEST_P(ExpertsTest, HeadMatMulBothWays) {
  constexpr int kHeads = 3;
  constexpr int64_t kRows = 6, kColumns = 8, kTokens = 5;
  const std::vector<float> w = Random(kHeads * kRows * kColumns);
  for (const bool transposed : {false, true}) {
    const int64_t in = transposed ? kRows : kColumns, to = transposed ? kColumns : kRows;
    const int64_t in_head = in + 2, out_head = to + 1;  // with something between the heads
    std::vector<float> x = Random(kTokens * kHeads * in_head);
    std::vector<float> out(kTokens * kHeads * out_head, kUntouched);
    ASSERT_TRUE(kernels_
                    ->HeadMatMul({x.data(), kHeads * in_head, in_head}, F32(w, kColumns),
                                 transposed, kTokens, kHeads,
                                 {out.data(), kHeads * out_head, out_head})
                    .ok());
    for (int64_t i = 0; i < kTokens * kHeads; ++i) {
      const float* of_head = w.data() + i % kHeads * kRows * kColumns;
      for (int64_t o = 0; o < to; ++o) {
        double sum = 0;
        for (int64_t c = 0; c < in; ++c) {
          sum += x[i * in_head + c] * of_head[transposed ? c * kColumns + o : o * kColumns + c];
        }
        ExpectNear(out[i * out_head + o], sum, kTolerance, "out");
      }
      EXPECT_EQ(out[i * out_head + to], kUntouched);
    }
  }
}

TEST_P(ExpertsTest, CopyHeads) {
  std::vector<float> x = Random(2 * 3 * 4), out(2 * 3 * 5, kUntouched);
  ASSERT_TRUE(kernels_->CopyHeads({x.data() + 1, 12, 4}, 2, 3, 2, {out.data(), 15, 5}).ok());
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(out[i * 5], x[i * 4 + 1]);
    EXPECT_EQ(out[i * 5 + 1], x[i * 4 + 2]);
    EXPECT_EQ(out[i * 5 + 2], kUntouched);
  }
}

TEST_P(ExpertsTest, ClampedSwiGlu) {
  std::vector<float> gate = Random(37, 6), up = Random(37, 6);
  const std::vector<float> in = gate;
  ASSERT_TRUE(
      kernels_->GatedActivation(Activation::kClampedSwiGlu, gate.data(), up.data(), 37).ok());
  for (int i = 0; i < 37; ++i) {
    const double g = std::min<double>(in[i], 7);
    const double expected = g * Sigmoid(1.702 * g) * (std::clamp<double>(up[i], -7, 7) + 1);
    ExpectNear(gate[i], expected, 1e-4, "gate");
  }
}

// As if there were one more position with that score and a value of zero.
TEST_P(ExpertsTest, SinksTakePartInTheSoftmax) {
  constexpr int kHeads = 2, kDim = 16, kPositions = 70;
  std::vector<float> keys = Random(kPositions * kDim), values = Random(kPositions * kDim);
  const std::vector<float> q = Random(kHeads * kDim);
  for (const float sink : {-3.0f, 2.0f, 200.0f}) {
    const std::vector<float> sinks = {sink, sink + 1};
    const KvCacheView cache = {.keys = keys.data(),
                               .values = values.data(),
                               .capacity = kPositions,
                               .kv_heads = 1,
                               .head_dim = kDim,
                               .sequence_stride = kPositions * kDim * 4};
    const AttentionShape shape = {.query_heads = kHeads,
                                  .queries_per_kv_head = kHeads,
                                  .scale = 0.25f,
                                  .sinks = sinks.data()};
    const OwnedBatch batch(kPositions - 1, 1);
    std::vector<float> out(kHeads * kDim);
    ASSERT_TRUE(
        kernels_->Attention(q.data(), kHeads * kDim, batch.batch(), cache, shape, out.data()).ok());
    for (int h = 0; h < kHeads; ++h) {
      std::vector<double> weights(kPositions);
      double max = sinks[h];
      for (int p = 0; p < kPositions; ++p) {
        for (int i = 0; i < kDim; ++i) weights[p] += 0.25 * q[h * kDim + i] * keys[p * kDim + i];
        max = std::max(max, weights[p]);
      }
      double sum = std::exp(sinks[h] - max);
      for (double& w : weights) sum += w = std::exp(w - max);
      for (int i = 0; i < kDim; ++i) {
        double expected = 0;
        for (int p = 0; p < kPositions; ++p) expected += weights[p] / sum * values[p * kDim + i];
        ExpectNear(out[h * kDim + i], expected, kTolerance, "out");
      }
    }
  }
}

TEST_P(ExpertsTest, RopeMultipliesByTheMagnitude) {
  const RopeSpec plain = {.layout = RopeLayout::kInterleaved, .dims = 4};
  RopeSpec larger = plain;
  larger.magnitude = 1.5f;
  const std::vector<float> frequencies = {1, 0.1f};
  std::vector<float> a = Random(2 * 6);
  std::vector<float> b = a;
  const OwnedBatch batch(3, 2);
  ASSERT_TRUE(kernels_->Rope(a.data(), batch.batch(), 1, 6, 6, plain, frequencies.data()).ok());
  ASSERT_TRUE(kernels_->Rope(b.data(), batch.batch(), 1, 6, 6, larger, frequencies.data()).ok());
  for (int i = 0; i < 12; ++i) {
    ExpectNear(b[i], a[i] * (i % 6 < 4 ? 1.5 : 1.0), kTolerance, "element");
  }
}

TPRUN_FOR_ALL_KERNELS(ExpertsTest);
TPRUN_FOR_ALL_KERNELS(ExpertFormatsTest);

}  // namespace
}  // namespace tprun
