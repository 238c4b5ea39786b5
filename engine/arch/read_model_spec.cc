#include "engine/arch/read_model_spec.h"

#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/checkpoint/tensor_reader.h"

namespace tprun {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string FormatNames() {
  std::vector<absl::string_view> names;
  for (const WeightFormat* format : AllWeightFormats()) names.push_back(format->name);
  return absl::StrJoin(names, ", ");
}

std::vector<int64_t> SourceShape(const TensorSpec& tensor) {
  std::vector<int64_t> shape = tensor.shape;
  if (tensor.source_rows > 0) shape[0] = tensor.source_rows;
  return shape;
}

absl::Status BindTensor(const Checkpoint& checkpoint, TensorSpec& tensor) {
  const CheckpointTensor* source = checkpoint.Find(tensor.name);
  if (source == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" of shape ",
                                                   ShapeText(SourceShape(tensor)),
                                                   " is missing from the checkpoint"));
  }
  if (source->shape != SourceShape(tensor)) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\": wanted shape ",
                                                   ShapeText(SourceShape(tensor)), ", found ",
                                                   ShapeText(source->shape)));
  }
  if (source->format == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\" is of type ", source->type_name,
                     ", which cannot be read; supported: ", FormatNames()));
  }
  tensor.format = source->format;
  return absl::OkStatus();
}

absl::Status BindAll(const Checkpoint& checkpoint, const WeightFormat* assumed, ModelSpec& spec) {
  for (TensorSpec& tensor : spec.tensors) {
    RETURN_IF_ERROR(BindTensor(checkpoint, tensor));
    if (assumed != nullptr && tensor.shape.size() > 1 && tensor.format != assumed) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the checkpoint holds ", tensor.format->name, " weights (\"", tensor.name,
          "\") and they are used as they are: leave --weights out, or give a bare config.json to "
          "plan for ",
          assumed->name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const WeightFormat*> ConfigFormat(const Json& config) {
  ASSIGN_OR_RETURN(std::string name, GetStringOr(config, "torch_dtype", ""));
  if (name.empty()) {
    ASSIGN_OR_RETURN(name, GetStringOr(config, "dtype", "bfloat16"));
  }
  if (name == "float32") return &kF32Format;
  if (name == "float16") return &kF16Format;
  return &kBF16Format;
}

absl::Status AssumeAll(const Json& config, const WeightFormat* assumed, ModelSpec& spec) {
  if (assumed == nullptr) {
    ASSIGN_OR_RETURN(assumed, ConfigFormat(config));
  }
  for (TensorSpec& tensor : spec.tensors) {
    const bool matrix = tensor.shape.size() > 1;
    const bool whole_blocks = matrix && tensor.shape[1] % assumed->block_elements == 0;
    tensor.format = !matrix ? &kF32Format : whole_blocks ? assumed : &kF16Format;
  }
  return absl::OkStatus();
}

// GGUF files of Llama 3.1 and later carry the scaling of the rotary frequencies as a tensor.
absl::Status ReadRopeFactors(const Checkpoint& checkpoint, ModelSpec& spec) {
  const CheckpointTensor* tensor = checkpoint.Find("rope_freqs.weight");
  if (checkpoint.kind() != CheckpointKind::kGguf || tensor == nullptr) return absl::OkStatus();
  const int64_t count = spec.layers[0].attention.rope.dims / 2;
  if (tensor->shape != std::vector<int64_t>{count} || tensor->format != &kF32Format) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"rope_freqs.weight\": wanted F32 of shape [", count, "], found ",
                     tensor->type_name, " of shape ", ShapeText(tensor->shape)));
  }
  std::vector<float> factors(count);
  RETURN_IF_ERROR(ReadTensorSlice(checkpoint, *tensor, 0, count, 0, 1, factors.data()));
  for (float factor : factors) {
    if (!std::isfinite(factor) || factor <= 0) {
      return absl::InvalidArgumentError(
          "tensor \"rope_freqs.weight\" holds a divisor that is "
          "not a positive number");
    }
  }
  for (LayerSpec& layer : spec.layers) layer.attention.rope.factors = factors;
  return absl::OkStatus();
}

// "stories260K" from ".../stories260K/", ".../stories260K.gguf" or ".../stories260K/config.json".
std::string NameFromPath(const Checkpoint& checkpoint) {
  const bool folder = checkpoint.kind() != CheckpointKind::kGguf && !IsDirectory(checkpoint.path());
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::weakly_canonical(
      folder ? checkpoint.directory() : checkpoint.path(), ignored);
  return std::string(absl::StripSuffix(path.filename().string(), ".gguf"));
}

absl::StatusOr<ModelSpec> ReadSpec(const Checkpoint& checkpoint, const WeightFormat* assumed) {
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(checkpoint.config()));
  const Naming naming =
      checkpoint.kind() == CheckpointKind::kGguf ? Naming::kGguf : Naming::kHuggingFace;
  ASSIGN_OR_RETURN(ModelSpec spec, architecture->build(checkpoint.config(), naming));
  if (spec.name.empty()) spec.name = NameFromPath(checkpoint);
  if (checkpoint.kind() == CheckpointKind::kConfigOnly) {
    RETURN_IF_ERROR(AssumeAll(checkpoint.config(), assumed, spec));
    return spec;
  }
  RETURN_IF_ERROR(BindAll(checkpoint, assumed, spec));
  RETURN_IF_ERROR(ReadRopeFactors(checkpoint, spec));
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint, const WeightFormat* assumed) {
  absl::StatusOr<ModelSpec> spec = ReadSpec(checkpoint, assumed);
  if (!spec.ok()) return Annotate(spec.status(), checkpoint.path());
  return spec;
}

}  // namespace tprun
