#include "engine/checkpoint/gguf_writer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/tensor_layout.h"

namespace tprun {
namespace {

constexpr int64_t kDefaultAlignment = 32;
constexpr size_t kMostNameBytes = 63;  // GGML_MAX_NAME, less the zero at the end

enum ValueType : uint32_t {
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

template <class T>
void Put(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(absl::string_view text, std::string& out) {
  Put<uint64_t>(text.size(), out);
  out.append(text.data(), text.size());
}

bool Fits32(const Json& number) {
  return number.is_number_unsigned()
             ? number.get<uint64_t>() <= std::numeric_limits<int32_t>::max()
             : number.get<int64_t>() >= std::numeric_limits<int32_t>::min() &&
                   number.get<int64_t>() <= std::numeric_limits<int32_t>::max();
}

ValueType TypeOf(const Json& value) {
  if (value.is_string()) return kString;
  if (value.is_boolean()) return kBool;
  if (value.is_array()) return kArray;
  if (value.is_number_float()) {
    const double number = value.get<double>();
    const bool narrow =
        static_cast<double>(static_cast<float>(number)) == number || number != number;
    return narrow ? kFloat32 : kFloat64;
  }
  if (value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() < 0) {
    return Fits32(value) ? kInt32 : kInt64;
  }
  return value.get<uint64_t>() <= std::numeric_limits<uint32_t>::max() ? kUint32 : kUint64;
}

// One type for all elements. llama.cpp reads lists of numbers as i32 or f32.
ValueType ElementType(const Json& array) {
  if (array.empty()) return kString;
  const auto all = [&](auto holds) { return std::all_of(array.begin(), array.end(), holds); };
  if (all([](const Json& e) { return e.is_number_integer(); })) {
    return all(Fits32) ? kInt32 : kInt64;
  }
  if (all([](const Json& e) { return e.is_number(); })) return kFloat32;
  return TypeOf(array[0]);
}

absl::Status PutValue(const Json& value, ValueType type, std::string& out);

absl::Status PutArray(const Json& array, std::string& out) {
  const ValueType type = ElementType(array);
  Put<uint32_t>(type, out);
  Put<uint64_t>(array.size(), out);
  for (const Json& element : array) RETURN_IF_ERROR(PutValue(element, type, out));
  return absl::OkStatus();
}

absl::Status PutValue(const Json& value, ValueType type, std::string& out) {
  const bool fits = type == kString  ? value.is_string()
                    : type == kBool  ? value.is_boolean()
                    : type == kArray ? value.is_array()
                                     : value.is_number();
  if (!fits) return absl::InvalidArgumentError("wanted values of one type in an array");
  switch (type) {
    case kString:
      PutString(value.get_ref<const std::string&>(), out);
      return absl::OkStatus();
    case kBool:
      Put<uint8_t>(value.get<bool>() ? 1 : 0, out);
      return absl::OkStatus();
    case kArray:
      return PutArray(value, out);
    case kFloat32:
      Put(value.get<float>(), out);
      return absl::OkStatus();
    case kFloat64:
      Put(value.get<double>(), out);
      return absl::OkStatus();
    case kUint32:
      Put(value.get<uint32_t>(), out);
      return absl::OkStatus();
    case kInt32:
      Put(value.get<int32_t>(), out);
      return absl::OkStatus();
    case kUint64:
      Put(value.get<uint64_t>(), out);
      return absl::OkStatus();
    case kInt64:
      Put(value.get<int64_t>(), out);
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

int64_t AlignUp(int64_t bytes, int64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

absl::Status CheckTensor(GgufTensor& tensor) {
  const std::string what = absl::StrCat("tensor ", Quoted(tensor.name));
  if (tensor.name.size() > kMostNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": wanted a name of at most ", kMostNameBytes, " bytes for GGUF"));
  }
  if (tensor.format->ggml_type < 0) {
    if (tensor.format->block_elements > 1) {
      return absl::InvalidArgumentError(absl::StrCat(what, ": GGUF has no type for ",
                                                     tensor.format->name,
                                                     " weights: give --weights=f16, bf16 or f32"));
    }
    std::vector<absl::string_view> names;
    for (const WeightFormat* format : AllWeightFormats()) {
      if (format->ggml_type >= 0 && format->quantize != nullptr) names.push_back(format->name);
    }
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": GGUF has no type for ", tensor.format->name,
                     "; it has, and there are encoders, for ", absl::StrJoin(names, ", ")));
  }
  ASSIGN_OR_RETURN(const int64_t elements, CountElements(tensor.shape));
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (tensor.shape.size() > 4 || row % tensor.format->block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": wanted at most 4 dimensions and rows of whole blocks of ",
                     tensor.format->block_elements, ", found ", ShapeText(tensor.shape)));
  }
  tensor.bytes = tensor.format->Bytes(elements);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufLayout> LayOutGguf(const Json& metadata, std::vector<GgufTensor> tensors) {
  ASSIGN_OR_RETURN(const int64_t alignment,
                   GetIntOr(metadata, "general.alignment", kDefaultAlignment));
  GgufLayout layout;
  std::string& header = layout.header;
  header = "GGUF";
  Put<uint32_t>(3, header);
  Put<uint64_t>(tensors.size(), header);
  Put<uint64_t>(metadata.size(), header);
  for (const auto& [key, value] : metadata.items()) {
    const ValueType type = TypeOf(value);
    PutString(key, header);
    Put<uint32_t>(type, header);
    const absl::Status status = PutValue(value, type, header);
    if (!status.ok()) return Annotate(status, absl::StrCat("metadata key ", Quoted(key)));
  }
  int64_t offset = 0;
  for (GgufTensor& tensor : tensors) {
    RETURN_IF_ERROR(CheckTensor(tensor));
    PutString(tensor.name, header);
    Put<uint32_t>(static_cast<uint32_t>(tensor.shape.size()), header);
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
      Put<uint64_t>(static_cast<uint64_t>(*it), header);
    }
    Put<uint32_t>(static_cast<uint32_t>(tensor.format->ggml_type), header);
    Put<uint64_t>(static_cast<uint64_t>(offset), header);
    tensor.offset = offset;
    offset = AlignUp(offset + tensor.bytes, alignment);
  }
  header.resize(AlignUp(static_cast<int64_t>(header.size()), alignment));
  const auto data_start = static_cast<int64_t>(header.size());
  for (GgufTensor& tensor : tensors) tensor.offset += data_start;
  layout.file_bytes = data_start + offset;
  layout.tensors = std::move(tensors);
  return layout;
}

}  // namespace tprun
