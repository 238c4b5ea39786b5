#include "engine/tokenizer/text_tokenizer.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// Offsets are 32 bit, and normalisation and the byte alphabet make text up to three times longer.
constexpr size_t kMaxTextBytes = size_t{256} << 20;

template <class Wanted>
AddedTokens Those(const std::vector<AddedToken>& tokens, const Wanted& wanted) {
  std::vector<AddedToken> result;
  for (const AddedToken& token : tokens) {
    if (wanted(token)) result.push_back(token);
  }
  return AddedTokens(std::move(result));
}

}  // namespace

absl::string_view WithoutMark(absl::string_view text, absl::string_view mark, std::string* kept) {
  if (mark.empty() || !absl::StrContains(text, mark)) return text;
  return *kept = absl::StrReplaceAll(text, {{mark, ""}});
}

absl::Status BpeSegmentEncoder::Encode(absl::string_view segment, bool starts_text,
                                       const EncodeOptions& options,
                                       std::vector<int32_t>* ids) const {
  ASSIGN_OR_RETURN(const std::string normalized, normalizer_.Apply(segment));
  const auto plain = [&](absl::string_view part, size_t offset) {
    std::string kept;
    ASSIGN_OR_RETURN(
        const PreTokens tokens,
        pre_tokenizer_.Apply(WithoutMark(part, options.mark, &kept), starts_text && offset == 0));
    for (const auto& [begin, end] : tokens.pieces) {
      const absl::string_view piece = absl::string_view(tokens.text).substr(begin, end - begin);
      RETURN_IF_ERROR(bpe_.Encode(piece, ids));
    }
    return absl::OkStatus();
  };
  return normalized_tokens_.Split(normalized, options.parse_special, plain,
                                  [&](int32_t id) { ids->push_back(id); });
}

TextTokenizer::TextTokenizer(TokenizerParts parts)
    : parts_(std::move(parts)),
      raw_tokens_(Those(parts_.added_tokens, [](const auto& token) { return !token.normalized; })),
      special_tokens_(Those(parts_.added_tokens, [](const auto& token) { return token.special; })) {
}

absl::StatusOr<std::vector<int32_t>> TextTokenizer::Encode(absl::string_view text,
                                                           const EncodeOptions& options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("text of ", text.size(), " bytes; at most ",
                                                   kMaxTextBytes, " can be encoded at once"));
  }
  std::vector<int32_t> ids;
  if (options.add_bos) ids = parts_.prefix_ids;
  const auto plain = [&](absl::string_view part, size_t offset) {
    return parts_.encoder->Encode(part, offset == 0, options, &ids);
  };
  RETURN_IF_ERROR(raw_tokens_.Split(text, options.parse_special, plain,
                                    [&](int32_t id) { ids.push_back(id); }));
  return ids;
}

std::string TextTokenizer::MarkSpecial(absl::string_view text, absl::string_view mark) const {
  return special_tokens_.Mark(text, mark);
}

std::string TextTokenizer::TokenBytes(int32_t id) const {
  return parts_.vocabulary->Contains(id) ? (*parts_.vocabulary)[id].bytes : "";
}

std::string TextTokenizer::Decode(absl::Span<const int32_t> ids) const {
  std::string text;
  for (int32_t id : ids) {
    if (parts_.vocabulary->Contains(id)) text += (*parts_.vocabulary)[id].bytes;
  }
  const bool strip = parts_.strip_leading_space && !text.empty() && text[0] == ' ';
  return strip ? text.substr(1) : text;
}

}  // namespace tprun
