#include "engine/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

constexpr int kShiftedBytes = 68;

constexpr bool IsPrintable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, 256 + kShiftedBytes> byte{};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (auto& byte : alphabet.byte) byte = -1;
  int shifted = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = IsPrintable(byte) ? byte : 256 + shifted++;
    alphabet.character[byte] = static_cast<uint16_t>(character);
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string BytesToByteLevel(absl::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 2);
  for (char byte : bytes) AppendUtf8(kAlphabet.character[static_cast<uint8_t>(byte)], &text);
  return text;
}

std::string ByteLevelToBytes(absl::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Char character = ReadUtf8Char(text, i);
    const absl::string_view view = text.substr(i, character.length);
    const uint32_t code_point = character.valid ? FirstCodePoint(view) : 0xFFFFFF;
    if (code_point < kAlphabet.byte.size() && kAlphabet.byte[code_point] >= 0) {
      bytes.push_back(static_cast<char>(kAlphabet.byte[code_point]));
    } else {
      bytes.append(view.data(), view.size());
    }
    i += character.length;
  }
  return bytes;
}

}  // namespace tprun
