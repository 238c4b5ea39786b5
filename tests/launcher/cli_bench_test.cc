// The bench: what it reports of one and of several sequences.
#include <string>
#include <vector>

#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

ProcessResult Bench(std::vector<std::string> more) {
  std::vector<std::string> arguments = {"bench",        SourcePath("models/stories"),
                                        "--context=64", "--prompt_tokens=8",
                                        "--tokens=4",   "--repeats=2",
                                        "--threads=1",  "--backend=local"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTprun(arguments);
}

Json Figures(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"--format=json"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const ProcessResult result = Bench(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out, nullptr, /*allow_exceptions=*/false);
}

TEST(CliBench, CountsTheTokensOfAllSequences) {
  const Json one = Figures({"--devices=cpu"});
  const Json three = Figures({"--devices=cpu,cpu", "--batch=3"});
  ASSERT_TRUE(one.is_object() && three.is_object());
  EXPECT_EQ(one["batch"], 1);
  EXPECT_EQ(three["batch"], 3);
  for (const Json* figures : {&one, &three}) {
    const double batch = (*figures)["batch"].get<int>();
    const double seconds = (*figures)["decode_step_seconds"].get<double>();
    ASSERT_GT(seconds, 0);
    EXPECT_NEAR((*figures)["decode_tokens_per_s"].get<double>() * seconds, batch, 1e-6);
    EXPECT_GT((*figures)["prefill_tokens_per_s"].get<double>(), 0);
  }
  // A step reads the weights once, and the keys and values of every sequence.
  EXPECT_EQ(three["kv_bytes_per_step"].get<int64_t>(), 3 * one["kv_bytes_per_step"].get<int64_t>());
  EXPECT_GE(three["weight_bytes_per_step"].get<int64_t>(),
            one["weight_bytes_per_step"].get<int64_t>());
  EXPECT_LT(three["weight_bytes_per_step"].get<int64_t>(),
            2 * one["weight_bytes_per_step"].get<int64_t>());
}

TEST(CliBench, TextSaysWhatWasMeasured) {
  const ProcessResult one = Bench({"--devices=cpu"});
  EXPECT_THAT(one.out, HasSubstr("read per token"));
  EXPECT_THAT(one.out, testing::Not(HasSubstr("sequences")));
  const ProcessResult three = Bench({"--devices=cpu,cpu", "--batch=3"});
  EXPECT_THAT(three.out, HasSubstr("3 sequences at once"));
  EXPECT_THAT(three.out, HasSubstr("all-reduce"));
}

}  // namespace
}  // namespace tprun
