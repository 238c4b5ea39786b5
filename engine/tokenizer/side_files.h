#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/tokenizer/text_tokenizer.h"

namespace tprun {

// What stands beside a vocabulary file; an object without members where a file is missing.
struct SideFiles {
  Json tokenizer_config = Json::object();
  Json generation_config = Json::object();
  Json config = Json::object();
};

// Reads tokenizer_config.json and generation_config.json of a folder.
absl::StatusOr<SideFiles> ReadSideFiles(const std::string& directory, const Json& config);

// JSON for large objects: Json looks for a key among all before it, which is quadratic for a
// vocabulary. InvalidArgument as ParseJson.
absl::StatusOr<nlohmann::json> ParseLargeJson(absl::string_view text);

// tokenizer_config.json's "added_tokens_decoder" ({"128000": {"content": ...}}), in order of ids.
absl::StatusOr<std::vector<AddedToken>> AddedTokensOf(const SideFiles& side);
absl::StatusOr<AddedToken> ParseAddedToken(const Json& json, int64_t id);
// Puts them into the vocabulary and among the parts' added tokens, unless they are there.
absl::Status AddTokens(const std::vector<AddedToken>& tokens, TokenizerParts* parts);

// BOS: tokenizer_config's bos_token, else what the vocabulary's file said, else generation_config's
// or config's bos_token_id. In front of a text if tokenizer_config's add_bos_token says so, or,
// where that is absent, if the vocabulary's file does.
// Ends: the eos of tokenizer_config, generation_config and config, and well-known end-of-turn
// tokens of the vocabulary (<|eot_id|>, <|im_end|>, <end_of_turn>, ...).
absl::Status ApplySideFiles(const SideFiles& side, TokenizerParts* parts);

}  // namespace tprun
