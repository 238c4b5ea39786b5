// Files and texts that are wrong: an error that tells what, never a crash or a hang.

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gmock/gmock.h"
#include "tests/engine/tokenizer/test_tokenizers.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr char kByteLevel[] = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false})";

std::string LoadError(const std::string& name, const std::string& contents) {
  const auto tokenizer = LoadTokenizerFile(WriteTestFile(name, contents));
  EXPECT_FALSE(tokenizer.ok()) << contents.substr(0, 200);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << tokenizer.status();
  EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(name));
  return std::string(tokenizer.status().message());
}

TEST(BadJsonTest, SaysWhatIsWrong) {
  struct Case {
    std::string contents;
    std::string message;
  };
  const std::string model = R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":)";
  const Case cases[] = {
      {"", "parse error"},
      {"[]", "model"},
      {"{\"model\":{\"vocab\":{\"a\":0}", "parse error"},
      {"{\"model\":{\"vocab\":{\"\xff\":0}}}", "UTF-8"},
      {std::string(100000, '['), "nested"},
      {R"({"model":{"type":"BPE"}})", "vocab"},
      {R"({"model":{"type":"Unigram","vocab":[["a",0.0]]}})", "Unigram"},
      {R"({"model":{"type":"WordPiece","vocab":{"a":0}}})", "WordPiece"},
      {R"({"model":{"vocab":{"a":"0"},"merges":[]}})", "no integer"},
      {R"({"model":{"vocab":{"a":-1},"merges":[]}})", "id -1"},
      {R"({"model":{"vocab":{"a":4000000000},"merges":[]}})", "4000000000"},
      {R"({"model":{"vocab":{"a":0,"b":0},"merges":[]}})", "two tokens"},
      {model + R"(["a x"]}})", "\"x\" is not in the vocabulary"},
      {model + R"(["b a"]}})", "\"ba\" is not in the vocabulary"},
      {model + R"(["ab"]}})", "merge 0"},
      {model + R"([7]}})", "merge 0"},
      {model + R"([]},"pre_tokenizer":{"type":"Bert"}})", "Bert"},
      {model + R"([]},"normalizer":{"type":"Lowercase"}})", "Lowercase"},
      {model + R"([]}})", "spaces"},
      {model + R"([]},"added_tokens":[{"id":-5,"content":"x"}]})", "-5"},
      {model + R"([]},"added_tokens":[{"id":1,"content":"x"}]})", "two tokens"},
      {model + R"([]},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a"},)"
               R"("behavior":"Isolated"}})",
       "(a"},
      {model + R"([]},"post_processor":{"type":"TemplateProcessing",)"
               R"("single":[{"SpecialToken":{"id":"<s>"}}]}})",
       "<s>"},
  };
  for (const Case& c : cases) {
    EXPECT_THAT(LoadError("tokenizer.json", c.contents), HasSubstr(c.message)) << c.contents;
  }
}

TEST(BadJsonTest, EveryTruncationIsAnError) {
  const auto text = ReadFile(SourcePath("tests/engine/tokenizer/golden/byte_level.json"));
  ASSERT_TRUE(text.ok());
  for (size_t size = 0; size + 1 < text->size(); size += 97) {
    LoadError("tokenizer.json", text->substr(0, size));
  }
}

TEST(BadPatternTest, ExponentialBacktrackingIsStopped) {
  const std::string split =
      R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":)"
      R"({"Regex":"(a+)+[xy]"},"behavior":"Isolated"},{"type":"ByteLevel"}]})";
  const auto tokenizer = MustLoad(WriteTestFile("slow.json", ByteLevelJson({}, split)));
  ASSERT_NE(tokenizer, nullptr);
  const auto ids = tokenizer->Encode(std::string(5000, 'a'), {});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted) << ids.status();
}

TEST(BadModelFileTest, EveryTruncationIsAnErrorOrFewerPieces) {
  TPRUN_NEEDS_TEST_DATA();
  const auto bytes =
      ReadFile(TestDataDirectory() + "/models/tiny/stories260K/llama2c/tok512.model");
  ASSERT_TRUE(bytes.ok());
  for (size_t size = 0; size < bytes->size(); size += 61) {
    const auto tokenizer =
        LoadTokenizerFile(WriteTestFile("tokenizer.model", bytes->substr(0, size)));
    EXPECT_LE(tokenizer.ok() ? (*tokenizer)->vocab_size() : 0, 512);
  }
}

TEST(BadModelFileTest, SaysWhatIsWrong) {
  EXPECT_THAT(LoadError("tokenizer.model", ""), HasSubstr("no ranks"));
  EXPECT_THAT(LoadError("tokenizer.model", "IQ== 0\nnot base64 at all\n"), HasSubstr("line 2"));
  EXPECT_THAT(LoadError("tokenizer.model", "IQ== -1\n"), HasSubstr("id -1"));
  EXPECT_THAT(LoadError("tokenizer.model", "IQ== 0\nIg== 0\n"), HasSubstr("two tokens"));
  // A piece that says it is longer than the file.
  EXPECT_THAT(LoadError("tokenizer.model",
                        "\n\x7f\n\x01"
                        "a"),
              HasSubstr("data end"));
  EXPECT_EQ(LoadTokenizerFile("/nowhere/tokenizer.json").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(BadTextTest, InvalidUtf8BecomesItsBytes) {
  const auto tokenizer = MustLoad(WriteTestFile("bytes.json", ByteLevelJson({}, kByteLevel)));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(MustEncode(*tokenizer, "a\xff\xc3\xed\xa0\x80", false),
            (Ids{'a', 0xff, 0xc3, 0xed, 0xa0, 0x80}));
  TPRUN_NEEDS_TEST_DATA();
  for (const char* file : {"tok512.model", "../hf/tokenizer.json"}) {
    const auto spm = MustLoad(TestDataDirectory() + "/models/tiny/stories260K/llama2c/" + file);
    const std::string text = "b\xff\xe2\x96 c\xf0\x9f";
    EXPECT_EQ(spm->Decode(MustEncode(*spm, text, false)), text) << file;
  }
}

TEST(BadTextTest, CharacterWithoutToken) {
  const std::string json = R"({"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[]},)" +
                           std::string(kByteLevel) + "}";
  const auto tokenizer = MustLoad(WriteTestFile("few.json", json));
  ASSERT_NE(tokenizer, nullptr);
  const auto ids = tokenizer->Encode("abc", {});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("\"c\""));
}

TEST(BadIdTest, GivesNoText) {
  const auto tokenizer = MustLoad(WriteTestFile("ids.json", ByteLevelJson({}, kByteLevel)));
  ASSERT_NE(tokenizer, nullptr);
  for (int32_t id : {-1, 256, 1 << 30, INT32_MIN}) EXPECT_EQ(tokenizer->TokenBytes(id), "");
  EXPECT_EQ(tokenizer->Decode({'a', -1, 1 << 30, 'b'}), "ab");
}

}  // namespace
}  // namespace tprun
