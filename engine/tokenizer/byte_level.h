#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace tprun {

// GPT-2's byte alphabet (openai/gpt-2: src/encoder.py, bytes_to_unicode): each byte as a printable
// character, so that any bytes are text. 33-126, 161-172 and 174-255 are themselves, the other 68
// in order U+0100, U+0101, ...
std::string BytesToByteLevel(absl::string_view bytes);

// The inverse. A character outside the alphabet stays as it is.
std::string ByteLevelToBytes(absl::string_view text);

}  // namespace tprun
