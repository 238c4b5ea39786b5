#include "engine/tokenizer/sentencepiece_proto.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// One field of a protobuf message: `value` of a varint or of a 32-bit number, or `bytes`.
struct Field {
  int number = 0;
  uint64_t value = 0;
  absl::string_view bytes;
};

// Reads the wire format (protobuf.dev/programming-guides/encoding), without groups.
class FieldReader {
 public:
  explicit FieldReader(absl::string_view data) : data_(data) {}

  bool done() const { return position_ >= data_.size(); }

  absl::StatusOr<Field> Next() {
    ASSIGN_OR_RETURN(const uint64_t key, Varint());
    Field field;
    field.number = static_cast<int>(std::min<uint64_t>(key >> 3, 1 << 29));
    switch (key & 7) {
      case 0: {
        ASSIGN_OR_RETURN(field.value, Varint());
        return field;
      }
      case 1: {
        ASSIGN_OR_RETURN(field.bytes, Bytes(8));
        return field;
      }
      case 2: {
        ASSIGN_OR_RETURN(const uint64_t size, Varint());
        ASSIGN_OR_RETURN(field.bytes, Bytes(size));
        return field;
      }
      case 5: {
        ASSIGN_OR_RETURN(field.bytes, Bytes(4));
        for (int i = 3; i >= 0; --i) {
          field.value = (field.value << 8) | static_cast<uint8_t>(field.bytes[i]);
        }
        return field;
      }
      default:
        return Malformed("unknown wire type");
    }
  }

 private:
  absl::Status Malformed(absl::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("SentencePiece model at byte ", position_, " of ", data_.size(), ": ", what));
  }

  absl::StatusOr<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (done()) return Malformed("the data end inside a number");
      const uint8_t byte = static_cast<uint8_t>(data_[position_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return Malformed("a number longer than 64 bits");
  }

  absl::StatusOr<absl::string_view> Bytes(uint64_t size) {
    if (size > data_.size() - position_) {
      return Malformed(absl::StrCat("a field of ", size, " bytes, but the data end before it"));
    }
    const absl::string_view bytes = data_.substr(position_, size);
    position_ += size;
    return bytes;
  }

  absl::string_view data_;
  size_t position_ = 0;
};

absl::Status ReadPiece(absl::string_view message, SentencePieceModel* model) {
  SentencePieceModel::Piece piece;
  for (FieldReader reader(message); !reader.done();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == 1) piece.text = std::string(field.bytes);
    if (field.number == 2) {
      const uint32_t bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof(bits));
    }
    if (field.number == 3) {
      if (field.value < 1 || field.value > 6) {
        return absl::InvalidArgumentError(absl::StrCat("SentencePiece model: piece ",
                                                       model->pieces.size(), " has unknown type ",
                                                       field.value));
      }
      piece.kind = static_cast<TokenKind>(field.value);
    }
  }
  if (piece.text.empty() || !std::isfinite(piece.score)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "SentencePiece model: piece ", model->pieces.size(), " is empty or has no finite score"));
  }
  if (model->pieces.size() >= Vocabulary::kMaxSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("SentencePiece model: more than ", Vocabulary::kMaxSize, " pieces"));
  }
  model->pieces.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status ReadTrainerSpec(absl::string_view message, SentencePieceModel* model) {
  for (FieldReader reader(message); !reader.done();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == 3) {
      if (field.value < 1 || field.value > 4) {
        return absl::InvalidArgumentError(
            absl::StrCat("SentencePiece model: unknown model type ", field.value));
      }
      model->type = static_cast<SentencePieceModel::Type>(field.value);
    }
    if (field.number == 24) model->treat_whitespace_as_suffix = field.value != 0;
    if (field.number == 35) model->byte_fallback = field.value != 0;
    if (field.number == 41) model->bos_id = static_cast<int32_t>(field.value);
    if (field.number == 42) model->eos_id = static_cast<int32_t>(field.value);
  }
  return absl::OkStatus();
}

absl::Status ReadNormalizerSpec(absl::string_view message, SentencePieceModel* model) {
  for (FieldReader reader(message); !reader.done();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == 2) model->has_charsmap = !field.bytes.empty();
    if (field.number == 3) model->add_dummy_prefix = field.value != 0;
    if (field.number == 4) model->remove_extra_whitespaces = field.value != 0;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(absl::string_view bytes) {
  SentencePieceModel model;
  for (FieldReader reader(bytes); !reader.done();) {
    ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == 1) RETURN_IF_ERROR(ReadPiece(field.bytes, &model));
    if (field.number == 2) RETURN_IF_ERROR(ReadTrainerSpec(field.bytes, &model));
    if (field.number == 3) RETURN_IF_ERROR(ReadNormalizerSpec(field.bytes, &model));
  }
  if (model.pieces.empty()) {
    return absl::InvalidArgumentError("SentencePiece model: no pieces");
  }
  return model;
}

bool LooksLikeSentencePiece(absl::string_view bytes) {
  // Field 1 of length n, whose first field is the piece's text.
  return bytes.size() > 3 && bytes[0] == '\n' && bytes[2] == '\n';
}

}  // namespace tprun
