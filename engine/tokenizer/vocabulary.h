#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Numbered as in SentencePiece's models and in GGUF's tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct Token {
  std::string text;   // as the vocabulary writes it: "\u2581the", "\u0120the", "<0x0A>"
  std::string bytes;  // what it adds to decoded text
  TokenKind kind = TokenKind::kUnused;
};

// Tokens by id and by text. Ids may have gaps; a gap is an unused token without text.
class Vocabulary {
 public:
  // Ids at or above this are refused, so that a bad file cannot make us allocate without end.
  static constexpr int32_t kMaxSize = 1 << 21;

  // InvalidArgument for an id out of range or taken by another text. Of two ids with one text, the
  // text finds the first.
  absl::Status Add(int64_t id, absl::string_view text, TokenKind kind);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  bool Contains(int64_t id) const { return id >= 0 && id < size(); }
  const Token& operator[](int32_t id) const { return tokens_[id]; }
  Token& operator[](int32_t id) { return tokens_[id]; }
  // -1 when there is none.
  int32_t Find(absl::string_view text) const;
  // The id of the byte piece "<0xNN>", -1 when there is none.
  int32_t FindByte(uint8_t byte) const;
  // Bytes of the longest token text.
  size_t max_text_size() const { return max_text_size_; }

 private:
  std::vector<Token> tokens_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  size_t max_text_size_ = 0;
};

// Fills Token::bytes from the byte-level alphabet; added tokens stand for their own text.
void SetByteLevelBytes(Vocabulary* vocabulary);
// Fills Token::bytes of SentencePiece-like pieces: U+2581 is a space, "<0xNN>" a byte.
void SetMetaspaceBytes(Vocabulary* vocabulary);

}  // namespace tprun
