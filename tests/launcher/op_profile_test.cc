#include "launcher/op_profile.h"

#include <vector>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(OpProfile, CountsWhatTheOpsDid) {
  OpProfile profile;
  const auto kernels = ProfileKernels(MakeReferenceKernels(), &profile);
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
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
