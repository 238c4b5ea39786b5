#include "comm/mpi_communicator.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(MpiAbsentTest, SaysThatItWasBuiltWithout) {
  EXPECT_FALSE(MpiBuilt());
  EXPECT_EQ(MpiVersion(), "none");
  const auto session = MpiSession::Start(absl::Seconds(1));
  EXPECT_TRUE(absl::IsUnimplemented(session.status())) << session.status();
}

}  // namespace
}  // namespace tprun
