#include "engine/checkpoint/gguf_value.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/checkpoint/messages.h"

namespace tprun {
namespace {

constexpr uint64_t kMaxPairs = 1 << 16;
constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxStringBytes = 128 * kMiB;  // tokenizer.huggingface.json is tens of MiB
// Of all arrays together; the largest vocabularies need about 2 million. Bounds what a small file
// can make us allocate (an element of JSON is 16 bytes and up, a string 64).
constexpr uint64_t kMaxArrayElements = 1 << 22;
constexpr int kMaxArrayDepth = 4;

enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Fewest bytes a value of the type takes in the file; 0: there is no such type.
uint64_t SmallestBytes(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
    case kString:
      return 8;
    case kArray:
      return 12;
    default:
      return 0;
  }
}

class ValueReader {
 public:
  ValueReader(ByteReader& reader, const std::string& path, std::string key)
      : reader_(reader), path_(path), key_(std::move(key)) {}

  absl::StatusOr<Json> Read(uint64_t& elements_left) {
    ASSIGN_OR_RETURN(uint32_t type, ReadType());
    return ReadValue(type, 0, elements_left);
  }

 private:
  absl::Status Error(const std::string& wanted, const std::string& found) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": metadata key ", Quoted(key_),
                                                   ": wanted ", wanted, ", found ", found));
  }

  absl::StatusOr<uint32_t> ReadType() {
    ASSIGN_OR_RETURN(uint32_t type, reader_.Read<uint32_t>("the type of a metadata value"));
    if (SmallestBytes(type) == 0) return Error("a value type from 0 to 12", absl::StrCat(type));
    return type;
  }

  template <typename T>
  absl::StatusOr<Json> ReadNumber() {
    ASSIGN_OR_RETURN(T value, reader_.Read<T>("a metadata value"));
    return Json(value);
  }

  absl::StatusOr<Json> ReadBool() {
    ASSIGN_OR_RETURN(uint8_t value, reader_.Read<uint8_t>("a metadata value"));
    if (value > 1) return Error("a bool of 0 or 1", absl::StrCat(value));
    return Json(value == 1);
  }

  absl::StatusOr<Json> ReadText() {
    ASSIGN_OR_RETURN(std::string text,
                     ReadGgufString(reader_, path_, kMaxStringBytes, "a metadata string"));
    return Json(std::move(text));
  }

  absl::StatusOr<Json> ReadArray(int depth, uint64_t& elements_left) {
    if (depth >= kMaxArrayDepth) {
      return Error(absl::StrCat("arrays nested at most ", kMaxArrayDepth, " deep"), "more");
    }
    ASSIGN_OR_RETURN(uint32_t type, ReadType());
    ASSIGN_OR_RETURN(uint64_t count, reader_.Read<uint64_t>("the length of a metadata array"));
    RETURN_IF_ERROR(reader_.Expect(count, SmallestBytes(type),
                                   absl::StrCat("the array of metadata key ", Quoted(key_))));
    if (count > elements_left) {
      return Error(absl::StrCat("at most ", kMaxArrayElements, " array elements in a header"),
                   "more");
    }
    elements_left -= count;
    Json::array_t array;
    array.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(Json value, ReadValue(type, depth + 1, elements_left));
      array.push_back(std::move(value));
    }
    return Json(std::move(array));
  }

  absl::StatusOr<Json> ReadValue(uint32_t type, int depth, uint64_t& elements_left) {
    switch (type) {
      case kUint8:
        return ReadNumber<uint8_t>();
      case kInt8:
        return ReadNumber<int8_t>();
      case kUint16:
        return ReadNumber<uint16_t>();
      case kInt16:
        return ReadNumber<int16_t>();
      case kUint32:
        return ReadNumber<uint32_t>();
      case kInt32:
        return ReadNumber<int32_t>();
      case kFloat32:
        return ReadNumber<float>();
      case kBool:
        return ReadBool();
      case kString:
        return ReadText();
      case kArray:
        return ReadArray(depth, elements_left);
      case kUint64:
        return ReadNumber<uint64_t>();
      case kInt64:
        return ReadNumber<int64_t>();
      default:
        return ReadNumber<double>();
    }
  }

  ByteReader& reader_;
  const std::string& path_;
  std::string key_;
};

}  // namespace

absl::StatusOr<std::string> ReadGgufString(ByteReader& reader, const std::string& path,
                                           uint64_t longest, absl::string_view what) {
  const int64_t position = reader.position();
  // Millions of strings are read: the text of an error is only made for one.
  if (reader.remaining() < static_cast<int64_t>(sizeof(uint64_t))) {
    return reader.Read<uint64_t>(absl::StrCat("the length of ", what)).status();
  }
  ASSIGN_OR_RETURN(uint64_t length, reader.Read<uint64_t>(what));
  if (length > longest) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", what, " of at most ", longest,
                                                   " bytes at offset ", position, ", found length ",
                                                   length));
  }
  return reader.ReadString(length, what);
}

absl::StatusOr<Json> ReadGgufMetadata(ByteReader& reader, const std::string& path, uint64_t count) {
  constexpr uint64_t kSmallestPair = 8 + 1 + 4 + 1;
  RETURN_IF_ERROR(reader.Expect(count, kSmallestPair, "metadata pairs"));
  if (count > kMaxPairs) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": wanted at most ", kMaxPairs, " metadata pairs, found ", count));
  }
  // Appended to the vector behind the object: its operator[] searches from the front.
  Json::object_t metadata;
  std::set<std::string> keys;
  uint64_t elements_left = kMaxArrayElements;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(std::string key, ReadGgufString(reader, path, kMaxKeyBytes, "a metadata key"));
    if (!keys.insert(key).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": wanted every metadata key once, found ", Quoted(key), " again"));
    }
    ASSIGN_OR_RETURN(Json value, ValueReader(reader, path, key).Read(elements_left));
    metadata.push_back({std::move(key), std::move(value)});
  }
  return Json(std::move(metadata));
}

}  // namespace tprun
