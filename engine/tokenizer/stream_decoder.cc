#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD

// Takes whole characters from the front of `pending`; what can never become one is U+FFFD.
std::string TakeWhole(std::string* pending) {
  std::string text;
  size_t position = 0;
  while (position < pending->size()) {
    const Utf8Char character = ReadUtf8Char(*pending, position);
    if (character.truncated) break;
    if (character.valid) text.append(*pending, position, character.length);
    if (!character.valid) text += kReplacement;
    position += character.length;
  }
  pending->erase(0, position);
  return text;
}

}  // namespace

std::string StreamDecoder::Push(int32_t id) {
  const std::string bytes = tokenizer_.TokenBytes(id);
  // Decode of a first token knows whether its space was put there by encoding.
  pending_ += first_ ? tokenizer_.Decode({&id, 1}) : bytes;
  if (!bytes.empty()) first_ = false;
  return TakeWhole(&pending_);
}

std::string StreamDecoder::Finish() {
  std::string text = TakeWhole(&pending_);
  if (!pending_.empty()) text += kReplacement;
  pending_.clear();
  return text;
}

}  // namespace tprun
