// Which errors of a start all ranks have: those alone may be told by one for all.
#include "launcher/rank_session.h"

#include "comm/local_communicator.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

absl::StatusOr<PreparedModel> Prepare(const ModelOptions& options) {
  return PrepareModel(options, {"cpu", "cpu"});
}

TEST(RankSession, AnErrorOfTheModelIsAgreedOn) {
  ModelOptions options;
  options.model = "/nowhere";
  bool agreed[2] = {};
  absl::Status statuses[2];
  (void)RunLocalRanks(2, absl::Seconds(10), [&](Communicator& world) {
    const int rank = world.rank();
    statuses[rank] =
        RankSession::Start(options, world, rank == 0 ? Prepare(options) : PreparedModel(),
                           &agreed[rank])
            .status();
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsNotFound(statuses[0])) << statuses[0];
  EXPECT_EQ(statuses[0], statuses[1]);
  EXPECT_TRUE(agreed[0]);
  EXPECT_TRUE(agreed[1]);
}

TEST(RankSession, AnErrorThatTheOthersDoNotHearOfIsNotAgreedOn) {
  ModelOptions options;
  options.model = SourcePath("models/stories");
  bool agreed = true;
  absl::Status status;
  (void)RunLocalRanks(2, absl::Milliseconds(300), [&](Communicator& world) {
    if (world.rank() == 1) return absl::OkStatus();  // leaves
    status = RankSession::Start(options, world, Prepare(options), &agreed).status();
    return absl::OkStatus();
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_FALSE(agreed);
}

// Ranks that may use the same cores divide them.
TEST(RankSession, ThreadsGoEvenlyToTheRanksOfTheSameCores) {
  ModelOptions options;
  options.model = SourcePath("models/stories");
  int threads[4] = {};
  const auto run = [&](int ranks) {
    return RunLocalRanks(ranks, absl::Seconds(20), [&](Communicator& world) {
      auto model = PrepareModel(options, std::vector<std::string>(ranks, "cpu"));
      const auto session = RankSession::Start(options, world, std::move(model), nullptr);
      if (session.ok()) threads[world.rank()] = (*session)->threads();
      return session.status();
    });
  };
  ASSERT_EQ(run(1), absl::OkStatus());
  const int alone = threads[0];
  ASSERT_EQ(run(4), absl::OkStatus());
  for (int shared : threads) EXPECT_EQ(shared, std::max(1, alone / 4));
}

}  // namespace
}  // namespace tprun
