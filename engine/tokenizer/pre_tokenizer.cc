#include "engine/tokenizer/pre_tokenizer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/regex.h"

namespace tprun {
namespace {

constexpr int kMaxDepth = 16;
using Range = PreTokens::Range;

struct Part {
  Range range;
  bool match;
};

// Hugging Face tokenizers: NormalizedString::split. `parts` cover the text without gaps.
std::vector<Range> JoinParts(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Range> result;
  const auto add = [&](const Part& part, bool extend) {
    if (extend && !result.empty()) {
      result.back().begin = std::min(result.back().begin, part.range.begin);
      result.back().end = std::max(result.back().end, part.range.end);
    } else {
      result.push_back(part.range);
    }
  };
  bool previous = false;
  if (behavior == SplitBehavior::kMergedWithNext) {
    for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
      add(*part, part->match && !previous);
      previous = part->match;
    }
    std::reverse(result.begin(), result.end());
    return result;
  }
  for (const Part& part : parts) {
    if (behavior == SplitBehavior::kRemoved && part.match) continue;
    const bool joins = behavior == SplitBehavior::kMergedWithPrevious && part.match && !previous;
    const bool continues = behavior == SplitBehavior::kContiguous && part.match == previous;
    add(part, joins || continues);
    previous = part.match;
  }
  return result;
}

class SplitStep : public PreTokenizerStep {
 public:
  SplitStep(std::unique_ptr<Regex> regex, SplitBehavior behavior, bool invert)
      : regex_(std::move(regex)), behavior_(behavior), invert_(invert) {}

  absl::Status Apply(PreTokens* tokens) const override {
    std::vector<Range> pieces;
    for (const Range& piece : tokens->pieces) {
      const absl::string_view text =
          absl::string_view(tokens->text).substr(piece.begin, piece.end - piece.begin);
      std::vector<Part> parts;
      size_t done = 0;
      const auto found = [&](size_t begin, size_t end) {
        if (begin > done) parts.push_back({{done, begin}, invert_});
        parts.push_back({{begin, end}, !invert_});
        done = end;
      };
      RETURN_IF_ERROR(regex_->ForEachMatch(text, found));
      if (done < text.size()) parts.push_back({{done, text.size()}, invert_});
      for (const Range& range : JoinParts(parts, behavior_)) {
        if (range.begin == range.end) continue;
        pieces.push_back({piece.begin + range.begin, piece.begin + range.end});
      }
    }
    tokens->pieces = std::move(pieces);
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<Regex> regex_;
  SplitBehavior behavior_;
  bool invert_;
};

// Rewrites every piece by itself.
template <typename Rewrite>
void RewritePieces(PreTokens* tokens, const Rewrite& rewrite) {
  std::string text;
  for (Range& piece : tokens->pieces) {
    const size_t begin = text.size();
    text += rewrite(absl::string_view(tokens->text).substr(piece.begin, piece.end - piece.begin),
                    piece.begin == 0 && tokens->starts_text);
    piece = {begin, text.size()};
  }
  tokens->text = std::move(text);
}

class PrefixSpaceStep : public PreTokenizerStep {
 public:
  absl::Status Apply(PreTokens* tokens) const override {
    RewritePieces(tokens, [](absl::string_view piece, bool) {
      return absl::StrCat(piece.front() == ' ' ? "" : " ", piece);
    });
    return absl::OkStatus();
  }
};

class ByteAlphabetStep : public PreTokenizerStep {
 public:
  absl::Status Apply(PreTokens* tokens) const override {
    RewritePieces(tokens, [](absl::string_view piece, bool) { return BytesToByteLevel(piece); });
    return absl::OkStatus();
  }
};

enum class PrependScheme { kAlways, kFirst, kNever };

class MetaspaceStep : public PreTokenizerStep {
 public:
  MetaspaceStep(std::string replacement, PrependScheme scheme)
      : replacement_(std::move(replacement)), scheme_(scheme) {}

  absl::Status Apply(PreTokens* tokens) const override {
    RewritePieces(tokens, [&](absl::string_view piece, bool first) {
      std::string text = absl::StrReplaceAll(piece, {{" ", replacement_}});
      const bool wanted =
          scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && first);
      const bool there = absl::string_view(text).substr(0, replacement_.size()) == replacement_;
      return wanted && !there ? absl::StrCat(replacement_, text) : text;
    });
    return absl::OkStatus();
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
};

absl::StatusOr<SplitBehavior> ParseBehavior(absl::string_view name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(absl::StrCat("pre_tokenizer: unknown behavior \"", name, "\""));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizerStep>> MakeSplitStep(absl::string_view pattern,
                                                                SplitBehavior behavior,
                                                                bool invert) {
  ASSIGN_OR_RETURN(std::unique_ptr<Regex> regex, Regex::Compile(pattern));
  return std::unique_ptr<PreTokenizerStep>(new SplitStep(std::move(regex), behavior, invert));
}

absl::Status PreTokenizer::AddPattern(absl::string_view pattern, SplitBehavior behavior,
                                      bool invert) {
  ASSIGN_OR_RETURN(auto step, MakeSplitStep(pattern, behavior, invert));
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

void PreTokenizer::AddByteLevel(bool add_prefix_space) {
  if (add_prefix_space) steps_.push_back(std::make_unique<PrefixSpaceStep>());
  prepends_space_ |= add_prefix_space;
  byte_level_ = true;
}

absl::StatusOr<PreTokenizer> PreTokenizer::FromPatterns(const std::vector<std::string>& patterns) {
  PreTokenizer result;
  for (const std::string& pattern : patterns) {
    RETURN_IF_ERROR(result.AddPattern(pattern, SplitBehavior::kIsolated));
  }
  result.AddByteLevel(/*add_prefix_space=*/false);
  result.steps_.push_back(std::make_unique<ByteAlphabetStep>());
  return result;
}

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const Json* json) {
  PreTokenizer result;
  if (json != nullptr) RETURN_IF_ERROR(result.AddJson(*json, 0));
  return result;
}

absl::Status PreTokenizer::AddJson(const Json& json, int depth) {
  ASSIGN_OR_RETURN(const std::string type, GetString(json, "type"));
  if (type == "Sequence") {
    const Json* list = FindMember(json, "pretokenizers");
    if (list == nullptr || !list->is_array() || depth > kMaxDepth) {
      return absl::InvalidArgumentError("pre_tokenizer Sequence: wanted a list \"pretokenizers\"");
    }
    for (const Json& step : *list) RETURN_IF_ERROR(AddJson(step, depth + 1));
    return absl::OkStatus();
  }
  if (type == "Split") return AddSplitJson(json);
  if (type == "Metaspace") return AddMetaspaceJson(json);
  if (type == "ByteLevel") {
    ASSIGN_OR_RETURN(const bool add_prefix_space, GetBoolOr(json, "add_prefix_space", true));
    ASSIGN_OR_RETURN(const bool use_regex, GetBoolOr(json, "use_regex", true));
    AddByteLevel(add_prefix_space);
    if (use_regex) RETURN_IF_ERROR(AddPattern(kGpt2Pattern, SplitBehavior::kIsolated));
    steps_.push_back(std::make_unique<ByteAlphabetStep>());
    return absl::OkStatus();
  }
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, GetBoolOr(json, "individual_digits", false));
    return AddPattern(individual ? "\\p{N}" : "\\p{N}+", SplitBehavior::kIsolated);
  }
  if (type == "Punctuation") {
    ASSIGN_OR_RETURN(const std::string name, GetStringOr(json, "behavior", "Isolated"));
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(name));
    return AddPattern("[\\p{P}!-/:-@\\[-`{-~]", behavior);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "pre_tokenizer \"", type, "\" is not supported; supported are Sequence, Split, ByteLevel, ",
      "Metaspace, Digits, Punctuation"));
}

absl::Status PreTokenizer::AddSplitJson(const Json& json) {
  const Json* pattern = FindMember(json, "pattern");
  if (pattern == nullptr) return absl::InvalidArgumentError("pre_tokenizer Split has no pattern");
  std::string regex;
  if (FindMember(*pattern, "Regex") != nullptr) {
    ASSIGN_OR_RETURN(regex, GetString(*pattern, "Regex"));
  } else {
    ASSIGN_OR_RETURN(const std::string text, GetString(*pattern, "String"));
    regex = QuoteRegex(text);
  }
  ASSIGN_OR_RETURN(const std::string name, GetString(json, "behavior"));
  ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(name));
  ASSIGN_OR_RETURN(const bool invert, GetBoolOr(json, "invert", false));
  return AddPattern(regex, behavior, invert);
}

absl::Status PreTokenizer::AddMetaspaceJson(const Json& json) {
  ASSIGN_OR_RETURN(const std::string replacement, GetStringOr(json, "replacement", "\xE2\x96\x81"));
  // Before prepend_scheme there was add_prefix_space.
  ASSIGN_OR_RETURN(const bool add_prefix_space, GetBoolOr(json, "add_prefix_space", true));
  ASSIGN_OR_RETURN(const std::string scheme,
                   GetStringOr(json, "prepend_scheme", add_prefix_space ? "always" : "never"));
  ASSIGN_OR_RETURN(const bool split, GetBoolOr(json, "split", true));
  const bool known = scheme == "always" || scheme == "first" || scheme == "never";
  if (!known || replacement != "\xE2\x96\x81") {
    return absl::InvalidArgumentError(absl::StrCat(
        "pre_tokenizer Metaspace: replacement \"", replacement, "\", prepend_scheme \"", scheme,
        "\"; supported are U+2581 and always, first or never"));
  }
  metaspace_ = true;
  prepends_space_ |= scheme != "never";
  steps_.push_back(
      std::make_unique<MetaspaceStep>(replacement, scheme == "always"  ? PrependScheme::kAlways
                                                   : scheme == "first" ? PrependScheme::kFirst
                                                                       : PrependScheme::kNever));
  if (!split) return absl::OkStatus();
  return AddPattern(QuoteRegex(replacement), SplitBehavior::kMergedWithNext);
}

absl::StatusOr<PreTokens> PreTokenizer::Apply(absl::string_view text, bool starts_text) const {
  PreTokens tokens;
  tokens.text = std::string(text);
  tokens.starts_text = starts_text;
  if (!text.empty()) tokens.pieces.push_back({0, text.size()});
  for (const auto& step : steps_) RETURN_IF_ERROR(step->Apply(&tokens));
  return tokens;
}

}  // namespace tprun
