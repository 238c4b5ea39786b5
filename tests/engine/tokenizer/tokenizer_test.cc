#include "engine/tokenizer/tokenizer.h"

#include <sys/stat.h>

#include <chrono>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/tokenizer/regex.h"
#include "engine/tokenizer/utf8.h"
#include "gmock/gmock.h"
#include "tests/engine/tokenizer/test_tokenizers.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr char kByteLevel[] = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false})";
constexpr char kEuro[] = "\xE2\x82\xAC";

std::unique_ptr<Tokenizer> ByteTokenizer(const std::string& more = kByteLevel) {
  return MustLoad(WriteTestFile("plain.json", ByteLevelJson({}, more)));
}

TEST(StreamDecoderTest, GivesWholeCharacters) {
  const auto tokenizer = ByteTokenizer();
  StreamDecoder stream(*tokenizer, true);
  EXPECT_EQ(stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push(0x82), "");
  EXPECT_EQ(stream.Push(0xAC), kEuro);
  EXPECT_EQ(stream.Push('a'), "a");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(StreamDecoderTest, BrokenCharactersBecomeReplacements) {
  const auto tokenizer = ByteTokenizer();
  StreamDecoder stream(*tokenizer, true);
  EXPECT_EQ(stream.Push(0xFF), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.Push(0xE2), "");
  EXPECT_EQ(stream.Push('a'),
            "\xEF\xBF\xBD"
            "a");
  EXPECT_EQ(stream.Push(0xF0), "");
  EXPECT_EQ(stream.Push(0x9F), "");
  EXPECT_EQ(stream.Finish(), "\xEF\xBF\xBD");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(StreamDecoderTest, LeadingSpaceOnlyAtTheStartIsDropped) {
  TPRUN_NEEDS_TEST_DATA();
  const auto tokenizer =
      MustLoad(TestDataDirectory() + "/models/tiny/stories260K/hf/tokenizer.json");
  const Ids ids = MustEncode(*tokenizer, "the the", false);
  for (const bool after_prompt : {false, true}) {
    StreamDecoder stream(*tokenizer, after_prompt);
    std::string text = stream.Push(tokenizer->bos_id());
    for (int32_t id : ids) text += stream.Push(id);
    EXPECT_EQ(text, after_prompt ? " the the" : "the the");
  }
}

TEST(MergeTest, LowestRankThenLeftmost) {
  const auto tokenizer = MustLoad(
      WriteTestFile("merges.json",
                    ByteLevelJson({{"b", "c"}, {"a", "b"}, {"a", "a"}, {"aa", "aa"}}, kByteLevel)));
  EXPECT_EQ(MustEncode(*tokenizer, "abc", false), (Ids{'a', 256}));
  EXPECT_EQ(MustEncode(*tokenizer, "abab", false), (Ids{257, 257}));
  EXPECT_EQ(MustEncode(*tokenizer, "aaaaa", false), (Ids{259, 'a'}));
}

TEST(AddedTokensTest, LongestFirstAndOnlyWhereAsked) {
  const auto tokenizer = ByteTokenizer(
      absl::StrCat(kByteLevel, R"(,"added_tokens":[{"id":300,"content":"<a>","special":true},)",
                   R"({"id":301,"content":"<a><b>","special":true},{"id":302,"content":"<c>",)",
                   R"("special":false,"lstrip":true,"rstrip":true}])"));
  EXPECT_EQ(MustEncode(*tokenizer, "<a><b><a>x", true), (Ids{301, 300, 'x'}));
  EXPECT_EQ(MustEncode(*tokenizer, "<a>", false), (Ids{'<', 'a', '>'}));
  EXPECT_EQ(MustEncode(*tokenizer, "x  <c>\n y", true), (Ids{'x', 302, 'y'}));
  EXPECT_EQ(MustEncode(*tokenizer, "<c>", false), (Ids{302}));
  EXPECT_EQ(tokenizer->Decode({301, 'x', 302}), "x<c>");
  EXPECT_EQ(tokenizer->vocab_size(), 303);
}

// Quadratic work on a million characters would take minutes.
TEST(LongTextTest, OnePieceOfAMillionCharacters) {
  const auto tokenizer = MustLoad(WriteTestFile(
      "long.json", ByteLevelJson({{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}}, kByteLevel)));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(MustEncode(*tokenizer, std::string(1 << 20, 'a'), true).size(), (1 << 20) / 8);
  EXPECT_EQ(MustEncode(*tokenizer, std::string(1 << 20, ' '), true).size(), 1 << 20);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(LongTextTest, SentencePieceIsNotQuadratic) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/models/tiny/stories260K/";
  std::string text;
  while (text.size() < 1 << 20) text += "Once upon a time there was a little girl. ";
  for (const char* file : {"llama2c/tok512.model", "hf/tokenizer.json"}) {
    const auto tokenizer = MustLoad(folder + file);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_GT(MustEncode(*tokenizer, text, true).size(), text.size() / 8);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30)) << file;
  }
}

TEST(RegexTest, LongRunsAndEmptyMatches) {
  const auto regex = Regex::Compile("\\p{L}+|\\s+(?!\\S)|\\s+");
  ASSERT_TRUE(regex.ok()) << regex.status();
  int matches = 0;
  const auto count = [&](size_t, size_t) { ++matches; };
  const std::string text = std::string(3 << 20, ' ') + "x" + std::string(3 << 20, 'y');
  EXPECT_TRUE((*regex)->ForEachMatch(text, count).ok());
  EXPECT_EQ(matches, 3);
  const auto empty = Regex::Compile("(?=b)|x*");
  ASSERT_TRUE(empty.ok());
  std::vector<std::pair<size_t, size_t>> ranges;
  EXPECT_TRUE(
      (*empty)->ForEachMatch("abx", [&](size_t b, size_t e) { ranges.emplace_back(b, e); }).ok());
  EXPECT_THAT(ranges, ElementsAre(std::pair(0, 0), std::pair(1, 1), std::pair(2, 3)));
}

TEST(RegexTest, WhiteSpaceIsUnicodes) {
  const auto matches = [](absl::string_view pattern, absl::string_view text) {
    const auto regex = Regex::Compile(pattern);
    EXPECT_TRUE(regex.ok()) << regex.status();
    int count = 0;
    EXPECT_TRUE((*regex)->ForEachMatch(text, [&](size_t, size_t) { ++count; }).ok());
    return count;
  };
  // NBSP, ideographic space, and U+180E, which is none.
  const char text[] = "\xC2\xA0 \xE3\x80\x80\xE1\xA0\x8E";
  EXPECT_EQ(matches("\\s", text), 3);
  EXPECT_EQ(matches("\\S", text), 1);
  EXPECT_EQ(matches("[\\s]", text), 3);
  EXPECT_EQ(matches("[^\\s]", text), 1);
  EXPECT_EQ(matches("[\\S]", text), 1);
  EXPECT_EQ(matches("[]a[:digit:]]", "]a1b"), 3);
  EXPECT_FALSE(Regex::Compile("[a[bc]]").ok());
  EXPECT_FALSE(Regex::Compile("[a&&b]").ok());
}

TEST(Utf8Test, RejectsOverlongSurrogatesAndTooLarge) {
  for (const char* bad : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80"}) {
    EXPECT_FALSE(ReadUtf8Char(bad, 0).valid);
  }
  EXPECT_EQ(FirstCodePoint(kEuro), 0x20AC);
  EXPECT_EQ(EndOfValidUtf8("a\xE2\x82\xAC\xFF", 0), 4);
}

// A model folder of nothing but the files that a tokenizer needs.
class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(), "tprun_tokenizer_folder");
    mkdir(folder_.c_str(), 0755);
    Write("config.json", R"({"model_type":"llama","bos_token_id":7,"eos_token_id":[8,9]})");
    Write(
        "tokenizer.json",
        ByteLevelJson({}, absl::StrCat(kByteLevel, R"(,"added_tokens":[{"id":256,"content":"<s>",)",
                                       R"("special":true},{"id":257,"content":"<|eot_id|>",)",
                                       R"("special":true},{"id":258,"content":"</s>",)",
                                       R"("special":true}])")));
    Write("tokenizer_config.json", "{}");
    Write("generation_config.json", "{}");
  }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFile(JoinPath(folder_, name), text).ok());
  }
  absl::StatusOr<std::unique_ptr<Tokenizer>> Load() {
    auto checkpoint = Checkpoint::Open(folder_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return checkpoint.status();
    return LoadTokenizer(**checkpoint);
  }
  std::string folder_;
};

TEST_F(FolderTest, ConfigAndWellKnownTokens) {
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 7);
  EXPECT_THAT((*tokenizer)->end_ids(), UnorderedElementsAre(8, 9, 257));
  EXPECT_THAT(*(*tokenizer)->Encode("a", {}), ElementsAre('a'));
}

TEST_F(FolderTest, TokenizerConfigDecidesOnBos) {
  Write("tokenizer_config.json",
        R"({"bos_token":{"content":"<s>"},"eos_token":"</s>","add_bos_token":true})");
  Write("generation_config.json", R"({"eos_token_id":10})");
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->bos_id(), 256);
  EXPECT_THAT((*tokenizer)->end_ids(), UnorderedElementsAre(8, 9, 10, 257, 258));
  EXPECT_THAT(*(*tokenizer)->Encode("a", {}), ElementsAre(256, 'a'));
  EncodeOptions no_bos;
  no_bos.add_bos = false;
  EXPECT_THAT(*(*tokenizer)->Encode("a", no_bos), ElementsAre('a'));
}

TEST_F(FolderTest, WrongSideFilesAreErrors) {
  Write("generation_config.json", R"({"eos_token_id":"two"})");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kInvalidArgument);
  Write("generation_config.json", "[");
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kInvalidArgument);
  Write("generation_config.json", "{}");
  std::remove(JoinPath(folder_, "tokenizer.json").c_str());
  EXPECT_EQ(Load().status().code(), absl::StatusCode::kNotFound);
}

// ChatGLM3's own tokens stand behind the pieces, and its prefix in front of every text.
TEST_F(FolderTest, ChatGlm3) {
  TPRUN_NEEDS_TEST_DATA();
  std::remove(JoinPath(folder_, "tokenizer.json").c_str());
  const auto model = ReadFile(TestDataDirectory() + "/models/tokenizers/chatglm3/tokenizer.model");
  ASSERT_TRUE(model.ok());
  Write("tokenizer.model", *model);
  Write("tokenizer_config.json", R"({"tokenizer_class":"ChatGLMTokenizer"})");
  const auto tokenizer = Load();
  std::remove(JoinPath(folder_, "tokenizer.model").c_str());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->Encode("<|user|>", {});
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(64790, 64792, 64795));
}

}  // namespace
}  // namespace tprun
