#include <cmath>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

std::string Stories() { return SourcePath("models/stories"); }

// What the model itself tells is what it finds likely.
const std::string& Text() {
  static const std::string text = [] {
    return RunTprun({"run", Stories(), "--prompt=Once upon a time", "--max_tokens=250",
                     "--temperature=0.7", "--quiet", "--ignore_eos"})
        .out;
  }();
  return text;
}

Json Measure(std::vector<std::string> more, const std::string& input = "") {
  std::vector<std::string> command = {"perplexity",    Stories(),       "--context=64", "--quiet",
                                      "--format=json", "--kv_type=f32", "--threads=1"};
  command.insert(command.end(), more.begin(), more.end());
  const ProcessResult result = RunTprun(command, {.input = input});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  return ParseJson(result.out).value_or(Json::object());
}

TEST(CliPerplexity, IsTheSameFromEverySourceAndOnEveryLayout) {
  const Json one = Measure({"--text=" + Text()});
  const double expected = one["perplexity"].get<double>();
  EXPECT_GT(expected, 1.01);
  EXPECT_LT(expected, 10);
  EXPECT_GT(one["windows"].get<int>(), 2);
  EXPECT_EQ(one["tokens"].get<int>(), 31 * one["windows"].get<int>());
  const Json shares = Measure({"--file=-", "--devices=cpu,cpu,cpu", "--shares=5:2:1"}, Text());
  EXPECT_NEAR(shares["perplexity"].get<double>(), expected, 1e-4 * expected);
  const Json layers =
      Measure({"--text=" + Text(), "--devices=cpu,cpu", "--split=layer", "--backend=local"});
  EXPECT_NEAR(layers["perplexity"].get<double>(), expected, 1e-4 * expected);
}

TEST(CliPerplexity, ATextThatDoesNotFitTheModelIsHarder) {
  std::string shuffled;
  for (int i = 0; i < 300; ++i) shuffled += "park the " + std::string(i % 7, 'q') + " Lily ran ";
  const double story = Measure({"--text=" + Text()})["perplexity"].get<double>();
  const double noise = Measure({"--text=" + shuffled})["perplexity"].get<double>();
  EXPECT_GT(noise, 2 * story);
}

TEST(CliPerplexity, TellsBadInput) {
  const auto fault = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"perplexity", Stories()});
    const ProcessResult result = RunTprun(more);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(fault({"--text=hello"}), HasSubstr("less than one window of 512"));
  EXPECT_THAT(fault({}), HasSubstr("--file"));
  EXPECT_THAT(fault({"--text=a", "--file=b"}), HasSubstr("--text"));
  EXPECT_THAT(fault({"--file=/no/such/file"}), HasSubstr("/no/such/file"));
  EXPECT_THAT(fault({"--text=" + Text(), "--context=64", "--skip=63"}),
              HasSubstr("wanted 0 to 62"));
  EXPECT_THAT(fault({"--text=" + Text(), "--batch=2"}), HasSubstr("--batch"));
}

}  // namespace
}  // namespace tprun
