#include "engine/checkpoint/gguf_header.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/checkpoint/byte_reader.h"
#include "engine/checkpoint/gguf_types.h"
#include "engine/checkpoint/gguf_value.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/tensor_layout.h"

namespace tprun {
namespace {

constexpr int64_t kMaxHeaderBytes = 256 * kMiB;
constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxNameBytes = 1024;  // ggml keeps 64
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = kMiB;

absl::Status Error(const RandomAccessFile& file, const std::string& wanted,
                   const std::string& found) {
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": wanted ", wanted, ", found ", found));
}

absl::StatusOr<uint32_t> ReadVersion(const RandomAccessFile& file, ByteReader& reader) {
  ASSIGN_OR_RETURN(uint32_t magic, reader.Read<uint32_t>("the magic \"GGUF\""));
  if (magic != kMagic) return Error(file, "the magic \"GGUF\"", absl::StrCat(absl::Hex(magic)));
  ASSIGN_OR_RETURN(uint32_t version, reader.Read<uint32_t>("the GGUF version"));
  if (version == 2 || version == 3) return version;
  const std::string wanted = "GGUF version 2 or 3";
  if (version != 0 && (version & 0xffff) == 0) {
    return Error(file, wanted + " in little-endian order",
                 "a big-endian file; convert it with llama.cpp's gguf_convert_endian.py");
  }
  if (version == 1) return Error(file, wanted, "version 1; convert the model anew");
  return Error(file, wanted, absl::StrCat("version ", version));
}

absl::StatusOr<int64_t> Alignment(const RandomAccessFile& file, const Json& metadata) {
  const Json* value = FindMember(metadata, "general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  const std::string wanted =
      absl::StrCat("general.alignment as a multiple of 8 up to ", kMaxAlignment);
  if (!value->is_number_unsigned() && !value->is_number_integer()) {
    return Error(file, wanted, value->type_name());
  }
  const int64_t alignment = value->get<int64_t>();
  if (alignment <= 0 || alignment % 8 != 0 || alignment > kMaxAlignment) {
    return Error(file, wanted, absl::StrCat(alignment));
  }
  return alignment;
}

// Dimensions in the file's order, fastest first.
absl::StatusOr<std::vector<int64_t>> ReadDimensions(const RandomAccessFile& file,
                                                    ByteReader& reader, const std::string& name) {
  ASSIGN_OR_RETURN(uint32_t count, reader.Read<uint32_t>("the number of dimensions of a tensor"));
  if (count > kMaxDimensions) {
    return Error(file, absl::StrCat("at most 4 dimensions of tensor ", Quoted(name)),
                 absl::StrCat(count));
  }
  std::vector<int64_t> dimensions;
  for (uint32_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(uint64_t size, reader.Read<uint64_t>("a dimension of a tensor"));
    if (size > std::numeric_limits<int64_t>::max()) {
      return Error(file, absl::StrCat("dimensions below 2^63 of tensor ", Quoted(name)),
                   absl::StrCat(size));
    }
    dimensions.push_back(static_cast<int64_t>(size));
  }
  return dimensions;
}

absl::Status SetType(const RandomAccessFile& file, uint32_t id, CheckpointTensor& tensor) {
  if (IsRetiredGgmlType(id)) {
    return Error(file, absl::StrCat("a tensor type in use today for ", Quoted(tensor.name)),
                 absl::StrCat("the retired type ", id, "; convert the model anew"));
  }
  const absl::StatusOr<int64_t> elements = CountElements(tensor.shape);
  if (!elements.ok()) return Error(file, "a shape that fits", ShapeText(tensor.shape));
  const GgmlType* type = FindGgmlTypeInfo(id);
  if (type == nullptr) {
    tensor.type_name = absl::StrCat("ggml type ", id);
    return absl::OkStatus();
  }
  tensor.type_name = std::string(type->name);
  tensor.format = FindGgmlType(static_cast<int>(id));
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % type->block_elements != 0) {
    return Error(file,
                 absl::StrCat("rows of whole blocks of ", type->block_elements, " elements (",
                              tensor.type_name, ") in tensor ", Quoted(tensor.name)),
                 absl::StrCat("shape ", ShapeText(tensor.shape)));
  }
  const absl::StatusOr<int64_t> bytes =
      CheckedMultiply(*elements / type->block_elements, type->block_bytes);
  if (!bytes.ok()) return Error(file, "a shape that fits", ShapeText(tensor.shape));
  tensor.bytes = *bytes;
  return absl::OkStatus();
}

absl::StatusOr<CheckpointTensor> ReadTensorInfo(const RandomAccessFile& file, ByteReader& reader,
                                                int64_t alignment) {
  CheckpointTensor tensor;
  ASSIGN_OR_RETURN(tensor.name,
                   ReadGgufString(reader, file.path(), kMaxNameBytes, "a tensor's name"));
  if (tensor.name.empty()) return Error(file, "a name for every tensor", "an empty one");
  ASSIGN_OR_RETURN(tensor.shape, ReadDimensions(file, reader, tensor.name));
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  ASSIGN_OR_RETURN(uint32_t type, reader.Read<uint32_t>("the type of a tensor"));
  RETURN_IF_ERROR(SetType(file, type, tensor));
  ASSIGN_OR_RETURN(uint64_t offset, reader.Read<uint64_t>("the offset of a tensor"));
  if (offset > static_cast<uint64_t>(file.size()) || offset % alignment != 0) {
    return Error(file,
                 absl::StrCat("an offset of tensor ", Quoted(tensor.name),
                              " inside the file and a multiple of ", alignment),
                 absl::StrCat(offset));
  }
  tensor.offset = static_cast<int64_t>(offset);
  return tensor;
}

// A type we know nothing of: its tensor can be no longer than up to the next one.
void BoundUnknownTypes(int64_t file_size, std::vector<CheckpointTensor>& tensors) {
  std::vector<int64_t> offsets = {file_size};
  for (const CheckpointTensor& tensor : tensors) offsets.push_back(tensor.offset);
  std::sort(offsets.begin(), offsets.end());
  for (CheckpointTensor& tensor : tensors) {
    if (!absl::StartsWith(tensor.type_name, "ggml type ")) continue;
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), tensor.offset);
    tensor.bytes = next == offsets.end() ? 0 : *next - tensor.offset;
  }
}

}  // namespace

absl::StatusOr<GgufHeader> ReadGgufHeader(const RandomAccessFile& file) {
  ByteReader reader(file, kMaxHeaderBytes);
  GgufHeader header;
  ASSIGN_OR_RETURN(header.version, ReadVersion(file, reader));
  ASSIGN_OR_RETURN(uint64_t tensor_count, reader.Read<uint64_t>("the tensor count"));
  ASSIGN_OR_RETURN(uint64_t pair_count, reader.Read<uint64_t>("the count of metadata pairs"));
  constexpr uint64_t kSmallestInfo = 8 + 1 + 4 + 4 + 8;
  RETURN_IF_ERROR(reader.Expect(tensor_count, kSmallestInfo, "tensor descriptions"));
  if (tensor_count > kMaxTensors) {
    return Error(file, absl::StrCat("at most ", kMaxTensors, " tensors"),
                 absl::StrCat(tensor_count));
  }
  ASSIGN_OR_RETURN(header.metadata, ReadGgufMetadata(reader, file.path(), pair_count));
  ASSIGN_OR_RETURN(int64_t alignment, Alignment(file, header.metadata));
  for (uint64_t i = 0; i < tensor_count; ++i) {
    ASSIGN_OR_RETURN(CheckpointTensor tensor, ReadTensorInfo(file, reader, alignment));
    header.tensors.push_back(std::move(tensor));
  }
  const int64_t data_start = (reader.position() + alignment - 1) / alignment * alignment;
  for (CheckpointTensor& tensor : header.tensors) tensor.offset += data_start;
  BoundUnknownTypes(file.size(), header.tensors);
  RETURN_IF_ERROR(CheckRanges(file, header.tensors));
  return header;
}

}  // namespace tprun
