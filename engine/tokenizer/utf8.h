#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tprun {

// One character of UTF-8 text, or the longest run of bytes that began like one (RFC 3629: no
// surrogates, no overlong forms).
struct Utf8Char {
  int length = 1;          // bytes, at least 1
  bool valid = false;      // a whole character
  bool truncated = false;  // the text ended inside it
};
Utf8Char ReadUtf8Char(absl::string_view text, size_t position);

// The end of the longest valid UTF-8 that starts at `position`.
size_t EndOfValidUtf8(absl::string_view text, size_t position);

// The code point of the whole character at the front of `text`.
uint32_t FirstCodePoint(absl::string_view text);

void AppendUtf8(uint32_t code_point, std::string* text);

}  // namespace tprun
