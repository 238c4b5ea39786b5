#include "launcher/job_stream.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

// What the reader gives of `stream` when it comes in parts of `size` bytes: text, and log in
// brackets.
std::string Give(const std::string& stream, size_t size, JobStreamReader& reader) {
  std::string given;
  for (size_t at = 0; at < stream.size(); at += size) {
    reader.Read(
        absl::string_view(stream).substr(at, size),
        [&](absl::string_view text) { absl::StrAppend(&given, text); },
        [&](absl::string_view log) {
          for (char c : log) absl::StrAppend(&given, "[", std::string(1, c), "]");
        });
  }
  return given;
}

TEST(JobStream, KeepsTheOrderOfTextAndLogWhereverItIsCut) {
  const std::string stream = absl::StrCat(StreamLog("ab"), StreamText("Once"), StreamLog("c"),
                                          StreamText(" upon"), StreamText(""));
  for (size_t size = 1; size <= stream.size(); ++size) {
    JobStreamReader reader;
    EXPECT_EQ(Give(stream, size, reader), "[a][b]Once[c] upon") << size;
  }
}

TEST(JobStream, CarriesEveryByte) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  all = absl::StrCat(all, all, "\x10\x10", "L", "\x10", "T");
  for (size_t size : {1, 2, 3, 1000}) {
    JobStreamReader reader;
    EXPECT_EQ(Give(StreamText(all), size, reader), all) << size;
    EXPECT_FALSE(reader.takes_interrupts());
  }
}

TEST(JobStream, TellsWhetherCtrlCIsAnEvent) {
  JobStreamReader reader;
  EXPECT_EQ(Give(StreamTakesInterrupts(true), 1, reader), "");
  EXPECT_TRUE(reader.takes_interrupts());
  EXPECT_EQ(Give(StreamText("x") + StreamTakesInterrupts(false), 1, reader), "x");
  EXPECT_FALSE(reader.takes_interrupts());
}

}  // namespace
}  // namespace tprun
