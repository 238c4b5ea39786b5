#include "engine/tokenizer/to_gguf.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/loaders.h"
#include "engine/tokenizer/sentencepiece_proto.h"
#include "engine/tokenizer/side_files.h"

namespace tprun {
namespace {

constexpr char kPrefix[] = "tokenizer.ggml.";

// Of pieces that no merge makes: below all others.
constexpr double kLowestScore = -1e6;

bool IsBytePiece(absl::string_view text) {
  return text.size() == 6 && absl::StartsWith(text, "<0x") && text[5] == '>';
}

// The lists that have an entry per id.
struct Lists {
  Json::array_t tokens, types, scores;

  void Add(std::string text, TokenKind kind, double score) {
    tokens.push_back(std::move(text));
    types.push_back(static_cast<int>(kind));
    scores.push_back(score);
  }
};

absl::Status FillUp(int64_t vocab, Lists& lists) {
  const auto size = static_cast<int64_t>(lists.tokens.size());
  if (size > vocab) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tokenizer has ", size, " tokens, but the embedding only ", vocab,
                     " rows: GGUF wants as many of one as of the other"));
  }
  for (int64_t id = size; id < vocab; ++id) {
    lists.Add(absl::StrCat("[PAD", id, "]"), TokenKind::kUnused, kLowestScore);
  }
  return absl::OkStatus();
}

void PutLists(Lists lists, bool scores, Json& metadata) {
  metadata[absl::StrCat(kPrefix, "tokens")] = std::move(lists.tokens);
  if (scores) metadata[absl::StrCat(kPrefix, "scores")] = std::move(lists.scores);
  metadata[absl::StrCat(kPrefix, "token_type")] = std::move(lists.types);
}

void PutIds(const TokenizerParts& parts, int32_t unknown, Json& metadata) {
  const auto put = [&](absl::string_view name, int32_t id) {
    if (id >= 0) metadata[absl::StrCat(kPrefix, name, "_token_id")] = id;
  };
  put("bos", parts.bos_id);
  const char* const ends[] = {"eos", "eot", "eom"};
  for (size_t i = 0; i < parts.end_ids.size() && i < 3; ++i) put(ends[i], parts.end_ids[i]);
  put("unknown", unknown);
  metadata[absl::StrCat(kPrefix, "add_bos_token")] =
      parts.bos_id >= 0 && !parts.prefix_ids.empty() && parts.prefix_ids[0] == parts.bos_id;
  metadata[absl::StrCat(kPrefix, "add_eos_token")] = false;
}

Lists VocabularyLists(const Vocabulary& vocabulary, const std::vector<double>& scores,
                      bool byte_pieces, int32_t unknown) {
  Lists lists;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const Token& token = vocabulary[id];
    TokenKind kind = token.kind;
    if (kind == TokenKind::kNormal && byte_pieces && IsBytePiece(token.text)) {
      kind = TokenKind::kByte;
    }
    if (id == unknown) kind = TokenKind::kUnknown;
    // A gap in the ids has no text; two tokens must not have the same one.
    std::string text = token.text.empty() ? absl::StrCat("[PAD", id, "]") : token.text;
    lists.Add(std::move(text), kind, scores.empty() ? 0 : scores[id]);
  }
  return lists;
}

absl::StatusOr<Json> FromSentencePiece(absl::string_view bytes, const SideFiles& side,
                                       int64_t vocab) {
  ASSIGN_OR_RETURN(const SentencePieceModel model, ParseSentencePieceModel(bytes));
  if (model.type != SentencePieceModel::Type::kBpe || model.has_charsmap) {
    return absl::InvalidArgumentError(
        "a SentencePiece model that is no BPE, or normalises by a table of its own, cannot be "
        "written as GGUF's \"llama\" vocabulary");
  }
  ASSIGN_OR_RETURN(TokenizerParts parts, LoadSentencePiece(bytes, side));
  RETURN_IF_ERROR(ApplySideFiles(side, &parts));
  std::vector<double> scores(parts.vocabulary->size(), kLowestScore);
  int32_t unknown = -1;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    scores[id] = model.pieces[id].score;
    if (model.pieces[id].kind == TokenKind::kUnknown) unknown = static_cast<int32_t>(id);
  }
  Lists lists = VocabularyLists(*parts.vocabulary, scores, model.byte_fallback, unknown);
  RETURN_IF_ERROR(FillUp(vocab, lists));
  Json metadata = Json::object();
  metadata[absl::StrCat(kPrefix, "model")] = "llama";
  metadata[absl::StrCat(kPrefix, "pre")] = "default";
  PutLists(std::move(lists), /*scores=*/true, metadata);
  PutIds(parts, unknown, metadata);
  metadata[absl::StrCat(kPrefix, "add_space_prefix")] = model.add_dummy_prefix;
  return metadata;
}

// "left right" of each merge of tokenizer.json, of which LoadHuggingFace has checked the form.
std::vector<std::string> MergesOf(const nlohmann::json& model) {
  std::vector<std::string> merges;
  for (const nlohmann::json& merge : model.at("merges")) {
    merges.push_back(merge.is_array() ? absl::StrCat(merge[0].get_ref<const std::string&>(), " ",
                                                     merge[1].get_ref<const std::string&>())
                                      : merge.get<std::string>());
  }
  return merges;
}

// SentencePiece merges the pair whose whole has the highest score: minus the place of the first
// merge that makes it.
std::vector<double> ScoresOfMerges(const std::vector<std::string>& merges,
                                   const Vocabulary& vocabulary) {
  std::vector<double> scores(vocabulary.size(), kLowestScore);
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t space = merges[i].find(' ', 1);
    const int32_t id =
        vocabulary.Find(absl::StrCat(merges[i].substr(0, space), merges[i].substr(space + 1)));
    if (id >= 0 && scores[id] == kLowestScore) scores[id] = -static_cast<double>(i);
  }
  return scores;
}

bool IsByteLevel(const nlohmann::json& json) {
  const std::string text = json.value("pre_tokenizer", nlohmann::json()).dump() +
                           json.value("decoder", nlohmann::json()).dump();
  return absl::StrContains(text, "\"ByteLevel\"");
}

absl::StatusOr<Json> FromHuggingFace(absl::string_view text, const SideFiles& side, int64_t vocab) {
  ASSIGN_OR_RETURN(TokenizerParts parts, LoadHuggingFace(text));
  RETURN_IF_ERROR(ApplySideFiles(side, &parts));
  ASSIGN_OR_RETURN(const nlohmann::json json, ParseLargeJson(text));
  const nlohmann::json& model = json.at("model");
  std::vector<std::string> merges = MergesOf(model);
  const bool byte_level = IsByteLevel(json);
  const nlohmann::json unknown_text = model.value("unk_token", nlohmann::json());
  const int32_t unknown =
      unknown_text.is_string() ? parts.vocabulary->Find(unknown_text.get<std::string>()) : -1;
  Json metadata = Json::object();
  metadata[absl::StrCat(kPrefix, "model")] = byte_level ? "gpt2" : "llama";
  std::vector<double> scores;
  if (byte_level) {
    ASSIGN_OR_RETURN(metadata[absl::StrCat(kPrefix, "pre")],
                     GgufPreName(Json(json.value("pre_tokenizer", nlohmann::json()))));
  } else {
    metadata[absl::StrCat(kPrefix, "pre")] = "default";
    scores = ScoresOfMerges(merges, *parts.vocabulary);
    metadata[absl::StrCat(kPrefix, "add_space_prefix")] = parts.strip_leading_space;
  }
  Lists lists = VocabularyLists(*parts.vocabulary, scores, !byte_level, byte_level ? -1 : unknown);
  RETURN_IF_ERROR(FillUp(vocab, lists));
  PutLists(std::move(lists), !byte_level, metadata);
  if (byte_level) metadata[absl::StrCat(kPrefix, "merges")] = std::move(merges);
  PutIds(parts, unknown, metadata);
  return metadata;
}

absl::StatusOr<Json> FromFolder(const Checkpoint& checkpoint, int64_t vocab) {
  const std::string directory = checkpoint.directory();
  ASSIGN_OR_RETURN(const SideFiles side, ReadSideFiles(directory, checkpoint.config()));
  const std::string model_path = JoinPath(directory, "tokenizer.model");
  if (FileExists(model_path)) {
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(model_path));
    if (LooksLikeSentencePiece(bytes)) return FromSentencePiece(bytes, side, vocab);
  }
  const std::string json_path = JoinPath(directory, "tokenizer.json");
  if (FileExists(json_path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(json_path));
    return FromHuggingFace(text, side, vocab);
  }
  if (!FileExists(model_path)) return Json::object();
  return absl::InvalidArgumentError(
      absl::StrCat(model_path,
                   " holds ranks without merges (tiktoken), which GGUF cannot: put the model's "
                   "tokenizer.json beside it"));
}

// Of many kinds, without runs of spaces, which SentencePiece models treat in ways of their own.
constexpr const char* kSamples[] = {
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    "It's 12345.678 or 1,000,000; isn't it? I'll say we've DONE.",
    "def f(x):\n\treturn {'a': x ** 2}\n",
    "Grüße aus Zürich, où l'été est très agréable — n'est-ce pas?",
    "Привет, как дела? 你好，世界。こんにちは 안녕하세요",
    "emoji: \xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xC2\xA9\xE2\x82\xAC",
    "https://example.com/a_b?c=d&e=%20#f",
    "x"};

}  // namespace

absl::StatusOr<Json> GgufTokenizerMetadata(const Checkpoint& checkpoint, int64_t vocab) {
  ASSIGN_OR_RETURN(Json metadata, FromFolder(checkpoint, vocab));
  if (metadata.empty()) return metadata;
  ASSIGN_OR_RETURN(const std::string chat_template, ChatTemplateSource(checkpoint));
  if (!chat_template.empty()) metadata["tokenizer.chat_template"] = chat_template;
  return metadata;
}

absl::Status CompareTokenizers(const Tokenizer& original, const Tokenizer& converted) {
  for (const char* sample : kSamples) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> wanted, original.Encode(sample, {}));
    ASSIGN_OR_RETURN(const std::vector<int32_t> found, converted.Encode(sample, {}));
    if (wanted == found) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "GGUF cannot tell how this tokenizer works: of ", Quoted(sample), " it would make ",
        absl::StrJoin(found, " "), ", not ", absl::StrJoin(wanted, " ")));
  }
  return absl::OkStatus();
}

}  // namespace tprun
