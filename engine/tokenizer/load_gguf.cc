#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/loaders.h"

namespace tprun {
namespace {

constexpr char kMetaspace[] = "\xE2\x96\x81";

// The list "tokenizer.ggml.<name>", nullptr when it is absent; `size` < 0: any size.
absl::StatusOr<const Json*> GetList(const Json& metadata, absl::string_view name, int64_t size) {
  const std::string key = absl::StrCat("tokenizer.ggml.", name);
  const Json* list = FindMember(metadata, key);
  if (list == nullptr) return list;
  if (!list->is_array() || (size >= 0 && list->size() != size)) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, ": wanted a list", size >= 0 ? absl::StrCat(" of ", size) : "",
                     ", found ", list->is_array() ? absl::StrCat(list->size()) : "something else"));
  }
  return list;
}

absl::StatusOr<TokenKind> KindAt(const Json* types, size_t id) {
  if (types == nullptr) return TokenKind::kNormal;
  const Json& type = (*types)[id];
  const int64_t value = type.is_number_integer() ? type.get<int64_t>() : -1;
  if (value < 0 || value > 6) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.token_type: entry ", id, " is not one of 0 to 6"));
  }
  return value == 0 ? TokenKind::kNormal : static_cast<TokenKind>(value);
}

absl::StatusOr<TokenizerParts> ReadTokens(const Json& metadata) {
  ASSIGN_OR_RETURN(const Json* tokens, GetList(metadata, "tokens", -1));
  if (tokens == nullptr || tokens->empty()) {
    return absl::InvalidArgumentError("tokenizer.ggml.tokens is missing or empty");
  }
  ASSIGN_OR_RETURN(const Json* types, GetList(metadata, "token_type", tokens->size()));
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>();
  for (size_t id = 0; id < tokens->size(); ++id) {
    if (!(*tokens)[id].is_string()) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.tokens: entry ", id, " is no string"));
    }
    const std::string& text = (*tokens)[id].get_ref<const std::string&>();
    ASSIGN_OR_RETURN(const TokenKind kind, KindAt(types, id));
    RETURN_IF_ERROR(parts.vocabulary->Add(id, text, kind));
    const bool special = kind == TokenKind::kControl || kind == TokenKind::kUnknown;
    if (special || kind == TokenKind::kUserDefined) {
      parts.added_tokens.push_back({text, static_cast<int32_t>(id), special});
    }
  }
  return parts;
}

absl::StatusOr<int32_t> TokenId(const Json& metadata, absl::string_view name, int64_t otherwise,
                                const Vocabulary& vocabulary) {
  const std::string key = absl::StrCat("tokenizer.ggml.", name, "_token_id");
  ASSIGN_OR_RETURN(const int64_t id, GetIntOr(metadata, key, otherwise));
  return vocabulary.Contains(id) ? static_cast<int32_t>(id) : -1;
}

absl::Status SetEnds(const Json& metadata, TokenizerParts* parts, int64_t default_eos) {
  for (const char* name : {"eos", "eot", "eom"}) {
    const int64_t otherwise = name == absl::string_view("eos") ? default_eos : -1;
    ASSIGN_OR_RETURN(const int32_t id, TokenId(metadata, name, otherwise, *parts->vocabulary));
    if (id >= 0) parts->end_ids.push_back(id);
  }
  return absl::OkStatus();
}

absl::Status SetBos(const Json& metadata, bool add_by_default, int64_t default_bos,
                    TokenizerParts* parts) {
  ASSIGN_OR_RETURN(parts->bos_id, TokenId(metadata, "bos", default_bos, *parts->vocabulary));
  ASSIGN_OR_RETURN(const bool add,
                   GetBoolOr(metadata, "tokenizer.ggml.add_bos_token", add_by_default));
  if (add && parts->bos_id >= 0) parts->prefix_ids = {parts->bos_id};
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> ReadPriorities(const Json& metadata, int64_t size) {
  ASSIGN_OR_RETURN(const Json* scores, GetList(metadata, "scores", size));
  if (scores == nullptr) return absl::InvalidArgumentError("tokenizer.ggml.scores is missing");
  std::vector<double> priorities;
  for (const Json& score : *scores) {
    const double value = score.is_number() ? score.get<double>() : NAN;
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.scores: entry ", priorities.size(), " is no finite number"));
    }
    priorities.push_back(-value);
  }
  return priorities;
}

// SentencePiece BPE by scores. User-defined pieces are found in the text as it is and, as in
// llama.cpp, text after one begins with the prefix space again; extra spaces are kept.
absl::StatusOr<TokenizerParts> LoadLlama(const Json& metadata) {
  ASSIGN_OR_RETURN(TokenizerParts parts, ReadTokens(metadata));
  RETURN_IF_ERROR(SetBos(metadata, /*add_by_default=*/true, /*default_bos=*/1, &parts));
  RETURN_IF_ERROR(SetEnds(metadata, &parts, /*default_eos=*/2));
  ASSIGN_OR_RETURN(std::vector<double> priorities,
                   ReadPriorities(metadata, parts.vocabulary->size()));
  ASSIGN_OR_RETURN(const bool prefix, GetBoolOr(metadata, "tokenizer.ggml.add_space_prefix", true));
  BpeOptions options;
  options.byte_fallback = true;
  ASSIGN_OR_RETURN(options.unknown_id, TokenId(metadata, "unknown", 0, *parts.vocabulary));
  SetMetaspaceBytes(parts.vocabulary.get());
  Normalizer normalizer;
  if (prefix) normalizer.AddPrepend(" ");
  normalizer.AddReplace(" ", kMetaspace);
  parts.strip_leading_space = prefix;
  auto merges = std::make_unique<PieceMerges>(parts.vocabulary, std::move(priorities));
  parts.encoder =
      std::make_unique<BpeSegmentEncoder>(std::move(normalizer), AddedTokens({}), PreTokenizer(),
                                          Bpe(parts.vocabulary, std::move(merges), options));
  return parts;
}

absl::StatusOr<std::unique_ptr<BpeMerges>> ReadMerges(const Json& metadata,
                                                      const Vocabulary& vocabulary) {
  ASSIGN_OR_RETURN(const Json* list, GetList(metadata, "merges", -1));
  if (list == nullptr) return absl::InvalidArgumentError("tokenizer.ggml.merges is missing");
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const Json& merge : *list) {
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ', 1);
    if (text.empty() || space == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.merges: entry ", pairs.size(), ": wanted \"left right\""));
    }
    pairs.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return PairMerges::Create(pairs, vocabulary);
}

absl::StatusOr<TokenizerParts> LoadGpt2(const Json& metadata) {
  ASSIGN_OR_RETURN(const std::string pre, GetStringOr(metadata, "tokenizer.ggml.pre", "default"));
  ASSIGN_OR_RETURN(const std::vector<std::string> patterns, GgufPrePatterns(pre));
  ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::FromPatterns(patterns));
  const bool llama3 = patterns.size() == 1 && patterns[0] == kLlama3Pattern;
  ASSIGN_OR_RETURN(TokenizerParts parts, ReadTokens(metadata));
  const bool add_bos = pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3";
  RETURN_IF_ERROR(SetBos(metadata, add_bos, /*default_bos=*/-1, &parts));
  RETURN_IF_ERROR(SetEnds(metadata, &parts, /*default_eos=*/-1));
  SetByteLevelBytes(parts.vocabulary.get());
  ASSIGN_OR_RETURN(auto merges, ReadMerges(metadata, *parts.vocabulary));
  BpeOptions options;
  options.ignore_merges = llama3 || pre == "tekken" || pre == "gpt-4o" || pre == "llama4";
  Normalizer normalizer;
  // Qwen's tokenizer.json asks for it; GGUF has no key for it.
  if (pre == "qwen2" || pre == "deepseek-r1-qwen") normalizer.AddNfc();
  parts.encoder = std::make_unique<BpeSegmentEncoder>(
      std::move(normalizer), AddedTokens({}), std::move(pre_tokenizer),
      Bpe(parts.vocabulary, std::move(merges), options));
  return parts;
}

}  // namespace

absl::StatusOr<TokenizerParts> LoadGguf(const Json& metadata) {
  ASSIGN_OR_RETURN(const std::string model, GetStringOr(metadata, "tokenizer.ggml.model", ""));
  if (model.empty() || model == "no_vocab" || model == "none") {
    return absl::NotFoundError("the GGUF file holds no vocabulary (tokenizer.ggml.model)");
  }
  if (model == "llama") return LoadLlama(metadata);
  if (model == "gpt2") return LoadGpt2(metadata);
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.model \"", model,
                                                 "\" is not supported; supported are llama, gpt2"));
}

}  // namespace tprun
