#include "engine/checkpoint/packed_tensors.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"

namespace tprun {
namespace {

struct Quantizer {
  absl::string_view method;  // of quantization_config
  absl::Status (*add)(CheckpointBuilder& builder, const Json& quantization);
};

constexpr Quantizer kQuantizers[] = {
    {"fp8", AddFp8Weights},
    {"fbgemm_fp8", AddFp8Weights},
    {"modelopt", AddFp8Weights},
    {"gptq", AddGptq},
    {"awq", AddAwq},
    {"bitsandbytes", AddBitsAndBytes},
    {"compressed-tensors", AddCompressedTensors},
};

// Configs of models that also see images keep the text model's settings apart, but not this one.
const Json* QuantizationOf(const Json& config) {
  const Json* quantization = FindMember(config, "quantization_config");
  if (quantization == nullptr) quantization = FindMember(config, "compression_config");
  return quantization;
}

}  // namespace

absl::Status AddPackedTensors(CheckpointBuilder& builder) {
  const Json* found = QuantizationOf(builder.checkpoint().config());
  if (found == nullptr || !found->is_object()) return absl::OkStatus();
  const Json quantization = *found;
  const absl::StatusOr<std::string> method = GetStringOr(quantization, "quant_method", "");
  if (!method.ok()) return Annotate(method.status(), "quantization_config");
  for (const Quantizer& quantizer : kQuantizers) {
    if (*method == quantizer.method) return quantizer.add(builder, quantization);
  }
  return absl::OkStatus();
}

CheckpointTensor MakePacked(const CheckpointTensor& like, std::string name, int64_t rows,
                            int64_t columns, const WeightFormat& format,
                            std::shared_ptr<const PackedTensor> packed) {
  CheckpointTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = {rows, columns};
  tensor.format = &format;
  tensor.type_name = std::string(format.name);
  tensor.file = like.file;
  tensor.offset = like.offset;
  tensor.bytes = rows * format.Bytes(columns);
  tensor.packed = std::move(packed);
  return tensor;
}

std::vector<std::string> NamesWithSuffix(const Checkpoint& checkpoint, absl::string_view suffix) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (absl::EndsWith(name, suffix)) {
      names.push_back(name.substr(0, name.size() - suffix.size()));
    }
  }
  return names;
}

absl::Status PackedError(absl::string_view name, absl::string_view wanted,
                         absl::string_view found) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", Quoted(name), ": wanted ", wanted, ", found ", found));
}

absl::StatusOr<const CheckpointTensor*> FindCompanion(
    const Checkpoint& checkpoint, const std::string& name,
    std::initializer_list<absl::string_view> types) {
  const CheckpointTensor* tensor = checkpoint.Find(name);
  if (tensor == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", Quoted(name), " is missing beside those of the same layer"));
  }
  for (absl::string_view type : types) {
    if (tensor->type_name == type) return tensor;
  }
  if (types.size() == 0) return tensor;
  return PackedError(name, absl::StrCat("type ", absl::StrJoin(types, " or ")), tensor->type_name);
}

absl::Status CheckBlocks(absl::string_view name, const WeightFormat* format, int64_t columns,
                         int64_t least) {
  if (format != nullptr && columns > 0 && columns % format->block_elements == 0) {
    return absl::OkStatus();
  }
  return PackedError(name, absl::StrCat("rows and groups of a multiple of ", least, " elements"),
                     absl::StrCat("rows of ", columns));
}

}  // namespace tprun
