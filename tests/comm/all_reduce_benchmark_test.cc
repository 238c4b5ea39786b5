#include "comm/all_reduce_benchmark.h"

#include "base/status_macros.h"
#include "comm/local_communicator.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(AllReduceBenchmarkTest, AllRanksGetTheSameOrderedTimes) {
  double p50[3] = {};
  const absl::Status status =
      RunLocalRanks(3, absl::Seconds(60), [&](Communicator& comm) -> absl::Status {
        ASSIGN_OR_RETURN(const AllReduceTimings timings, MeasureAllReduce(comm, 8192, 50));
        EXPECT_GT(timings.p50_s, 0);
        EXPECT_GE(timings.p99_s, timings.p50_s);
        EXPECT_LT(timings.p99_s, 10);
        p50[comm.rank()] = timings.p50_s;
        return absl::OkStatus();
      });
  EXPECT_EQ(status, absl::OkStatus());
  EXPECT_EQ(p50[0], p50[1]);
  EXPECT_EQ(p50[0], p50[2]);
}

TEST(AllReduceBenchmarkTest, BadArgumentsAreErrors) {
  EXPECT_EQ(
      RunLocalRanks(
          1, absl::Seconds(60),
          [](Communicator& comm) {
            for (auto [bytes, rounds] :
                 {std::pair<int64_t, int>{-1, 1}, {int64_t{1} << 50, 1}, {8, 0}, {8, 1 << 30}}) {
              const auto timings = MeasureAllReduce(comm, bytes, rounds);
              EXPECT_TRUE(absl::IsInvalidArgument(timings.status()));
            }
            return MeasureAllReduce(comm, 0, 1).status();
          }),
      absl::OkStatus());
}

}  // namespace
}  // namespace tprun
