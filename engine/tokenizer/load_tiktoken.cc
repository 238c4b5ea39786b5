#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/loaders.h"

namespace tprun {
namespace {

constexpr int32_t kLlama3Ranks = 128000;

absl::Status AddRanks(absl::string_view text, Vocabulary* vocabulary) {
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    if (line.empty() || line == "\r") continue;
    const std::vector<absl::string_view> fields =
        absl::StrSplit(line, absl::ByAnyChar(" \r"), absl::SkipEmpty());
    std::string bytes;
    int64_t rank = -1;
    const bool ok = fields.size() == 2 && absl::Base64Unescape(fields[0], &bytes) &&
                    !bytes.empty() && absl::SimpleAtoi(fields[1], &rank);
    if (!ok) {
      return absl::InvalidArgumentError(absl::StrCat("line ", line_number,
                                                     ": wanted \"base64 rank\", found \"",
                                                     absl::CHexEscape(line.substr(0, 80)), "\""));
    }
    RETURN_IF_ERROR(vocabulary->Add(rank, BytesToByteLevel(bytes), TokenKind::kNormal));
  }
  return absl::OkStatus();
}

// meta-llama/llama-models: models/llama3/tokenizer.py, with Llama-3's names.
std::vector<AddedToken> Llama3Tokens() {
  const std::pair<int, const char*> named[] = {{0, "<|begin_of_text|>"},
                                               {1, "<|end_of_text|>"},
                                               {6, "<|start_header_id|>"},
                                               {7, "<|end_header_id|>"},
                                               {9, "<|eot_id|>"}};
  std::vector<AddedToken> tokens;
  int reserved = 0;
  for (int i = 0; i < 256; ++i) {
    std::string name;
    for (const auto& [index, text] : named) {
      if (index == i) name = text;
    }
    if (name.empty()) name = absl::StrCat("<|reserved_special_token_", reserved++, "|>");
    tokens.push_back({name, kLlama3Ranks + i, /*special=*/true});
  }
  return tokens;
}

// Llama-3.1 has the same file and calls three of the reserved tokens by name.
void AddLlama31Names(TokenizerParts* parts) {
  parts->added_tokens.push_back({"<|finetune_right_pad_id|>", kLlama3Ranks + 4, /*special=*/true});
  parts->added_tokens.push_back({"<|eom_id|>", kLlama3Ranks + 8, /*special=*/true});
  parts->added_tokens.push_back({"<|python_tag|>", kLlama3Ranks + 10, /*special=*/true});
  parts->end_ids.push_back(kLlama3Ranks + 8);
}

}  // namespace

absl::StatusOr<TokenizerParts> LoadTiktoken(absl::string_view text, const SideFiles& side) {
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>();
  RETURN_IF_ERROR(AddRanks(text, parts.vocabulary.get()));
  if (parts.vocabulary->size() == 0) return absl::InvalidArgumentError("no ranks in the file");
  std::vector<double> priorities;
  for (int32_t id = 0; id < parts.vocabulary->size(); ++id) priorities.push_back(id);
  ASSIGN_OR_RETURN(std::vector<AddedToken> added, AddedTokensOf(side));
  const bool llama3 = added.empty() && parts.vocabulary->size() == kLlama3Ranks;
  if (llama3) {
    added = Llama3Tokens();
    AddLlama31Names(&parts);
  }
  for (AddedToken& token : added) token.normalized = false;
  RETURN_IF_ERROR(AddTokens(added, &parts));
  priorities.resize(parts.vocabulary->size(), 0);
  SetByteLevelBytes(parts.vocabulary.get());
  const int32_t bos = parts.vocabulary->Find("<|begin_of_text|>");
  if (bos >= 0) parts.prefix_ids = {bos};

  ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::FromPatterns({kLlama3Pattern}));
  BpeOptions options;
  options.ignore_merges = true;
  auto merges = std::make_unique<PieceMerges>(parts.vocabulary, std::move(priorities));
  parts.encoder =
      std::make_unique<BpeSegmentEncoder>(Normalizer(), AddedTokens({}), std::move(pre_tokenizer),
                                          Bpe(parts.vocabulary, std::move(merges), options));
  return parts;
}

}  // namespace tprun
