#include "engine/kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/kernels/kernels_under_test.h"

namespace tprun {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// By the definition: all tokens sorted, filters one after another.
int32_t Expected(std::vector<float> logits, const SampleRequest& request,
                 const std::vector<int32_t>& history) {
  for (size_t id = 0; id < logits.size(); ++id) {
    const bool seen = std::find(history.begin(), history.end(), id) != history.end();
    if (!seen) continue;
    logits[id] = logits[id] > 0 ? logits[id] / request.penalty : logits[id] * request.penalty;
  }
  int32_t best = -1;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (std::isfinite(logits[id]) && (best < 0 || logits[id] > logits[best])) best = id;
  }
  if (best < 0 || request.scale == 0) return best;
  std::vector<std::pair<uint32_t, int32_t>> order;
  for (size_t id = 0; id < logits.size(); ++id) {
    if (!std::isfinite(logits[id])) continue;
    const uint32_t distance = DistanceOf(logits[best], logits[id], request.scale);
    if (distance != kTooFar) order.emplace_back(distance, id);
  }
  std::sort(order.begin(), order.end());
  if (request.top_k > 0 && order.size() > static_cast<size_t>(request.top_k)) {
    order.resize(request.top_k);
  }
  uint64_t all = 0, sum = 0;
  for (const auto& [distance, id] : order) all += WeightOf(distance);
  const double wanted = std::max(1.0, std::floor(static_cast<double>(request.top_p) * all));
  size_t kept = 0;
  for (; kept < order.size(); ++kept) {
    if (kept > 0 && request.top_p < 1 && static_cast<double>(sum) >= wanted) break;
    if (kept > 0 && order[kept].first > request.reach) break;
    sum += WeightOf(order[kept].first);
  }
  const auto draw =
      static_cast<uint64_t>(static_cast<unsigned __int128>(request.random) * sum >> 64);
  uint64_t end = 0;
  for (size_t i = 0; i < kept; ++i) {
    end += WeightOf(order[i].first);
    if (draw < end) return order[i].second;
  }
  return -2;
}

TEST(Sampling, WeightsAreThoseOfTheSoftmax) {
  std::mt19937 random(3);
  for (int i = 0; i < 10000; ++i) {
    const uint32_t distance = random() % (20u << kDistanceBits);
    const double exact = std::exp2(kWeightBits - std::ldexp(distance, -kDistanceBits));
    // Eleven roundings to 2^-32 of something between a half and one.
    EXPECT_NEAR(static_cast<double>(WeightOf(distance)), exact, 5.2e-9 * exact + 1) << distance;
  }
  EXPECT_EQ(WeightOf(0), uint64_t{1} << kWeightBits);
  EXPECT_EQ(WeightOf(1u << kDistanceBits), uint64_t{1} << (kWeightBits - 1));
  EXPECT_EQ(DistanceOf(3, 1, 1.5f), 3u << kDistanceBits);
  EXPECT_EQ(DistanceOf(0, -44, 1), kTooFar);
  EXPECT_EQ(DistanceOf(3e38f, -3e38f, 1), kTooFar);
}

TEST(Sampling, BelowIsTheUpperHalfOfTheProduct) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t a = random() >> i % 60, b = random() >> i % 37;
    EXPECT_EQ(Below(a, b), static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64));
  }
  EXPECT_EQ(Below(~uint64_t{0}, 7), 6u);
}

class SamplingTest : public KernelsTest {
 protected:
  // The same draw for the rows of `logits`, whose sequences are 1, 2, ...
  void Check(const std::vector<std::vector<float>>& logits, std::vector<SampleRequest> requests,
             const std::vector<int32_t>& history) {
    const auto rows = static_cast<int64_t>(logits.size());
    const auto vocab = static_cast<int64_t>(logits[0].size());
    std::vector<float> all;
    std::vector<int32_t> sequences;
    for (const auto& row : logits) all.insert(all.end(), row.begin(), row.end());
    for (int64_t r = 0; r < rows; ++r) requests[r].sequence = static_cast<int32_t>(rows - r);
    std::vector<uint32_t> seen((rows + 1) * SeenWords(vocab));
    if (!history.empty()) {  // of the first row's sequence alone
      sequences.assign(history.size(), requests[0].sequence);
      ASSERT_TRUE(kernels_
                      ->MarkSeen(history.data(), sequences.data(),
                                 static_cast<int64_t>(history.size()), vocab, seen.data())
                      .ok());
    }
    std::vector<BestLogit> chosen(rows + 1, {kUntouched, 77});
    ASSERT_TRUE(
        kernels_->Sample(all.data(), requests.data(), rows, vocab, seen.data(), chosen.data())
            .ok());
    for (int64_t r = 0; r < rows; ++r) {
      EXPECT_EQ(chosen[r].id, Expected(logits[r], requests[r], r == 0 ? history : kNothing))
          << "row " << r << " of " << rows << ", vocabulary " << vocab << ", scale "
          << requests[r].scale << ", top_k " << requests[r].top_k << ", top_p " << requests[r].top_p
          << ", reach " << requests[r].reach;
    }
    EXPECT_EQ(chosen[rows].id, 77);
  }

  std::vector<SampleRequest> Requests() {
    std::vector<SampleRequest> all;
    for (float scale : {0.0f, 0.05f, 1.4426950f, 10.0f}) {
      for (int top_k : {0, 1, 7, 3000}) {
        for (float top_p : {1.0f, 0.9f, 0.5f, 0.3f, 0.0f}) {  // a half: of equals exactly so many
          SampleRequest request = {.scale = scale, .top_p = top_p, .top_k = top_k};
          request.random = (uint64_t{random_()} << 32) | random_();
          if (all.size() % 3 == 1) request.reach = 3u << kDistanceBits;
          if (all.size() % 2 == 1) request.penalty = 1.3f;
          all.push_back(request);
        }
      }
    }
    return all;
  }

 private:
  const std::vector<int32_t> kNothing;
};

TEST_P(SamplingTest, DrawsWhatTheDefinitionSays) {
  for (int64_t vocab : {1, 5, 33, 1000, 5003}) {
    for (const SampleRequest& request : Requests()) {
      std::vector<std::vector<float>> logits;
      for (float spread : {1.0f, 8.0f}) logits.push_back(Random(vocab, spread));
      logits[1][vocab / 2] = -kInfinity;
      logits[1][0] = std::numeric_limits<float>::quiet_NaN();
      SampleRequest other = request;
      other.random = ~request.random;
      other.top_k = request.top_k / 2;
      const std::vector<int32_t> history = {0, static_cast<int32_t>(vocab - 1),
                                            static_cast<int32_t>(vocab / 3)};
      Check(logits, {request, other}, history);
    }
  }
}

// Thousands of equals and near equals, which bins do not tell apart.
TEST_P(SamplingTest, ManyEquals) {
  const int64_t vocab = 4100;
  std::vector<std::vector<float>> logits(3, std::vector<float>(vocab, 2.5f));
  for (int64_t i = 0; i < vocab; ++i) logits[1][i] = 3.0f + static_cast<float>(i % 3) * 1e-6f;
  for (int64_t i = 0; i < vocab; i += 2) logits[2][i] = -kInfinity;
  for (const SampleRequest& request : Requests()) {
    SampleRequest last = request;
    last.random = ~uint64_t{0};
    Check(logits, {request, last, request}, {});
  }
}

TEST_P(SamplingTest, NothingToDraw) {
  Check({std::vector<float>(100, -kInfinity), std::vector<float>(100, std::nanf(""))},
        {{.scale = 1}, {}}, {});
}

TPRUN_FOR_ALL_KERNELS(SamplingTest);

}  // namespace
}  // namespace tprun
