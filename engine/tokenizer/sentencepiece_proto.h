#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/vocabulary.h"

namespace tprun {

// What a SentencePiece model file holds (google/sentencepiece: sentencepiece_model.proto).
struct SentencePieceModel {
  struct Piece {
    std::string text;
    float score = 0;
    TokenKind kind = TokenKind::kNormal;
  };
  enum class Type { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

  std::vector<Piece> pieces;
  Type type = Type::kUnigram;
  bool byte_fallback = false;
  bool has_charsmap = false;  // normalises by a table of its own (nmt_nfkc)
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  int32_t bos_id = 1;
  int32_t eos_id = 2;
};

// InvalidArgument when `bytes` is no such file or is cut short.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(absl::string_view bytes);

// Whether a file begins like one (a first field "pieces").
bool LooksLikeSentencePiece(absl::string_view bytes);

}  // namespace tprun
