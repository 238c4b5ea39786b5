#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "engine/kernels/cpu_features.h"
#include "engine/kernels/kernels.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace tprun {

// One implementation of the op set. target 0: the best instruction set of this machine.
struct Implementation {
  std::string name;
  int threads = 0;  // 0: the reference
  int64_t target = 0;
  // For CUDA, instead of the above. Unavailable or Unimplemented: the test is skipped.
  absl::StatusOr<std::unique_ptr<Kernels>> (*make_cuda)() = nullptr;
  bool without_dots = false;  // without instructions beyond the target's

  bool is_cuda() const { return make_cuda != nullptr; }
};
inline void PrintTo(const Implementation& i, std::ostream* out) { *out << i.name; }

// Those that this program tests: host_implementations.cc or cuda_implementations.cc.
std::vector<Implementation> Implementations();

// A batch with its arrays.
class OwnedBatch {
 public:
  explicit OwnedBatch(std::vector<TokenRun> runs) : runs_(std::move(runs)) {
    for (const TokenRun& run : runs_) {
      for (int64_t t = 0; t < run.tokens; ++t) {
        sequences_.push_back(run.sequence);
        positions_.push_back(static_cast<int32_t>(run.first_position + t));
      }
    }
  }
  // Tokens of sequence 0.
  OwnedBatch(int64_t first_position, int64_t tokens)
      : OwnedBatch(std::vector<TokenRun>{{0, first_position, tokens}}) {}
  TokenBatch batch() const {
    int64_t tokens = 0;  // negative ones too, as a bad caller gives them
    for (const TokenRun& run : runs_) tokens += run.tokens;
    return {tokens, runs_, sequences_.data(), positions_.data()};
  }

 private:
  std::vector<TokenRun> runs_;
  std::vector<int32_t> sequences_, positions_;
};

// Makes the kernels of the parameter, and the random numbers.
class KernelsTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    Choose(GetParam());
    if (GetParam().is_cuda()) {
      auto kernels = GetParam().make_cuda();
      if (absl::IsUnavailable(kernels.status()) || absl::IsUnimplemented(kernels.status())) {
        GTEST_SKIP() << kernels.status();
      }
      ASSERT_TRUE(kernels.ok()) << kernels.status();
      kernels_ = *std::move(kernels);
    } else if (GetParam().threads == 0) {
      kernels_ = MakeReferenceKernels();
    } else {
      pool_ = std::make_unique<ThreadPool>(GetParam().threads);
      kernels_ = MakeCpuKernels(pool_.get());
    }
  }
  void TearDown() override { Choose({}); }

  std::vector<float> Random(int64_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Kernels> kernels_;
  std::mt19937 random_{7};

 private:
  static void Choose(const Implementation& implementation) {
    cpu::WithoutDotsForTest(implementation.without_dots);
    hwy::SetSupportedTargetsForTest(implementation.target);
    hwy::GetChosenTarget().DeInit();  // chosen anew at the next call
  }
};

inline std::string ImplementationName(const ::testing::TestParamInfo<Implementation>& info) {
  return info.param.name;
}
#define TPRUN_FOR_ALL_KERNELS(Suite)                                                        \
  INSTANTIATE_TEST_SUITE_P(Kernels, Suite, ::testing::ValuesIn(::tprun::Implementations()), \
                           ::tprun::ImplementationName)

// A value of memory that an op must not touch.
inline constexpr float kUntouched = 12345.0f;

inline void ExpectNear(float actual, double expected, double tolerance, const std::string& what) {
  EXPECT_TRUE(std::fabs(actual - expected) <= tolerance)  // false for NaN too
      << what << ": " << actual << ", expected " << expected << " +- " << tolerance;
}

}  // namespace tprun
