#include "engine/checkpoint/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "engine/checkpoint/byte_reader.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/tensor_layout.h"

namespace tprun {
namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // as upstream
constexpr size_t kMaxDimensions = 32;

// Bits per element of the dtypes of safetensors 0.6; 0: unknown.
int64_t BitsOf(absl::string_view dtype) {
  static constexpr std::pair<absl::string_view, int64_t> kBits[] = {
      {"BOOL", 8},    {"U8", 8},   {"I8", 8},   {"F8_E4M3", 8}, {"F8_E5M2", 8},
      {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16},    {"BF16", 16},
      {"I32", 32},    {"U32", 32}, {"F32", 32}, {"I64", 64},    {"U64", 64},
      {"F64", 64},    {"C64", 64}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
  };
  for (const auto& [name, bits] : kBits) {
    if (name == dtype) return bits;
  }
  return 0;
}

// Takes the header's JSON apart as it is parsed: {name: {dtype, shape, data_offsets}}. Unlike a
// tree of values it sees a name that comes twice, and needs little memory for a hostile header.
class HeaderEvents : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderEvents(int64_t data_bytes) : data_bytes_(data_bytes) {}

  const std::string& error() const { return error_; }
  std::vector<CheckpointTensor> TakeTensors() { return std::move(tensors_); }

  bool key(string_t& name) override {
    if (place_ == Place::kHeader) return StartEntry(name);
    if (place_ == Place::kMetadata) return true;
    for (const absl::string_view field : {"dtype", "shape", "data_offsets"}) {
      if (name != field) continue;
      field_ = field;
      if (fields_.insert(field).second) return true;
      return Fail(absl::StrCat("\"", field, "\" once"), "it twice");
    }
    return Fail("only dtype, shape and data_offsets", Quoted(name));
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kOutside:
        place_ = Place::kHeader;
        return true;
      case Place::kHeader:
        place_ = tensors_name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool end_object() override {
    if (place_ == Place::kTensor && !EndTensor()) return false;
    place_ = place_ == Place::kHeader ? Place::kOutside : Place::kHeader;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") return Unexpected("an array");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }
  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kTensor || field_ != "dtype") return Unexpected("a string");
    tensor_.type_name = std::move(value);
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return Unexpected("a number");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Fail("numbers below 2^63", absl::StrCat(value));
    }
    std::vector<int64_t>& list = place_ == Place::kShape ? tensor_.shape : offsets_;
    const size_t most = place_ == Place::kShape ? kMaxDimensions : 2;
    if (list.size() == most) return Fail(absl::StrCat("at most ", most, " numbers"), "more");
    list.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("true or false"); }
  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Unexpected("a fraction"); }
  bool binary(binary_t&) override { return Unexpected("binary"); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    error_ = absl::StrCat("wanted a JSON header, found a syntax error at byte ", position + 7);
    return false;
  }

 private:
  enum class Place { kOutside, kHeader, kMetadata, kTensor, kShape, kOffsets };

  bool Fail(absl::string_view wanted, absl::string_view found) {
    const std::string where =
        place_ == Place::kOutside ? "" : absl::StrCat("tensor ", Quoted(tensors_name_), ": ");
    error_ = absl::StrCat(where, "wanted ", wanted, ", found ", found);
    return false;
  }

  bool Unexpected(absl::string_view found) {
    switch (place_) {
      case Place::kOutside:
        return Fail("a JSON object as header", found);
      case Place::kHeader:
        return Fail("an object with dtype, shape and data_offsets", found);
      case Place::kMetadata:
        return Fail("strings only", found);
      case Place::kTensor:
        return Fail(field_ == "dtype" ? "a string as dtype" : absl::StrCat("an array as ", field_),
                    found);
      default:
        return Fail(absl::StrCat("whole numbers from 0 in ", field_), found);
    }
  }

  bool StartEntry(const std::string& name) {
    tensors_name_ = name;
    tensor_ = CheckpointTensor();
    tensor_.name = name;
    offsets_.clear();
    fields_.clear();
    if (!names_.insert(name).second) return Fail("every name once", "it twice");
    if (name.empty()) return Fail("a name", "an empty one");
    if (names_.size() > kMaxTensors) return Fail(absl::StrCat("at most ", kMaxTensors), "more");
    return true;
  }

  bool EndTensor() {
    if (fields_.size() != 3) return Fail("dtype, shape and data_offsets", "fewer");
    const std::string range =
        offsets_.size() == 2 ? ShapeText(offsets_) : absl::StrCat(offsets_.size(), " numbers");
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1] || offsets_[1] > data_bytes_) {
      return Fail(absl::StrCat("data_offsets [begin, end] within the ", data_bytes_,
                               " bytes of data (a file cut short has fewer)"),
                  range);
    }
    tensor_.format = FindSafetensorsType(tensor_.type_name);
    tensor_.offset = offsets_[0];
    tensor_.bytes = offsets_[1] - offsets_[0];
    if (!SizeIsRight()) return false;
    tensors_.push_back(std::move(tensor_));
    return true;
  }

  bool SizeIsRight() {
    const absl::StatusOr<int64_t> elements = CountElements(tensor_.shape);
    if (!elements.ok()) return Fail("a shape that fits", ShapeText(tensor_.shape));
    const int64_t bits = BitsOf(tensor_.type_name);
    if (bits == 0) return true;
    const absl::StatusOr<int64_t> size = CheckedMultiply(*elements, bits);
    if (size.ok() && *size % 8 == 0 && *size / 8 == tensor_.bytes) return true;
    return Fail(absl::StrCat(size.ok() ? absl::StrCat(*size / 8) : "2^60 or more", " bytes for ",
                             Quoted(tensor_.type_name), " of shape ", ShapeText(tensor_.shape)),
                absl::StrCat(tensor_.bytes));
  }

  const int64_t data_bytes_;
  Place place_ = Place::kOutside;
  std::string error_;
  std::string tensors_name_;  // the member of the header being read
  absl::string_view field_;   // of it
  std::set<absl::string_view> fields_;
  std::set<std::string> names_;
  CheckpointTensor tensor_;
  std::vector<int64_t> offsets_;
  std::vector<CheckpointTensor> tensors_;
};

absl::Status CheckNoGaps(const RandomAccessFile& file, int64_t data_start,
                         const std::vector<CheckpointTensor>& tensors) {
  int64_t bytes = 0;  // cannot overflow: the ranges lie in the file and do not overlap
  for (const CheckpointTensor& tensor : tensors) bytes += tensor.bytes;
  if (bytes == file.size() - data_start) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": wanted tensors that fill the ", file.size() - data_start,
                   " bytes behind the header, found tensors of ", bytes, " bytes"));
}

}  // namespace

absl::StatusOr<std::vector<CheckpointTensor>> ReadSafetensorsHeader(const RandomAccessFile& file) {
  ByteReader reader(file, file.size());
  ASSIGN_OR_RETURN(uint64_t length, reader.Read<uint64_t>("the length of a safetensors header"));
  if (length > kMaxHeaderBytes || length > static_cast<uint64_t>(reader.remaining())) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": wanted a safetensors header of at most ",
                     std::min(kMaxHeaderBytes, reader.remaining()), " bytes, found length ", length,
                     " (the file has ", file.size(), " bytes: cut short, or no safetensors file)"));
  }
  ASSIGN_OR_RETURN(std::string text, reader.ReadString(length, "the header"));
  const int64_t data_start = reader.position();
  HeaderEvents events(file.size() - data_start);
  if (text.empty() || text[0] != '{' || !Json::sax_parse(text, &events)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": ",
                     events.error().empty() ? "wanted a JSON object as header, found other bytes"
                                            : events.error()));
  }
  std::vector<CheckpointTensor> tensors = events.TakeTensors();
  for (CheckpointTensor& tensor : tensors) tensor.offset += data_start;
  RETURN_IF_ERROR(CheckRanges(file, tensors));
  RETURN_IF_ERROR(CheckNoGaps(file, data_start, tensors));
  return tensors;
}

}  // namespace tprun
