#include "launcher/op_profile.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "comm/local_communicator.h"
#include "engine/kernels/cpu_peaks.h"
#include "engine/kernels/int8_ops.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(OpProfile, CountsWhatTheOpsDid) {
  OpProfile profile;
  const auto kernels = ProfileKernels(MakeReferenceKernels(), Activations::kF32, &profile);
  EXPECT_EQ(kernels->name(), "reference");
  const std::vector<float> w = {1, 2, 3, 4, 5, 6}, x = {1, 1, 1, 2, 2, 2};
  std::vector<float> out(4), norm(6), ones(3, 1);
  const WeightMatrix matrix = {w.data(), &kF32Format, 2, 3};
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(kernels->MatMul(x.data(), matrix, nullptr, 2, out.data(), 2).ok());
  }
  EXPECT_EQ(out, (std::vector<float>{6, 15, 12, 30}));
  ASSERT_TRUE(kernels->RmsNorm(x.data(), ones.data(), 2, 3, NormSpec(), norm.data()).ok());
  const OpProfile::Ops ops = profile.Take();
  ASSERT_EQ(ops.size(), 2);
  const OpProfile::Op& product = ops.at("matmul f32");
  EXPECT_EQ(product.calls, 2);
  EXPECT_EQ(product.operations, 2 * (2 * 2 * 3 * 2));
  EXPECT_EQ(product.bytes, 2 * 4 * (6 + 6 + 4));
  EXPECT_GT(product.seconds, 0);
  EXPECT_TRUE(product.samples.empty());
  EXPECT_EQ(ops.at("norm").calls, 1);
  EXPECT_TRUE(profile.Take().empty());
}

// Percentages of a peak are those of the arithmetic that products are done in.
TEST(OpProfile, KnowsTheArithmetic) {
  const std::vector<float> x(512, 1);
  const auto arithmetic = [&](const WeightFormat& format, Activations activations) {
    OpProfile profile;
    const auto kernels = ProfileKernels(MakeReferenceKernels(), activations, &profile);
    std::vector<uint8_t> weights(format.Bytes(format.block_elements));  // zeros
    const WeightMatrix w = {weights.data(), &format, 1, format.block_elements};
    float out = 0;
    EXPECT_TRUE(kernels->MatMul(x.data(), w, nullptr, 1, &out, 1).ok());
    const OpProfile::Ops ops = profile.Take();
    return ops.at(absl::StrCat("matmul ", format.name)).arithmetic;
  };
  using cpu::Arithmetic;
  const cpu::CpuPeaks peaks = {.f32 = 100, .bf16 = 200, .int8 = 400};
  ThreadPool pool(1);
  const Arithmetic bf16 =
      cpu::MeasureCpuPeaks(pool).bf16 > 0 ? Arithmetic::kBf16 : Arithmetic::kF32;
  EXPECT_EQ(arithmetic(kBF16Format, Activations::kInt8), bf16);
  EXPECT_EQ(arithmetic(kBF16Format, Activations::kInt16), Arithmetic::kF32);
  EXPECT_EQ(arithmetic(kF32Format, Activations::kInt8), Arithmetic::kF32);
  EXPECT_EQ(arithmetic(kQ4_KFormat, Activations::kF32), Arithmetic::kF32);
  EXPECT_EQ(arithmetic(kTq1Format, Activations::kInt8), Arithmetic::kF32);  // no product of bytes
  if (cpu::FindInt8Format(kQ4_KFormat) == nullptr) GTEST_SKIP() << "no int8 activations here";
  EXPECT_EQ(arithmetic(kQ4_KFormat, Activations::kInt8), Arithmetic::kInt8);
  EXPECT_EQ(arithmetic(kQ4_KFormat, Activations::kInt16), Arithmetic::kTwiceInt8);
  EXPECT_EQ(cpu::PeakOf(peaks, Arithmetic::kF32), 100);
  EXPECT_EQ(cpu::PeakOf(peaks, Arithmetic::kBf16), 200);
  EXPECT_EQ(cpu::PeakOf(peaks, Arithmetic::kInt8), 400);
  EXPECT_EQ(cpu::PeakOf(peaks, Arithmetic::kTwiceInt8), 200);  // two dot products each
}

TEST(OpProfile, FollowsGroups) {
  const absl::Status status =
      RunLocalRanks(2, absl::Seconds(20), [](Communicator& world) -> absl::Status {
        OpProfile profile;
        const auto profiled = ProfileCommunicator(&world, &profile);
        ASSIGN_OR_RETURN(const auto group, profiled->Split({0, 1}));
        float x = 1;
        for (int i = 0; i < 3; ++i) {
          RETURN_IF_ERROR(group->AllReduceSum(&x, &x, 1, DType::kF32));
        }
        EXPECT_EQ(x, 8);
        const OpProfile::Ops ops = profile.Take();
        EXPECT_EQ(ops.at("all-reduce").calls, 3);
        EXPECT_EQ(ops.at("all-reduce").samples.size(), 3);
        EXPECT_EQ(ops.at("all-reduce").bytes, 12);
        // And sums in place.
        ASSIGN_OR_RETURN(const auto parts, group->ShareParts(10));
        for (int64_t count : {10, 5}) RETURN_IF_ERROR(parts->Meet(count));
        const OpProfile::Ops in_place = profile.Take();
        EXPECT_EQ(in_place.at("all-reduce").calls, 2);
        EXPECT_EQ(in_place.at("all-reduce").samples.size(), 2);
        EXPECT_EQ(in_place.at("all-reduce").bytes, 60);
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
