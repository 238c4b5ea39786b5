#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tprun {

// A token that is recognised in the text before any splitting, with the fields of tokenizer.json's
// "added_tokens".
struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // control token: only where special tokens are parsed
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;       // and on its right
  bool single_word = false;  // not inside a word
  bool normalized = false;   // looked for after normalisation, not before
};

// Finds added tokens in text: leftmost first, the longest of those that start there.
class AddedTokens {
 public:
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  // Cuts `text` into plain parts, which are given to `plain` (with their offset), and tokens.
  absl::Status Split(
      absl::string_view text, bool parse_special,
      const std::function<absl::Status(absl::string_view part, size_t offset)>& plain,
      const std::function<void(int32_t id)>& token) const;

  // `text` with `mark` after the first character of all tokens that begin in it, also those that
  // overlap; tokens of one character stay.
  std::string Mark(absl::string_view text, absl::string_view mark) const;

 private:
  const AddedToken* FindAt(absl::string_view text, size_t position, bool parse_special) const;

  std::vector<AddedToken> tokens_;                     // in order of content
  std::array<std::pair<int, int>, 256> first_byte_{};  // range of tokens_ by first byte
};

}  // namespace tprun
