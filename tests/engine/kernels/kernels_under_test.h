#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/kernels/kernels.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace tprun {

// One implementation of the op set. target 0: the best instruction set of this machine.
struct Implementation {
  std::string name;
  int threads = 0;  // 0: the reference
  int64_t target = 0;
};
inline void PrintTo(const Implementation& i, std::ostream* out) { *out << i.name; }

// The reference, the CPU with 1 and 3 threads, and with each lesser instruction set of this machine
// that the kernels are compiled for; "baseline" is what the compiler assumes of every machine.
inline std::vector<Implementation> Implementations() {
  std::vector<Implementation> all = {{"reference", 0, 0}, {"cpu_1", 1, 0}, {"cpu_3", 3, 0}};
  for (int64_t target : {int64_t{HWY_AVX2}, int64_t{HWY_SSE4}}) {
    const bool supported = (hwy::SupportedTargets() & target) != 0;
    if (supported) all.push_back({std::string("cpu_2_") + hwy::TargetName(target), 2, target});
  }
  all.push_back({"cpu_2_baseline", 2, HWY_SCALAR});
  return all;
}

// Makes the kernels of the parameter, and the random numbers.
class KernelsTest : public ::testing::TestWithParam<Implementation> {
 protected:
  void SetUp() override {
    Choose(GetParam().target);
    if (GetParam().threads == 0) {
      kernels_ = MakeReferenceKernels();
    } else {
      pool_ = std::make_unique<ThreadPool>(GetParam().threads);
      kernels_ = MakeCpuKernels(pool_.get());
    }
  }
  void TearDown() override { Choose(0); }

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
  static void Choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
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
