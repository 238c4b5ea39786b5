#include "launcher/arguments.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

using ::testing::ElementsAre;

TEST(WithEmptyValues, SplitsOptionsWithoutAValue) {
  EXPECT_THAT(WithEmptyValues({"run", "--prompt=", "--max_tokens=4", "--prompt=a="}),
              ElementsAre("run", "--prompt", "", "--max_tokens=4", "--prompt=a="));
}

TEST(WithEmptyValues, LeavesWhatIsNoOption) {
  for (const std::string text : {"", "=", "--", "--=", "-p=", "a=", "--two words=", "--a=b="}) {
    EXPECT_THAT(WithEmptyValues({text}), ElementsAre(text));
  }
}

TEST(PackArguments, KeepsEveryByte) {
  const std::vector<std::vector<std::string>> lists = {
      {},
      {""},
      {"run", "", "--prompt", std::string("a\0b\n7\nc", 7), "\xff\xfe", ":"},
      {std::string(1 << 20, '\n')}};
  for (const std::vector<std::string>& list : lists) {
    const auto unpacked = UnpackArguments(PackArguments(list));
    ASSERT_TRUE(unpacked.ok()) << unpacked.status();
    EXPECT_EQ(*unpacked, list);
  }
}

TEST(UnpackArguments, RefusesWhatIsCutOrNoList) {
  const std::string whole = PackArguments({"run", "model"});
  for (const std::string& bytes :
       {whole.substr(0, whole.size() - 1), std::string("5"), std::string("x\nabc"),
        std::string("-1\nabc"), std::string("99999999999999999999\nabc"), std::string("\n")}) {
    EXPECT_FALSE(UnpackArguments(bytes).ok()) << bytes;
  }
}

}  // namespace
}  // namespace tprun
