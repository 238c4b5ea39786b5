#include "engine/arch/read_model_spec.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/assume_formats.h"
#include "engine/arch/decoder.h"
#include "engine/arch/gguf_by_names.h"
#include "engine/arch/runnable.h"
#include "engine/arch/speech_models.h"
#include "engine/checkpoint/tensor_reader.h"
#include "engine/format/planned_formats.h"

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

// The tensor's shape in the checkpoint: fused with its neighbours, with the experts apart, turned
// round.
std::vector<int64_t> SourceShape(const TensorSpec& tensor) {
  std::vector<int64_t> shape = tensor.shape;
  shape[0] /= std::max(tensor.experts, 1);
  if (tensor.source_rows > 0) shape[0] = tensor.source_rows;
  if (tensor.transposed) std::swap(shape[0], shape[1]);
  if (tensor.experts == 0) return shape;
  if (!absl::StrContains(tensor.name, kExpertMark)) shape.insert(shape.begin(), tensor.experts);
  return shape;
}

// All axes but the last as one. Axes of one element in front, as Moshi's norms have, do not count.
std::vector<int64_t> Flat(absl::Span<const int64_t> shape) {
  while (shape.size() > 1 && shape[0] == 1) shape.remove_prefix(1);
  if (shape.size() < 2) return {shape.begin(), shape.end()};
  int64_t rows = 1;
  for (int64_t extent : shape.subspan(0, shape.size() - 1)) rows *= extent;
  return {rows, shape.back()};
}

bool SameShape(const std::vector<int64_t>& found, const std::vector<int64_t>& wanted) {
  return found == wanted ||
         (std::max(found.size(), wanted.size()) > 2 && Flat(found) == Flat(wanted));
}

// A quantiser packed the weights: what there is of them has other names, types and shapes.
bool IsPacked(const Checkpoint& checkpoint, const std::string& name) {
  const CheckpointTensor* tensor = checkpoint.Find(name);
  if (tensor != nullptr && tensor->packed != nullptr) return false;  // of a kind that is known
  const std::string module(absl::StripSuffix(name, ".weight"));
  for (const char* companion :
       {".qweight", ".weight_packed", ".weight.absmax", ".SCB", "_blocks"}) {
    if (checkpoint.Find(module + companion) != nullptr) return true;
  }
  return false;
}

bool IsMxfp4(const Checkpoint& checkpoint, const TensorSpec& tensor) {
  return checkpoint.Find(tensor.name + "_blocks") != nullptr;
}

// Bytes of pairs of elements [experts, rows, blocks, 16] and exponents [experts, rows, blocks].
absl::Status BindMxfp4(const Checkpoint& checkpoint, TensorSpec& tensor) {
  tensor.format = &kMxfp4Format;
  tensor.transposed = false;
  const std::vector<int64_t> shape = SourceShape(tensor);
  if (shape.back() % kMxfp4Format.block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\": rows of ", shape.back(),
                     " elements are no whole number of mxfp4 blocks"));
  }
  std::vector<int64_t> exponents = shape;
  exponents.back() /= kMxfp4Format.block_elements;
  std::vector<int64_t> pairs = exponents;
  pairs.push_back(kMxfp4Format.block_elements / 2);
  for (const auto& [suffix, wanted] : {std::pair("_blocks", pairs), {"_scales", exponents}}) {
    const CheckpointTensor* source = checkpoint.Find(tensor.name + suffix);
    const bool there = source != nullptr && source->type_name == "U8";
    if (there && source->shape == wanted) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor \"", tensor.name, suffix, "\": wanted U8 of shape ", ShapeText(wanted), ", found ",
        source == nullptr ? "none" : source->type_name + " " + ShapeText(source->shape)));
  }
  return absl::OkStatus();
}

// The format of packed weights is what the config says of them.
absl::Status BindPacked(const Checkpoint& checkpoint, const std::string& name, TensorSpec& tensor) {
  if (IsMxfp4(checkpoint, tensor)) return BindMxfp4(checkpoint, tensor);
  ASSIGN_OR_RETURN(tensor.format, QuantizedFormat(checkpoint.config(), name));
  if (tensor.format != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor \"", tensor.name, "\" is packed, but the config has no quantization_config"));
}

// Quantisers give what they pack names of their own.
absl::Status Missing(const Checkpoint& checkpoint, const std::string& name,
                     const TensorSpec& tensor) {
  const absl::StatusOr<const WeightFormat*> quantized = QuantizedFormat(checkpoint.config(), name);
  RETURN_IF_ERROR(quantized.status());
  const std::string packed =
      *quantized == nullptr ? ""
                            : absl::StrCat(", whose config has a quantization_config; read are ",
                                           kReadableQuantisers);
  return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" of shape ",
                                                 ShapeText(SourceShape(tensor)),
                                                 " is missing from the checkpoint", packed));
}

absl::Status BindTensor(const Checkpoint& checkpoint, const std::string& name, TensorSpec& tensor) {
  if (tensor.shape.size() > 1 && checkpoint.kind() == CheckpointKind::kSafetensors &&
      IsPacked(checkpoint, name)) {
    return BindPacked(checkpoint, name, tensor);
  }
  const CheckpointTensor* source = checkpoint.Find(name);
  if (source == nullptr) return Missing(checkpoint, name, tensor);
  if (!SameShape(source->shape, SourceShape(tensor))) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\": wanted shape ",
                                                   ShapeText(SourceShape(tensor)), ", found ",
                                                   ShapeText(source->shape)));
  }
  const WeightFormat* format =
      source->format != nullptr ? source->format : FindPlannedFormat(source->type_name);
  if (format == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" is of type ", source->type_name,
                     ", which cannot be read; supported: ", FormatNames()));
  }
  if (tensor.format != nullptr && tensor.format != format) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" is of type ",
                                                   source->type_name, ", the other experts' are ",
                                                   tensor.format->name));
  }
  tensor.format = format;
  return absl::OkStatus();
}

absl::Status BindTensor(const Checkpoint& checkpoint, TensorSpec& tensor) {
  if (!absl::StrContains(tensor.name, kExpertMark)) {
    return BindTensor(checkpoint, tensor.name, tensor);
  }
  for (int expert = 0; expert < tensor.experts; ++expert) {
    RETURN_IF_ERROR(BindTensor(checkpoint, ExpertTensorName(tensor, expert), tensor));
  }
  return absl::OkStatus();
}

// Newer checkpoints keep the experts of a layer in one tensor each for gate and up, and for down.
void UseFusedExperts(const Checkpoint& checkpoint, ModelSpec& spec) {
  for (TensorSpec& tensor : spec.tensors) {
    const size_t mark = tensor.name.find(absl::StrCat(".", kExpertMark, "."));
    if (mark == std::string::npos || checkpoint.Find(ExpertTensorName(tensor, 0)) != nullptr) {
      continue;
    }
    const bool down = tensor.role == TensorRole::kExpertDown;
    const std::string fused = tensor.name.substr(0, mark) + (down ? ".down_proj" : ".gate_up_proj");
    if (checkpoint.Find(fused) == nullptr) continue;
    tensor.name = fused;
    if (down) continue;
    FuseExperts(false, tensor.role == TensorRole::kExpertUp, tensor.shape[0] / tensor.experts,
                tensor);
  }
}

absl::Status BindAll(const Checkpoint& checkpoint, const WeightFormat* assumed, ModelSpec& spec) {
  for (TensorSpec& tensor : spec.tensors) {
    RETURN_IF_ERROR(BindTensor(checkpoint, tensor));
    const std::string first = ExpertTensorName(tensor, 0);
    if (checkpoint.kind() == CheckpointKind::kSafetensors && IsPacked(checkpoint, first) &&
        !IsMxfp4(checkpoint, tensor)) {
      spec.not_runnable = absl::StrCat(
          "\"", first, "\" is packed in a way that is not read; read are ", kReadableQuantisers);
    }
  }
  if (assumed != nullptr) return ConvertFormats(*assumed, spec);
  return absl::OkStatus();
}

// Divisors of the rotary frequencies, one per pair of rotated elements; {} if there is no tensor of
// this name.
absl::StatusOr<std::vector<float>> ReadDivisors(const Checkpoint& checkpoint,
                                                const std::string& name, const ModelSpec& spec) {
  const CheckpointTensor* tensor = checkpoint.Find(name);
  if (tensor == nullptr) return std::vector<float>();
  const int64_t count = spec.layers[0].attention.rope.dims / 2;
  if (tensor->shape != std::vector<int64_t>{count} || tensor->format != &kF32Format) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\": wanted F32 of shape [",
                                                   count, "], found ", tensor->type_name,
                                                   " of shape ", ShapeText(tensor->shape)));
  }
  std::vector<float> divisors(count);
  RETURN_IF_ERROR(ReadTensorSlice(checkpoint, *tensor, 0, count, 0, 1, divisors.data()));
  for (float divisor : divisors) {
    if (std::isfinite(divisor) && divisor > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" holds a divisor that is not a positive number"));
  }
  return divisors;
}

// GGUF files carry the scaling of the rotary frequencies as tensors: one for Llama 3.1 and later,
// two for long rope.
absl::Status ReadRopeFactors(const Checkpoint& checkpoint, ModelSpec& spec) {
  if (checkpoint.kind() != CheckpointKind::kGguf) return absl::OkStatus();
  const bool is_long = spec.layers[0].attention.rope.scaling == RopeScaling::kLongRope;
  const char* name = is_long ? "rope_factors_short.weight" : "rope_freqs.weight";
  ASSIGN_OR_RETURN(const std::vector<float> factors, ReadDivisors(checkpoint, name, spec));
  std::vector<float> long_factors;
  if (is_long) {
    ASSIGN_OR_RETURN(long_factors, ReadDivisors(checkpoint, "rope_factors_long.weight", spec));
    if (factors.empty() || long_factors.empty()) {
      return absl::InvalidArgumentError(
          "long rope: wanted tensors rope_factors_short.weight and rope_factors_long.weight");
    }
  }
  for (LayerSpec& layer : spec.layers) {
    layer.attention.rope.factors = factors;
    layer.attention.rope.long_factors = long_factors;
  }
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

absl::StatusOr<ModelSpec> BuildSpec(const Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == CheckpointKind::kGguf;
  const absl::StatusOr<const Architecture*> architecture = FindArchitecture(checkpoint.config());
  if (architecture.ok()) {
    return (*architecture)->build(checkpoint.config(), gguf ? Naming::kGguf : Naming::kHuggingFace);
  }
  if (gguf) {
    absl::StatusOr<ModelSpec> spec = SpecFromTensorNames(checkpoint);
    if (spec.ok()) return spec;
  }
  return architecture.status();
}

absl::StatusOr<ModelSpec> ReadSpec(const Checkpoint& checkpoint, const WeightFormat* assumed) {
  ASSIGN_OR_RETURN(ModelSpec spec, BuildSpec(checkpoint));
  if (spec.name.empty()) spec.name = NameFromPath(checkpoint);
  if (checkpoint.kind() == CheckpointKind::kConfigOnly) {
    RETURN_IF_ERROR(AssumeFormats(checkpoint.config(), assumed, spec));
  } else {
    UseFusedExperts(checkpoint, spec);
    RETURN_IF_ERROR(BindAll(checkpoint, assumed, spec));
    RETURN_IF_ERROR(ReadRopeFactors(checkpoint, spec));
  }
  AddSpeechFacts(spec);
  spec.not_runnable = WhyNotRunnable(spec);
  return spec;
}

}  // namespace

absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint, const WeightFormat* assumed) {
  absl::StatusOr<ModelSpec> spec = ReadSpec(checkpoint, assumed);
  if (!spec.ok()) return Annotate(spec.status(), checkpoint.path());
  return spec;
}

}  // namespace tprun
