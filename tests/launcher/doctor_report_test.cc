#include "launcher/doctor_report.h"

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

std::vector<Finding> Some() {
  return {{"shm", "/dev/shm", Severity::kProblem, "not mounted", "mount it"},
          {"driver", "NVIDIA driver", Severity::kOk, "535", ""},
          {"nofile", "ulimit -n", Severity::kWarning, "256 open files are few for many ranks",
           "ulimit -n 1024"}};
}

TEST(FindingsText, WorstLastAndAligned) {
  EXPECT_EQ(FindingsText(Some(), 0, false),
            "ok       driver  NVIDIA driver: 535\n"
            "warning  nofile  ulimit -n: 256 open files are few for many ranks\n"
            "                 -> ulimit -n 1024\n"
            "problem  shm     /dev/shm: not mounted\n"
            "                 -> mount it\n"
            "\n"
            "1 problem, 1 warning, 1 ok\n");
  EXPECT_EQ(FindingsText({}, 0, false), "0 problems, 0 warnings, 0 ok\n");
}

TEST(FindingsText, BreaksLinesAtTheWidth) {
  const std::string text = FindingsText(Some(), 50, false);
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    EXPECT_LE(line.size(), 50) << line;
  }
  EXPECT_THAT(text, testing::HasSubstr("\n                 for many ranks\n"));
  FindingsText(Some(), 1, false);  // a terminal that is too narrow
}

TEST(FindingsText, ColoursOnlyWhenAsked) {
  EXPECT_EQ(FindingsText(Some(), 0, false).find('\x1b'), std::string::npos);
  EXPECT_NE(FindingsText(Some(), 0, true).find("\x1b[31mproblem"), std::string::npos);
}

TEST(FindingsJson, HasAllOfIt) {
  const Json json = FindingsJson(Some());
  EXPECT_EQ(json["tprun_doctor"], 1);
  EXPECT_EQ(json["worst"], "problem");
  ASSERT_EQ(json["findings"].size(), 3);
  EXPECT_EQ(json["findings"][2]["check"], "nofile");
  EXPECT_EQ(json["findings"][2]["severity"], "warning");
  EXPECT_EQ(json["findings"][2]["remedy"], "ulimit -n 1024");
  EXPECT_EQ(FindingsJson({})["worst"], "ok");
}

}  // namespace
}  // namespace tprun
