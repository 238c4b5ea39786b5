#include "tests/engine/tokenizer/test_tokenizers.h"

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/tokenizer/byte_level.h"

namespace tprun {

std::string WriteTestFile(const std::string& name, const std::string& contents) {
  const std::string path = JoinPath(::testing::TempDir(), absl::StrCat("tprun_tokenizer_", name));
  EXPECT_TRUE(WriteFile(path, contents).ok());
  return path;
}

std::unique_ptr<Tokenizer> MustLoad(const std::string& path) {
  auto tokenizer = LoadTokenizerFile(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

Ids MustEncode(const Tokenizer& tokenizer, absl::string_view text, bool parse_special) {
  EncodeOptions options;
  options.add_bos = false;
  options.parse_special = parse_special;
  const auto ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *ids : Ids{};
}

std::string ByteLevelJson(const std::vector<std::pair<std::string, std::string>>& merges,
                          const std::string& more_members) {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[BytesToByteLevel(std::string(1, static_cast<char>(byte)))] = byte;
  }
  Json list = Json::array();
  for (const auto& [left, right] : merges) {
    vocab[left + right] = static_cast<int>(vocab.size());
    list.push_back({left, right});
  }
  const Json model = {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}};
  return absl::StrCat("{\"model\":", model.dump(), more_members.empty() ? "" : ",", more_members,
                      "}");
}

}  // namespace tprun
