// Every vocabulary of the shared data, in every form it has, against its expected ids.

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "tests/engine/tokenizer/test_tokenizers.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

struct Form {
  std::string name;
  std::string file;     // under the data folder
  std::string vectors;  // .inp and .out, under the data folder; "" if none
  std::string specials;
};

std::string Models(const std::string& file) {
  return absl::StrCat(TestDataDirectory(), "/models/", file);
}

std::vector<std::string> ReadInputs(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status();
  std::vector<std::string> inputs = absl::StrSplit(*text, "\n__ggml_vocab_test__\n");
  inputs.pop_back();  // each is terminated, the last one too
  return inputs;
}

std::vector<Ids> ReadOutputs(const std::string& path) {
  const auto text = ReadFile(path);
  EXPECT_TRUE(text.ok()) << text.status();
  std::vector<Ids> outputs;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    outputs.emplace_back();
    for (absl::string_view field : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
      outputs.back().push_back(0);
      EXPECT_TRUE(absl::SimpleAtoi(field, &outputs.back().back()));
    }
  }
  outputs.pop_back();
  return outputs;
}

// SentencePiece's own files of tok512 remove extra white space, which the vectors do not.
bool HasExtraSpaces(const std::string& text) {
  return text.find("  ") != std::string::npos || (!text.empty() && text.front() == ' ') ||
         (!text.empty() && text.back() == ' ');
}

void ExpectRoundTrip(const Tokenizer& tokenizer, const std::string& text, const Ids& ids) {
  EXPECT_EQ(tokenizer.Decode(ids), text);
  StreamDecoder stream(tokenizer, /*after_prompt=*/false);
  std::string streamed;
  for (int32_t id : ids) streamed += stream.Push(id);
  EXPECT_EQ(streamed + stream.Finish(), text);
}

// What is marked gives no special token, though they are parsed, whatever the text is.
void ExpectMarkedIsPlain(const Tokenizer& tokenizer, const std::string& text) {
  const std::string mark = "\xEF\xB7\x90";
  const auto ids = tokenizer.Encode(tokenizer.MarkSpecial(text, mark),
                                    {.add_bos = false, .parse_special = true, .mark = mark});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, MustEncode(tokenizer, text, false)) << text;
}

void ExpectSpecials(const Tokenizer& tokenizer, const std::string& path) {
  const auto tests = ReadJsonFile(path);
  ASSERT_TRUE(tests.ok()) << tests.status();
  ASSERT_FALSE(tests->empty());
  for (const Json& test : *tests) {
    const std::string text = test["text"].get<std::string>();
    EXPECT_EQ(MustEncode(tokenizer, text, true), test["ids_parse_special"].get<Ids>()) << text;
    EXPECT_EQ(MustEncode(tokenizer, text, false), test["ids_as_plain_text"].get<Ids>()) << text;
    ExpectMarkedIsPlain(tokenizer, text);
  }
}

class VectorsTest : public ::testing::TestWithParam<Form> {};

TEST_P(VectorsTest, EncodesAndDecodesAsExpected) {
  TPRUN_NEEDS_TEST_DATA();
  const auto tokenizer = MustLoad(Models(GetParam().file));
  ASSERT_NE(tokenizer, nullptr);
  const auto inputs = ReadInputs(Models(GetParam().vectors + ".inp"));
  const auto outputs = ReadOutputs(Models(GetParam().vectors + ".out"));
  ASSERT_EQ(inputs.size(), outputs.size());
  ASSERT_GT(inputs.size(), 10);
  const bool removes_spaces = GetParam().file.find("tok512.model") != std::string::npos;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (removes_spaces && HasExtraSpaces(inputs[i])) continue;
    const Ids ids = MustEncode(*tokenizer, inputs[i], false);
    EXPECT_EQ(ids, outputs[i]) << "'" << inputs[i] << "'";
    ExpectRoundTrip(*tokenizer, inputs[i], ids);
    ExpectMarkedIsPlain(*tokenizer, inputs[i]);
  }
  if (GetParam().specials.empty()) return;
  ExpectSpecials(*tokenizer, Models(GetParam().specials));
}

std::vector<Form> Forms() {
  const std::string gpt2 = "tokenizers/gpt-2/ggml-vocab-gpt-2.gguf";
  const std::string llama3 = "tokenizers/llama-bpe/ggml-vocab-llama-bpe.gguf";
  const std::string llama2 = "tokenizers/llama-spm/ggml-vocab-llama-spm.gguf";
  const std::string qwen2 = "tokenizers/qwen2/ggml-vocab-qwen2.gguf";
  const std::string llama3_specials = "tokenizers/llama-bpe/special_tests.json";
  const std::string qwen2_specials = "tokenizers/qwen2/special_tests.json";
  const std::string tok512 = "tiny/stories260K/tok512";
  return {
      {"Gpt2Gguf", gpt2, gpt2, ""},
      {"Llama3Gguf", llama3, llama3, llama3_specials},
      {"Llama3Json", "tokenizers/llama-bpe/tokenizer.json", llama3, llama3_specials},
      {"Llama3Tiktoken", "tokenizers/llama-bpe/tokenizer.model", llama3, llama3_specials},
      {"Llama2Gguf", llama2, llama2, ""},
      {"Llama2Json", "tokenizers/llama-spm/tokenizer.json", llama2, ""},
      {"Llama2SentencePiece", "tokenizers/llama-spm/tokenizer.model", llama2, ""},
      {"Qwen2Gguf", qwen2, qwen2, qwen2_specials},
      {"Qwen2Json", "tokenizers/qwen2/tokenizer.json", qwen2, qwen2_specials},
      {"Tok512Gguf", "tiny/stories260K/gguf/stories260K-q8_0.gguf", tok512, ""},
      {"Tok512Json", "tiny/stories260K/hf/tokenizer.json", tok512, ""},
      {"Tok512SentencePiece", "tiny/stories260K/llama2c/tok512.model", tok512, ""},
  };
}

INSTANTIATE_TEST_SUITE_P(All, VectorsTest, ::testing::ValuesIn(Forms()),
                         [](const auto& info) { return info.param.name; });

// Made by golden/make_golden.py with Hugging Face tokenizers and SentencePiece.
void ExpectGolden(const Tokenizer& tokenizer, const std::string& name) {
  const auto golden = ReadJsonFile(SourcePath("tests/engine/tokenizer/golden/golden.json"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_GT((*golden)[name].size(), 20);
  for (const Json& entry : (*golden)[name]) {
    const std::string text = entry["text"].get<std::string>();
    EXPECT_EQ(MustEncode(tokenizer, text, true), entry["ids"].get<Ids>()) << "'" << text << "'";
  }
}

TEST(GoldenTest, ByteLevelTrainedByHuggingFace) {
  const auto tokenizer = MustLoad(SourcePath("tests/engine/tokenizer/golden/byte_level.json"));
  ASSERT_NE(tokenizer, nullptr);
  ExpectGolden(*tokenizer, "byte_level");
}

TEST(GoldenTest, MetaspaceTrainedByHuggingFace) {
  const auto tokenizer = MustLoad(SourcePath("tests/engine/tokenizer/golden/metaspace.json"));
  ASSERT_NE(tokenizer, nullptr);
  ExpectGolden(*tokenizer, "metaspace");
}

TEST(GoldenTest, ChatGlm3) {
  TPRUN_NEEDS_TEST_DATA();
  const auto tokenizer = MustLoad(Models("tokenizers/chatglm3/tokenizer.model"));
  ASSERT_NE(tokenizer, nullptr);
  ExpectGolden(*tokenizer, "chatglm3");
}

TEST(BeginAndEndTest, FollowTheFiles) {
  TPRUN_NEEDS_TEST_DATA();
  struct Case {
    std::string file;
    int32_t bos;
    bool adds_bos;
    int32_t end;
  };
  const Case cases[] = {
      {"tokenizers/llama-bpe/ggml-vocab-llama-bpe.gguf", 128000, true, 128009},
      {"tokenizers/llama-bpe/tokenizer.model", 128000, true, 128009},
      {"tokenizers/gpt-2/ggml-vocab-gpt-2.gguf", 50256, false, 50256},
      {"tokenizers/qwen2/tokenizer.json", -1, false, 151645},
      {"tokenizers/llama-spm/tokenizer.json", 1, true, 2},
      {"tokenizers/llama-spm/tokenizer.model", 1, true, 2},
      {"tiny/stories260K/gguf/stories260K-q8_0.gguf", 1, true, 2},
  };
  for (const Case& c : cases) {
    const auto tokenizer = MustLoad(Models(c.file));
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->bos_id(), c.bos) << c.file;
    EXPECT_THAT(tokenizer->end_ids(), ::testing::Contains(c.end)) << c.file;
    const auto ids = tokenizer->Encode("a", {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(ids->size(), c.adds_bos ? 2 : 1) << c.file;
    EXPECT_EQ(tokenizer->Decode(*ids), "a") << c.file;
  }
}

}  // namespace
}  // namespace tprun
