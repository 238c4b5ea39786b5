#include "engine/runtime/sampler.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "engine/kernels/kernels.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 0.0f, 2.5f};

// Draws from logits as the CPU does; -1: there is nothing to draw.
class Drawer {
 public:
  explicit Drawer(const SamplerOptions& options)
      : sampler_(options), kernels_(MakeReferenceKernels()) {}

  int32_t Draw(std::vector<float> logits, const std::vector<int32_t>& history = {}) {
    const auto vocab = static_cast<int64_t>(logits.size());
    std::vector<uint32_t> seen(SeenWords(vocab) + 1);
    const std::vector<int32_t> sequences(history.size(), 0);
    EXPECT_TRUE(kernels_
                    ->MarkSeen(history.data(), sequences.data(),
                               static_cast<int64_t>(history.size()), vocab, seen.data())
                    .ok());
    const SampleRequest request = sampler_.Next();
    BestLogit chosen;
    EXPECT_TRUE(kernels_->Sample(logits.data(), &request, 1, vocab, seen.data(), &chosen).ok());
    return chosen.id;
  }

 private:
  Sampler sampler_;
  std::unique_ptr<Kernels> kernels_;
};

std::map<int32_t, int> Draw(const SamplerOptions& options, int times) {
  Drawer drawer(options);
  std::map<int32_t, int> counts;
  for (int i = 0; i < times; ++i) ++counts[drawer.Draw(kLogits)];
  return counts;
}

TEST(Sampler, GreedyTakesTheFirstOfTheMostLikely) {
  Drawer drawer({});
  EXPECT_EQ(drawer.Draw(kLogits), 1);
  EXPECT_EQ(drawer.Draw({2.0f, 5.0f, 5.0f}), 1);
}

TEST(Sampler, FrequenciesFollowTheSoftmax) {
  constexpr int kTimes = 40000;
  const auto counts = Draw({.temperature = 2, .seed = 7}, kTimes);
  double sum = 0;
  for (float logit : kLogits) sum += std::exp(logit / 2);
  for (size_t id = 0; id < kLogits.size(); ++id) {
    const double expected = std::exp(kLogits[id] / 2) / sum;
    // Five standard deviations of a binomial count.
    const double slack = 5 * std::sqrt(expected * (1 - expected) * kTimes);
    EXPECT_NEAR(counts.at(static_cast<int32_t>(id)), expected * kTimes, slack) << id;
  }
}

std::set<int32_t> Drawn(const SamplerOptions& options) {
  std::set<int32_t> ids;
  for (const auto& [id, count] : Draw(options, 5000)) ids.insert(id);
  return ids;
}

TEST(Sampler, FiltersKeepWhatTheySay) {
  EXPECT_EQ(Drawn({.temperature = 3, .top_k = 2}), (std::set<int32_t>{1, 4}));
  EXPECT_EQ(Drawn({.temperature = 3, .top_k = 1}), (std::set<int32_t>{1}));
  // Softmax at temperature 1: 0.46, 0.28 (id 4), 0.17 (id 2), ...
  EXPECT_EQ(Drawn({.temperature = 1, .top_p = 0.4f}), (std::set<int32_t>{1}));
  EXPECT_EQ(Drawn({.temperature = 1, .top_p = 0.6f}), (std::set<int32_t>{1, 4}));
  EXPECT_EQ(Drawn({.temperature = 1, .top_p = 0.0f}), (std::set<int32_t>{1}));
  // Relative to the best: exp(-0.5) = 0.61, exp(-1) = 0.37, exp(-2) = 0.14.
  EXPECT_EQ(Drawn({.temperature = 1, .min_p = 0.5f}), (std::set<int32_t>{1, 4}));
  EXPECT_EQ(Drawn({.temperature = 1, .min_p = 0.3f}), (std::set<int32_t>{1, 2, 4}));
}

TEST(Sampler, RepetitionPenaltyWorksOnBothSigns) {
  Drawer drawer({.repetition_penalty = 2});
  EXPECT_EQ(drawer.Draw(kLogits, {1}), 4);         // 3 / 2 < 2.5
  EXPECT_EQ(drawer.Draw({-1.0f, -1.5f}, {0}), 1);  // -1 * 2 < -1.5
}

TEST(Sampler, TheSeedDecides) {
  const auto sequence = [](uint64_t seed) {
    Drawer drawer({.temperature = 1, .seed = seed});
    std::vector<int32_t> ids;
    for (int i = 0; i < 50; ++i) ids.push_back(drawer.Draw(kLogits));
    return ids;
  };
  EXPECT_EQ(sequence(3), sequence(3));
  EXPECT_NE(sequence(3), sequence(4));
}

TEST(Sampler, DamagedLogitsAreNotDrawn) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (float temperature : {0.0f, 1.0f}) {
    Drawer drawer({.temperature = temperature});
    EXPECT_EQ(drawer.Draw({nan, 1.0f, infinity, -infinity}), 1);
    EXPECT_EQ(drawer.Draw({nan, infinity}), -1);
    EXPECT_EQ(drawer.Draw({}), -1);
  }
}

TEST(Sampler, OptionsOutOfRangeAreNamed) {
  EXPECT_TRUE(ValidateSampler({}).ok());
  const std::pair<SamplerOptions, const char*> bad[] = {{{.temperature = -1}, "temperature"},
                                                        {{.top_k = -1}, "top_k"},
                                                        {{.top_p = 1.5f}, "top_p"},
                                                        {{.min_p = -0.1f}, "min_p"},
                                                        {{.repetition_penalty = 0}, "repetition"}};
  for (const auto& [options, name] : bad) {
    EXPECT_THAT(std::string(ValidateSampler(options).message()), testing::HasSubstr(name));
  }
  EXPECT_FALSE(ValidateSampler({.temperature = std::nanf("")}).ok());
}

}  // namespace
}  // namespace tprun
