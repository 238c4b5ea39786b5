#include "engine/runtime/step.h"

#include "gmock/gmock.h"

namespace tprun {
namespace {

using testing::ElementsAre;

TEST(CutIntoSteps, OneRunInChunks) {
  const std::vector<int32_t> ids = {10, 11, 12, 13, 14};
  const std::vector<Step> steps = CutIntoSteps({{3, 7, ids}}, 2);
  ASSERT_EQ(steps.size(), 3);
  EXPECT_THAT(steps[0].inputs, ElementsAre(10, 11, 3, 3, 7, 8));
  EXPECT_EQ(steps[0].ended, 0);
  EXPECT_TRUE(steps[0].ends.empty());
  EXPECT_THAT(steps[2].inputs, ElementsAre(14, 3, 11));
  EXPECT_EQ(steps[2].runs[0].first_position, 11);
  EXPECT_EQ(steps[2].ended, 1);
  EXPECT_EQ(steps[2].ends[0].begin, 0);
  EXPECT_EQ(steps[2].ends[0].end, 1);
}

TEST(CutIntoSteps, RunsShareSteps) {
  const std::vector<int32_t> a = {1, 2, 3}, b = {4}, c = {5, 6, 7, 8};
  const std::vector<Step> steps = CutIntoSteps({{0, 0, a}, {2, 9, b}, {1, 4, c}}, 5);
  ASSERT_EQ(steps.size(), 2);
  EXPECT_THAT(steps[0].inputs, ElementsAre(1, 2, 3, 4, 5, 0, 0, 0, 2, 1, 0, 1, 2, 9, 4));
  ASSERT_EQ(steps[0].runs.size(), 3);
  EXPECT_EQ(steps[0].runs[2].tokens, 1);
  EXPECT_EQ(steps[0].first_ended, 0);
  EXPECT_EQ(steps[0].ended, 2);  // of a and b: neighbours
  ASSERT_EQ(steps[0].ends.size(), 1);
  EXPECT_EQ(steps[0].ends[0].begin, 2);
  EXPECT_EQ(steps[0].ends[0].end, 4);
  EXPECT_THAT(steps[1].inputs, ElementsAre(6, 7, 8, 1, 1, 1, 5, 6, 7));
  EXPECT_EQ(steps[1].first_ended, 2);
  EXPECT_EQ(steps[1].ended, 1);
  EXPECT_EQ(steps[1].ends[0].begin, 2);
}

TEST(CutIntoSteps, EndsApart) {
  const std::vector<int32_t> a = {1, 2}, b = {3, 4};
  const std::vector<Step> steps = CutIntoSteps({{0, 0, a}, {1, 0, b}}, 4);
  ASSERT_EQ(steps.size(), 1);
  ASSERT_EQ(steps[0].ends.size(), 2);
  EXPECT_EQ(steps[0].ends[1].begin, 3);
  EXPECT_EQ(steps[0].ended, 2);
}

TEST(CutIntoSteps, ADecodeStepEndsEverywhere) {
  const std::vector<int32_t> ids = {1, 2, 3};
  const std::vector<SequenceRun> runs = {
      {0, 5, {&ids[0], 1}}, {1, 2, {&ids[1], 1}}, {2, 9, {&ids[2], 1}}};
  const std::vector<Step> steps = CutIntoSteps(runs, 16);
  ASSERT_EQ(steps.size(), 1);
  ASSERT_EQ(steps[0].ends.size(), 1);
  EXPECT_EQ(steps[0].ends[0].end, 3);
  EXPECT_TRUE(CutIntoSteps({}, 16).empty());
}

}  // namespace
}  // namespace tprun
