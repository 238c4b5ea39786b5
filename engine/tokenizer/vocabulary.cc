#include "engine/tokenizer/vocabulary.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "engine/tokenizer/byte_level.h"

namespace tprun {
namespace {

// What an unknown piece decodes to, SentencePiece's default (" \u2047 ").
constexpr char kUnknownSurface[] = " \xE2\x81\x87 ";

// The byte of "<0xNN>", -1 when `text` is nothing of the kind.
int ParseBytePiece(absl::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (char c : text.substr(3, 2)) {
    if (!absl::ascii_isxdigit(c)) return -1;
    value = value * 16 + (absl::ascii_isdigit(c) ? c - '0' : absl::ascii_tolower(c) - 'a' + 10);
  }
  return value;
}

std::string MetaspaceBytes(const Token& token) {
  switch (token.kind) {
    case TokenKind::kControl:
      return "";
    case TokenKind::kUnknown:
      return kUnknownSurface;
    case TokenKind::kByte: {
      const int byte = ParseBytePiece(token.text);
      return byte < 0 ? token.text : std::string(1, static_cast<char>(byte));
    }
    default:
      return absl::StrReplaceAll(token.text, {{"\xE2\x96\x81", " "}});
  }
}

}  // namespace

absl::Status Vocabulary::Add(int64_t id, absl::string_view text, TokenKind kind) {
  if (id < 0 || id >= kMaxSize) {
    return absl::InvalidArgumentError(absl::StrCat("token \"", absl::CHexEscape(text), "\" has id ",
                                                   id, "; ids must lie in 0 to ", kMaxSize - 1));
  }
  if (id >= size()) tokens_.resize(id + 1);
  Token& token = tokens_[id];
  const bool taken = !token.text.empty() && token.text != text;
  if (taken) {
    return absl::InvalidArgumentError(absl::StrCat("id ", id, " belongs to two tokens, \"",
                                                   absl::CHexEscape(token.text), "\" and \"",
                                                   absl::CHexEscape(text), "\""));
  }
  token.text = std::string(text);
  token.kind = kind;
  ids_.emplace(text, static_cast<int32_t>(id));
  max_text_size_ = std::max(max_text_size_, text.size());
  return absl::OkStatus();
}

int32_t Vocabulary::Find(absl::string_view text) const {
  const auto it = ids_.find(text);
  return it == ids_.end() ? -1 : it->second;
}

int32_t Vocabulary::FindByte(uint8_t byte) const { return Find(absl::StrFormat("<0x%02X>", byte)); }

void SetByteLevelBytes(Vocabulary* vocabulary) {
  for (int32_t id = 0; id < vocabulary->size(); ++id) {
    Token& token = (*vocabulary)[id];
    const bool plain = token.kind == TokenKind::kNormal || token.kind == TokenKind::kUnused;
    if (token.kind == TokenKind::kUserDefined) token.bytes = token.text;
    if (plain) token.bytes = ByteLevelToBytes(token.text);
  }
}

void SetMetaspaceBytes(Vocabulary* vocabulary) {
  for (int32_t id = 0; id < vocabulary->size(); ++id) {
    Token& token = (*vocabulary)[id];
    // tokenizer.json does not mark byte pieces.
    const bool unmarked = token.kind == TokenKind::kNormal && ParseBytePiece(token.text) >= 0;
    if (unmarked) token.kind = TokenKind::kByte;
    token.bytes = MetaspaceBytes(token);
  }
}

}  // namespace tprun
