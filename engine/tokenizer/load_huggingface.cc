#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/loaders.h"

namespace tprun {
namespace {

constexpr char kMetaspace[] = "\xE2\x96\x81";
using LargeJson = nlohmann::json;
using Pairs = std::vector<std::pair<std::string, std::string>>;

absl::Status Unsupported(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, "; supported is model type BPE, byte-level or with U+2581 for spaces"));
}

absl::Status AddVocabulary(const LargeJson& model, Vocabulary* vocabulary) {
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object()) {
    return absl::InvalidArgumentError("\"model\": wanted an object \"vocab\"");
  }
  for (const auto& [text, id] : vocab->items()) {
    if (!id.is_number_integer()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"vocab\": the id of \"", text, "\" is no integer"));
    }
    RETURN_IF_ERROR(vocabulary->Add(id.get<int64_t>(), text, TokenKind::kNormal));
  }
  return absl::OkStatus();
}

// "left right" or, since tokenizers 0.20, ["left", "right"].
absl::StatusOr<Pairs> ReadMerges(const LargeJson& model) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) {
    return absl::InvalidArgumentError("\"model\": wanted a list \"merges\"");
  }
  Pairs pairs;
  pairs.reserve(merges->size());
  for (const LargeJson& merge : *merges) {
    const bool pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (pair) {
      pairs.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ', 1);
    if (text.empty() || space == std::string::npos || space + 1 == text.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", pairs.size(), ": wanted \"left right\" or [\"left\", \"right\"]"));
    }
    pairs.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return pairs;
}

absl::Status CheckModel(const Json& model) {
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(model, "type", "BPE"));
  if (type != "BPE") return Unsupported(absl::StrCat("model type \"", type, "\""));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::string value, GetStringOr(model, key, ""));
    if (!value.empty()) return Unsupported(absl::StrCat(key, " \"", value, "\""));
  }
  ASSIGN_OR_RETURN(const double dropout, GetDoubleOr(model, "dropout", 0));
  if (dropout != 0) return Unsupported("BPE with dropout");
  return absl::OkStatus();
}

absl::StatusOr<BpeOptions> ReadOptions(const Json& model, const Vocabulary& vocabulary) {
  BpeOptions options;
  ASSIGN_OR_RETURN(options.ignore_merges, GetBoolOr(model, "ignore_merges", false));
  ASSIGN_OR_RETURN(options.byte_fallback, GetBoolOr(model, "byte_fallback", false));
  ASSIGN_OR_RETURN(options.fuse_unknown, GetBoolOr(model, "fuse_unk", false));
  ASSIGN_OR_RETURN(const std::string unknown, GetStringOr(model, "unk_token", ""));
  options.unknown_id = vocabulary.Find(unknown);
  if (!unknown.empty() && options.unknown_id < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("unk_token \"", unknown, "\" is not in the vocabulary"));
  }
  return options;
}

absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(const Json& root) {
  std::vector<AddedToken> tokens;
  const Json* list = FindMember(root, "added_tokens");
  if (list == nullptr) return tokens;
  if (!list->is_array()) return absl::InvalidArgumentError("\"added_tokens\": wanted a list");
  for (const Json& json : *list) {
    ASSIGN_OR_RETURN(const int64_t id, GetInt(json, "id"));
    ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(json, id));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// The ids that a TemplateProcessing puts before the text.
absl::Status AddPrefixIds(const Json& processor, const Vocabulary& vocabulary,
                          std::vector<int32_t>* ids) {
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(processor, "type", ""));
  const Json* list = FindMember(processor, type == "Sequence" ? "processors" : "single");
  if (list == nullptr || !list->is_array()) return absl::OkStatus();
  for (const Json& item : *list) {
    if (type == "Sequence") {
      // Post-processors do not nest in practice, and need not here.
      if (FindMember(item, "processors") == nullptr) {
        RETURN_IF_ERROR(AddPrefixIds(item, vocabulary, ids));
      }
      continue;
    }
    const Json* special = FindMember(item, "SpecialToken");
    if (type != "TemplateProcessing" || special == nullptr) break;  // the text itself
    ASSIGN_OR_RETURN(const std::string text, GetString(*special, "id"));
    const int32_t id = vocabulary.Find(text);
    if (id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("post_processor: \"", text, "\" is not in the vocabulary"));
    }
    ids->push_back(id);
  }
  return absl::OkStatus();
}

// Whether a decoder of this type is the decoder or one of its sequence.
const Json* FindDecoder(const Json& root, absl::string_view type) {
  const Json* decoder = FindMember(root, "decoder");
  if (decoder == nullptr) return nullptr;
  const auto is = [&](const Json& json) {
    const Json* name = FindMember(json, "type");
    return name != nullptr && name->is_string() && name->get<std::string>() == type;
  };
  if (is(*decoder)) return decoder;
  const Json* list = FindMember(*decoder, "decoders");
  if (list == nullptr || !list->is_array()) return nullptr;
  for (const Json& json : *list) {
    if (is(json)) return &json;
  }
  return nullptr;
}

// Token bytes by kind, and whether decoding drops a leading space.
absl::Status SetDecoding(const Json& root, const Normalizer& normalizer,
                         const PreTokenizer& pre_tokenizer, TokenizerParts* parts) {
  if (pre_tokenizer.byte_level() || FindDecoder(root, "ByteLevel") != nullptr) {
    SetByteLevelBytes(parts->vocabulary.get());
    parts->strip_leading_space = pre_tokenizer.prepends_space();
    return absl::OkStatus();
  }
  if (!pre_tokenizer.metaspace() && !normalizer.has_replace_with(kMetaspace)) {
    return Unsupported("neither the pre_tokenizer nor the normalizer says how spaces are written");
  }
  SetMetaspaceBytes(parts->vocabulary.get());
  const bool prepends = normalizer.prepends_space() || pre_tokenizer.prepends_space();
  const bool strips =
      FindDecoder(root, "Strip") != nullptr || FindDecoder(root, "Metaspace") != nullptr;
  parts->strip_leading_space = prepends && strips;
  return absl::OkStatus();
}

// The added tokens that are looked for in normalised text, written as that writes them.
absl::StatusOr<AddedTokens> NormalizedTokens(const std::vector<AddedToken>& tokens,
                                             const Normalizer& normalizer) {
  std::vector<AddedToken> result;
  for (AddedToken token : tokens) {
    if (!token.normalized) continue;
    ASSIGN_OR_RETURN(token.content, normalizer.Apply(token.content));
    result.push_back(std::move(token));
  }
  return AddedTokens(std::move(result));
}

}  // namespace

absl::StatusOr<TokenizerParts> LoadHuggingFace(absl::string_view text) {
  ASSIGN_OR_RETURN(LargeJson json, ParseLargeJson(text));
  if (!json.is_object() || !json.contains("model") || !json["model"].is_object()) {
    return absl::InvalidArgumentError("tokenizer.json: wanted an object with a member \"model\"");
  }
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>();
  LargeJson large_model = std::move(json["model"]);
  json.erase("model");
  const Json root = std::move(json);
  // Only now, when the model has neither vocab nor merges any more, is it copied.
  absl::Status vocabulary = AddVocabulary(large_model, parts.vocabulary.get());
  large_model.erase("vocab");
  absl::StatusOr<Pairs> pairs = ReadMerges(large_model);
  large_model.erase("merges");
  const Json model = std::move(large_model);
  RETURN_IF_ERROR(CheckModel(model));
  RETURN_IF_ERROR(vocabulary);
  RETURN_IF_ERROR(pairs.status());

  ASSIGN_OR_RETURN(const std::vector<AddedToken> added, ReadAddedTokens(root));
  ASSIGN_OR_RETURN(auto merges, PairMerges::Create(*pairs, *parts.vocabulary));
  RETURN_IF_ERROR(AddTokens(added, &parts));
  ASSIGN_OR_RETURN(const BpeOptions options, ReadOptions(model, *parts.vocabulary));
  ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::FromJson(FindMember(root, "normalizer")));
  ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                   PreTokenizer::FromJson(FindMember(root, "pre_tokenizer")));
  const Json* processor = FindMember(root, "post_processor");
  if (processor != nullptr) {
    RETURN_IF_ERROR(AddPrefixIds(*processor, *parts.vocabulary, &parts.prefix_ids));
  }
  RETURN_IF_ERROR(SetDecoding(root, normalizer, pre_tokenizer, &parts));
  ASSIGN_OR_RETURN(AddedTokens normalized, NormalizedTokens(added, normalizer));
  parts.encoder = std::make_unique<BpeSegmentEncoder>(
      std::move(normalizer), std::move(normalized), std::move(pre_tokenizer),
      Bpe(parts.vocabulary, std::move(merges), options));
  return parts;
}

}  // namespace tprun
