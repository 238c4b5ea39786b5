#include "gmock/gmock.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

using testing::HasSubstr;
using testing::Not;

class PlanOutput : public testing::Test {
 protected:
  Plan MakePlan(SplitMode split) {
    PlanRequest request = RequestFor(spec_, topology_);
    request.split = split;
    return *MakePlanner()->MakePlan(request);
  }
  const ModelSpec spec_ = PlanModel();
  const Topology topology_ = GpuTopology({{12, 300}, {24, 900}});
};

TEST_F(PlanOutput, TextHasEveryRankAndItsBytes) {
  const Plan plan = MakePlan(SplitMode::kTensor);
  const std::string text = PlanText(plan, spec_, false);
  EXPECT_THAT(text, HasSubstr("test model"));
  EXPECT_THAT(text, HasSubstr(FormatBytes(plan.ranks[1].total_bytes())));
  EXPECT_THAT(text, HasSubstr("24/32 x 8 layers"));
  EXPECT_THAT(text, Not(HasSubstr("\033")));
  EXPECT_THAT(PlanText(plan, spec_, true), HasSubstr("\033"));
}

TEST_F(PlanOutput, TextSaysWhenItDoesNotFit) {
  Plan plan = MakePlan(SplitMode::kTensor);
  plan.ranks[0].available_bytes = 1;
  EXPECT_THAT(PlanText(plan, spec_, false), HasSubstr("does not fit"));
}

TEST_F(PlanOutput, DeviceMapNamesEveryModule) {
  const auto map = PlanDeviceMap(MakePlan(SplitMode::kLayer), spec_);
  ASSERT_TRUE(map.ok()) << map.status();
  const auto json = ParseJson(*map);
  ASSERT_TRUE(json.ok());
  EXPECT_EQ((*json)["model.embed_tokens"], 0);
  EXPECT_EQ((*json)["model.layers.0"], 0);
  EXPECT_EQ((*json)["model.layers.7"], 1);
  EXPECT_EQ((*json)["lm_head"], 1);
  EXPECT_EQ((*json)["model.norm"], 1);
  EXPECT_EQ(json->size(), 8 + 3);
}

TEST_F(PlanOutput, DeviceMapGoesIntoALayerThatIsApart) {
  Plan plan = MakePlan(SplitMode::kLayer);
  plan.placements[spec_.mlp_block(0)].ranks = {1};
  const auto json = ParseJson(*PlanDeviceMap(plan, spec_));
  EXPECT_EQ((*json)["model.layers.0.self_attn.q_proj"], 0);
  EXPECT_EQ((*json)["model.layers.0.mlp.down_proj"], 1);
  EXPECT_FALSE(json->contains("model.layers.0"));
}

TEST_F(PlanOutput, DeviceMapCannotSayTensorParallel) {
  const auto map = PlanDeviceMap(MakePlan(SplitMode::kTensor), spec_);
  EXPECT_EQ(map.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(map.status().message()), HasSubstr("--split=layer"));
}

TEST_F(PlanOutput, SvgEscapesNames) {
  Plan plan = MakePlan(SplitMode::kTensor);
  plan.model_name = "<a & b>";
  const std::string svg = PlanSvg(plan, spec_);
  EXPECT_THAT(svg, HasSubstr("&lt;a &amp; b&gt;"));
  EXPECT_THAT(svg, HasSubstr("rank 1"));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
}

}  // namespace
}  // namespace tprun
