#include "engine/tokenizer/side_files.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr int kMaxJsonDepth = 256;

// Tokens that end a turn or a document, whatever the configuration forgets to list.
constexpr const char* kEndTokens[] = {"<|eot_id|>",
                                      "<|eom_id|>",
                                      "<|im_end|>",
                                      "<end_of_turn>",
                                      "<|end_of_text|>",
                                      "<|endoftext|>",
                                      "<|eot|>",
                                      "<|return|>",
                                      "<|call|>",
                                      "<|end_of_turn|>",
                                      "<\xEF\xBD\x9C"
                                      "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"};
// In gpt-oss <|end|> only ends a message and the turn goes on; elsewhere it ends the turn.
constexpr char kEndOfMessage[] = "<|end|>";
// Where nothing else is known.
constexpr const char* kEosTokens[] = {"</s>", "<eos>"};

void AddUnique(int64_t id, const TokenizerParts& parts, std::vector<int32_t>* ids) {
  const bool known = parts.vocabulary->Contains(id);
  if (known && std::find(ids->begin(), ids->end(), id) == ids->end()) {
    ids->push_back(static_cast<int32_t>(id));
  }
}

// The id of an added or control token; -1 when the text is plain in this vocabulary.
int32_t FindSpecial(absl::string_view text, const TokenizerParts& parts) {
  const int32_t id = parts.vocabulary->Find(text);
  if (id < 0) return -1;
  const TokenKind kind = (*parts.vocabulary)[id].kind;
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined ? id : -1;
}

// "eos_token" and the like are a string or {"content": ...}.
std::string TokenText(const Json& object, absl::string_view key) {
  const Json* member = FindMember(object, key);
  if (member != nullptr && member->is_object()) member = FindMember(*member, "content");
  return member != nullptr && member->is_string() ? member->get<std::string>() : "";
}

// "eos_token_id" is an integer, a list of them, or null.
absl::Status AddEosIds(const Json& object, absl::string_view file, const TokenizerParts& parts,
                       std::vector<int32_t>* ids) {
  const Json* member = FindMember(object, "eos_token_id");
  if (member == nullptr) return absl::OkStatus();
  const Json list = member->is_array() ? *member : Json::array({*member});
  for (const Json& id : list) {
    if (!id.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": \"eos_token_id\": wanted an integer or a list of them, found ",
                       id.is_string() ? "a string" : id.type_name()));
    }
    AddUnique(id.get<int64_t>(), parts, ids);
  }
  return absl::OkStatus();
}

absl::Status SetBos(const SideFiles& side, TokenizerParts* parts) {
  const std::string text = TokenText(side.tokenizer_config, "bos_token");
  const int32_t named = text.empty() ? -1 : parts->vocabulary->Find(text);
  if (named >= 0) parts->bos_id = named;
  if (parts->bos_id < 0 && !parts->prefix_ids.empty()) parts->bos_id = parts->prefix_ids[0];
  for (const Json* object : {&side.generation_config, &side.config}) {
    ASSIGN_OR_RETURN(const int64_t id, GetIntOr(*object, "bos_token_id", -1));
    if (parts->bos_id < 0 && parts->vocabulary->Contains(id)) parts->bos_id = id;
  }
  const bool in_front = !parts->prefix_ids.empty();
  ASSIGN_OR_RETURN(const bool add, GetBoolOr(side.tokenizer_config, "add_bos_token", in_front));
  if (!add) parts->prefix_ids.clear();
  if (add && !in_front && parts->bos_id >= 0) parts->prefix_ids = {parts->bos_id};
  return absl::OkStatus();
}

bool NestsTooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\') ++i;
    if (c == '"') in_string = !in_string;
    if (in_string) continue;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (depth > kMaxJsonDepth) return true;
  }
  return false;
}

absl::StatusOr<Json> ReadOptional(const std::string& path) {
  if (!FileExists(path)) return Json::object();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<nlohmann::json> json = ParseLargeJson(text);
  if (!json.ok()) return Annotate(json.status(), path);
  if (!json->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted a JSON object"));
  }
  // Tens of thousands of keys in some models; a list of [id, token] is as good and quick to copy.
  const auto decoder = json->find("added_tokens_decoder");
  if (decoder != json->end() && decoder->is_object()) {
    nlohmann::json list = nlohmann::json::array();
    for (auto& [id, token] : decoder->items()) list.push_back({id, std::move(token)});
    *decoder = std::move(list);
  }
  return Json(*std::move(json));
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseLargeJson(absl::string_view text) {
  if (NestsTooDeep(text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON nested deeper than ", kMaxJsonDepth, " levels"));
  }
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
}

absl::StatusOr<SideFiles> ReadSideFiles(const std::string& directory, const Json& config) {
  SideFiles side;
  ASSIGN_OR_RETURN(side.tokenizer_config,
                   ReadOptional(JoinPath(directory, "tokenizer_config.json")));
  ASSIGN_OR_RETURN(side.generation_config,
                   ReadOptional(JoinPath(directory, "generation_config.json")));
  if (config.is_object()) side.config = config;
  return side;
}

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, int64_t id) {
  AddedToken token;
  if (id < 0 || id >= Vocabulary::kMaxSize) {
    return absl::InvalidArgumentError(absl::StrCat("added token with id ", id));
  }
  token.id = static_cast<int32_t>(id);
  ASSIGN_OR_RETURN(token.content, GetString(json, "content"));
  ASSIGN_OR_RETURN(token.special, GetBoolOr(json, "special", false));
  ASSIGN_OR_RETURN(token.lstrip, GetBoolOr(json, "lstrip", false));
  ASSIGN_OR_RETURN(token.rstrip, GetBoolOr(json, "rstrip", false));
  ASSIGN_OR_RETURN(token.single_word, GetBoolOr(json, "single_word", false));
  ASSIGN_OR_RETURN(token.normalized, GetBoolOr(json, "normalized", !token.special));
  return token;
}

absl::StatusOr<std::vector<AddedToken>> AddedTokensOf(const SideFiles& side) {
  std::vector<AddedToken> tokens;
  const Json* list = FindMember(side.tokenizer_config, "added_tokens_decoder");
  if (list == nullptr || !list->is_array()) return tokens;
  for (const Json& entry : *list) {
    int64_t id = -1;
    const bool ok = entry.is_array() && entry.size() == 2 && entry[0].is_string() &&
                    absl::SimpleAtoi(entry[0].get_ref<const std::string&>(), &id);
    if (!ok) {
      return absl::InvalidArgumentError(
          "tokenizer_config.json: \"added_tokens_decoder\": wanted {\"id\": {...}}");
    }
    ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry[1], id));
    tokens.push_back(std::move(token));
  }
  const auto by_id = [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; };
  std::sort(tokens.begin(), tokens.end(), by_id);
  return tokens;
}

absl::Status AddTokens(const std::vector<AddedToken>& tokens, TokenizerParts* parts) {
  for (const AddedToken& token : tokens) {
    const TokenKind kind = token.special ? TokenKind::kControl : TokenKind::kUserDefined;
    RETURN_IF_ERROR(parts->vocabulary->Add(token.id, token.content, kind));
    parts->added_tokens.push_back(token);
  }
  return absl::OkStatus();
}

absl::Status ApplySideFiles(const SideFiles& side, TokenizerParts* parts) {
  RETURN_IF_ERROR(SetBos(side, parts));
  std::vector<int32_t>& ends = parts->end_ids;
  AddUnique(parts->vocabulary->Find(TokenText(side.tokenizer_config, "eos_token")), *parts, &ends);
  RETURN_IF_ERROR(AddEosIds(side.generation_config, "generation_config.json", *parts, &ends));
  RETURN_IF_ERROR(AddEosIds(side.config, "config.json", *parts, &ends));
  for (const char* text : kEndTokens) AddUnique(FindSpecial(text, *parts), *parts, &ends);
  if (FindSpecial("<|return|>", *parts) < 0) {
    AddUnique(FindSpecial(kEndOfMessage, *parts), *parts, &ends);
  }
  if (!ends.empty()) return absl::OkStatus();
  for (const char* text : kEosTokens) AddUnique(FindSpecial(text, *parts), *parts, &ends);
  return absl::OkStatus();
}

}  // namespace tprun
