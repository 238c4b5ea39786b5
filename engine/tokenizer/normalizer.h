#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/json.h"

namespace tprun {

// What is done to text before it is split: a list of steps, each from string to string.
class Normalizer {
 public:
  // tokenizer.json's "normalizer": null, Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace (of a
  // string). InvalidArgument for other kinds.
  static absl::StatusOr<Normalizer> FromJson(const Json* json);

  void AddPrepend(absl::string_view text);  // not to empty text
  void AddReplace(absl::string_view from, absl::string_view to);
  void AddNfc();
  // SentencePiece's remove_extra_whitespaces: no spaces at either end, runs become one.
  void AddCollapseSpaces();

  // Bytes that are not UTF-8 are kept.
  absl::StatusOr<std::string> Apply(absl::string_view text) const;
  bool prepends_space() const;  // as a space or U+2581
  bool has_replace_with(absl::string_view text) const;

 private:
  enum class Kind { kPrepend, kReplace, kUnicode, kCollapseSpaces };
  struct Step {
    Kind kind;
    std::string from;
    std::string to;
    int unicode_options = 0;  // utf8proc's
  };

  absl::Status AddJson(const Json& json, int depth);

  std::vector<Step> steps_;
};

}  // namespace tprun
