#include "tests/checkpoint_writer.h"

#include <cstring>
#include <utility>

namespace tprun {
namespace {

enum GgufType {
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11
};

GgufType TypeOf(const Json& value) {
  if (value.is_string()) return kString;
  if (value.is_boolean()) return kBool;
  if (value.is_array()) return kArray;
  if (value.is_number_float()) return kFloat32;
  const int64_t number = value.get<int64_t>();
  if (number < 0) return number < INT32_MIN ? kInt64 : kInt32;
  return number > UINT32_MAX ? kUint64 : kUint32;
}

std::string ValueBytes(const Json& value, GgufType type);

std::string ArrayBytes(const Json& array) {
  const GgufType type = array.empty() ? kUint32 : TypeOf(array[0]);
  std::string bytes = GgufNumber(type, 4) + GgufNumber(array.size(), 8);
  for (const Json& element : array) bytes += ValueBytes(element, type);
  return bytes;
}

std::string ValueBytes(const Json& value, GgufType type) {
  switch (type) {
    case kString:
      return GgufString(value.get<std::string>());
    case kBool:
      return GgufNumber(value.get<bool>() ? 1 : 0, 1);
    case kArray:
      return ArrayBytes(value);
    case kFloat32: {
      const float number = value.get<float>();
      return std::string(reinterpret_cast<const char*>(&number), sizeof(number));
    }
    default:
      return GgufNumber(static_cast<uint64_t>(value.get<int64_t>()),
                        type == kUint64 || type == kInt64 ? 8 : 4);
  }
}

void Pad(std::string& bytes, size_t alignment) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
}

}  // namespace

TensorToWrite MakeTensor(std::string name, std::vector<int64_t> shape, const WeightFormat& format,
                         const std::vector<float>& values) {
  TensorToWrite tensor = {std::move(name), std::move(shape), &format, ""};
  tensor.bytes.resize(format.Bytes(values.size()));
  format.quantize(values.data(), tensor.bytes.data(), values.size());
  return tensor;
}

std::string SafetensorsFile(const std::vector<TensorToWrite>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const TensorToWrite& tensor : tensors) {
    header[tensor.name] = {{"dtype", std::string(tensor.format->safetensors)},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  return GgufNumber(text.size(), 8) + text + data;
}

std::string GgufNumber(uint64_t value, int bytes) {
  return std::string(reinterpret_cast<const char*>(&value), bytes);
}

std::string GgufString(absl::string_view text) {
  return GgufNumber(text.size(), 8) + std::string(text);
}

std::string GgufFile(const Json& metadata, const std::vector<TensorToWrite>& tensors,
                     uint32_t version) {
  const size_t alignment = metadata.value("general.alignment", 32);
  std::string bytes = "GGUF" + GgufNumber(version, 4) + GgufNumber(tensors.size(), 8) +
                      GgufNumber(metadata.size(), 8);
  for (const auto& [key, value] : metadata.items()) {
    const GgufType type = TypeOf(value);
    bytes += GgufString(key) + GgufNumber(type, 4) + ValueBytes(value, type);
  }
  std::string data;
  for (const TensorToWrite& tensor : tensors) {
    Pad(data, alignment);
    bytes += GgufString(tensor.name) + GgufNumber(tensor.shape.size(), 4);
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
      bytes += GgufNumber(*it, 8);
    }
    bytes += GgufNumber(tensor.format->ggml_type, 4) + GgufNumber(data.size(), 8);
    data += tensor.bytes;
  }
  Pad(bytes, alignment);
  return bytes + data;
}

}  // namespace tprun
