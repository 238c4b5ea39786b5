#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

struct Lead {
  int length;            // of the character, 0: no character begins so
  uint8_t second_begin;  // range of the second byte, which excludes overlong forms and surrogates
  uint8_t second_end;
};

Lead ReadLead(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Char ReadUtf8Char(absl::string_view text, size_t position) {
  const Lead lead = ReadLead(static_cast<uint8_t>(text[position]));
  if (lead.length == 0) return {1, false, false};
  for (int i = 1; i < lead.length; ++i) {
    if (position + i >= text.size()) return {i, false, true};
    const uint8_t byte = static_cast<uint8_t>(text[position + i]);
    const uint8_t begin = i == 1 ? lead.second_begin : 0x80;
    const uint8_t end = i == 1 ? lead.second_end : 0xBF;
    if (byte < begin || byte > end) return {i, false, false};
  }
  return {lead.length, true, false};
}

size_t EndOfValidUtf8(absl::string_view text, size_t position) {
  while (position < text.size()) {
    const Utf8Char character = ReadUtf8Char(text, position);
    if (!character.valid) break;
    position += character.length;
  }
  return position;
}

uint32_t FirstCodePoint(absl::string_view text) {
  const uint8_t lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) return lead;
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint32_t code_point = lead & (0x7F >> length);
  for (int i = 1; i < length; ++i) {
    code_point = (code_point << 6) | (static_cast<uint8_t>(text[i]) & 0x3F);
  }
  return code_point;
}

void AppendUtf8(uint32_t code_point, std::string* text) {
  const auto tail = [&](int shift) {
    text->push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    text->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    text->push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    tail(0);
  } else if (code_point < 0x10000) {
    text->push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    tail(6);
    tail(0);
  } else {
    text->push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

}  // namespace tprun
