#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "tests/partition/plan_fixture.h"

namespace tprun {
namespace {

using testing::HasSubstr;

class PlanJson : public testing::Test {
 protected:
  void SetUp() override {
    PlanRequest request = RequestFor(spec_, topology_);
    request.options.kv_type = &kBF16Format;
    plan_ = *MakePlanner()->MakePlan(request);
    json_ = PlanToJson(plan_, spec_);
  }

  std::string Error(const std::string& json) {
    return std::string(PlanFromJson(json, spec_).status().message());
  }
  std::string Changed(absl::string_view from, absl::string_view to) {
    const std::string changed = absl::StrReplaceAll(json_, {{from, to}});
    EXPECT_NE(changed, json_) << from;
    return changed;
  }

  const ModelSpec spec_ = PlanModel(32, 2);
  const Topology topology_ = GpuTopology({{24, 900}, {12, 300}, {12, 300}});
  Plan plan_;
  std::string json_;
};

TEST_F(PlanJson, RoundTrips) {
  const auto read = PlanFromJson(json_, spec_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->placements, plan_.placements);
  EXPECT_EQ(read->options.context, plan_.options.context);
  EXPECT_EQ(read->options.kv_type, &kBF16Format);
  EXPECT_EQ(PlanToJson(*read, spec_), json_);
}

TEST_F(PlanJson, BytesFollowFromThePlacements) {
  // An edited share changes the bytes, whatever the file says of them.
  const auto read =
      PlanFromJson(Changed("\"weight_bytes\":" + std::to_string(plan_.ranks[1].weight_bytes),
                           "\"weight_bytes\":1"),
                   spec_);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->ranks[1].weight_bytes, plan_.ranks[1].weight_bytes);
}

TEST_F(PlanJson, OfAnotherModelIsRefused) {
  const ModelSpec other = PlanModel(32, 8);
  const auto read = PlanFromJson(json_, other);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("another model"));
  const ModelSpec deeper = PlanModel(32, 2, 9);
  EXPECT_THAT(std::string(PlanFromJson(json_, deeper).status().message()),
              HasSubstr("another model"));
}

TEST_F(PlanJson, FaultsAreNamed) {
  EXPECT_FALSE(PlanFromJson("", spec_).ok());
  EXPECT_FALSE(PlanFromJson("[]", spec_).ok());
  EXPECT_FALSE(PlanFromJson("{}", spec_).ok());
  EXPECT_FALSE(PlanFromJson(json_.substr(0, json_.size() / 2), spec_).ok());
  EXPECT_THAT(Error(Changed("\"tprun_plan\": 2", "\"tprun_plan\": 3")), HasSubstr("version"));
  EXPECT_THAT(Error(Changed("\"kv_type\": \"bf16\"", "\"kv_type\": \"q3\"")), HasSubstr("q3"));
  EXPECT_THAT(Error(Changed("\"context\": 2048", "\"context\": 0")), HasSubstr("context"));
  EXPECT_THAT(Error(Changed("\"context\": 2048", "\"context\": \"many\"")), HasSubstr("context"));
  EXPECT_THAT(Error(Changed("\"batch\": 1", "\"bulk\": 1")), HasSubstr("bulk"));
  EXPECT_THAT(Error(Changed("layer 3 mlp", "layer 4 mlp")), HasSubstr("layer 3 mlp"));
  EXPECT_THAT(Error(Changed("\"ranks\":[0,1,2]", "\"ranks\":[0,1,3]")), HasSubstr("rank 3"));
  EXPECT_THAT(Error(Changed("\"ranks\":[0,1,2]", "\"ranks\":[0,1]")), HasSubstr("shares"));
  EXPECT_THAT(Error(Changed("\"ranks\":[0,1,2]", "\"ranks\":[0,1,4294967298]")),
              HasSubstr("integers"));
  EXPECT_THAT(Error(Changed("\"ranks\":[0,1,2]", "\"ranks\":\"all\"")), HasSubstr("array"));
  EXPECT_THAT(Error(Changed("\"overhead_bytes\":", "\"overhead_bytes\":-")), HasSubstr("overhead"));
  EXPECT_THAT(Error(Changed("\"device\":\"cuda:1\"", "\"device\":5")), HasSubstr("device"));
}

}  // namespace
}  // namespace tprun
