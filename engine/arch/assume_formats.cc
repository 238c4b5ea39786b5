#include "engine/arch/assume_formats.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/format/int_groups.h"

namespace tprun {
namespace {

bool IsMatrix(const TensorSpec& tensor) { return tensor.shape.size() > 1; }

bool IsPlain(const WeightFormat& format) {
  return &format == &kF32Format || &format == &kF16Format || &format == &kBF16Format;
}

// Which matrices quantisers leave alone whatever the config says.
bool StaysWide(TensorRole role) {
  return role == TensorRole::kEmbedding || role == TensorRole::kHead ||
         role == TensorRole::kRouter || role == TensorRole::kSharedRouter;
}

// Patterns are module names or parts of them, with "*" for any text; compressed-tensors also writes
// "re:.*lm_head".
bool MatchesModule(absl::string_view name, absl::string_view pattern) {
  absl::ConsumePrefix(&pattern, "re:");
  const std::vector<absl::string_view> parts = absl::StrSplit(pattern, absl::ByAnyChar("*"));
  size_t from = 0;
  for (absl::string_view part : parts) {
    part = absl::StripSuffix(absl::StripSuffix(part, "."), "$");
    const size_t at = name.find(part, from);
    if (at == absl::string_view::npos) return false;
    from = at + part.size();
  }
  return true;
}

std::vector<std::string> LeftOutModules(const Json& quantization) {
  std::vector<std::string> modules;
  for (const char* key :
       {"modules_to_not_convert", "ignore", "ignored_layers", "llm_int8_skip_modules"}) {
    const Json* list = FindMember(quantization, key);
    if (list == nullptr || !list->is_array()) continue;
    for (const Json& entry : *list) {
      if (entry.is_string()) modules.push_back(entry.get<std::string>());
    }
  }
  return modules;
}

// As AutoGPTQ, AutoAWQ and compressed-tensors have them; a group of -1 is a whole row.
const WeightFormat* Integers(int64_t bits, int64_t group, DType scale) {
  if (bits != 4 && bits != 8) return nullptr;
  return FindIntGroupFormat(static_cast<int>(bits), group > 0 ? group : 128, scale);
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

// Whether a group of layers names `tensor` among its targets: modules, or "Linear" for all.
bool IsTarget(const Json& group, absl::string_view tensor) {
  const Json* targets = FindMember(group, "targets");
  if (targets == nullptr || !targets->is_array()) return false;
  return std::any_of(targets->begin(), targets->end(), [&](const Json& target) {
    return target.is_string() && MatchesModule(tensor, target.get<std::string>());
  });
}

// The weights of the group that names `tensor`, else those of the last.
const Json* WeightsOfGroup(const Json& quantization, absl::string_view tensor) {
  const Json* groups = FindMember(quantization, "config_groups");
  if (groups == nullptr || !groups->is_object()) return nullptr;
  const Json* weights = nullptr;
  for (const Json& group : *groups) {
    weights = FindMember(group, "weights");
    if (IsTarget(group, tensor)) break;
  }
  return weights;
}

absl::StatusOr<const WeightFormat*> CompressedTensors(const Json& config, const Json& quantization,
                                                      absl::string_view tensor) {
  const Json* weights = WeightsOfGroup(quantization, tensor);
  if (weights == nullptr) {
    return absl::InvalidArgumentError("\"config_groups\" of compressed-tensors has no weights");
  }
  ASSIGN_OR_RETURN(const int64_t bits, GetIntOr(*weights, "num_bits", 8));
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(*weights, "type", "int"));
  ASSIGN_OR_RETURN(const int64_t group, GetIntOr(*weights, "group_size", 128));
  if (type == "float" && bits == 8) return &kFp8Format;
  if (type == "float" && bits == 4) return FindWeightFormat("nvfp4");
  // Scales have the type of the weights that were quantised.
  ASSIGN_OR_RETURN(const WeightFormat* wide, ConfigFormat(config));
  const absl::StatusOr<DType> scale = ParseDType(wide->name);
  return Integers(bits, group, scale.value_or(DType::kBF16));
}

// The formats with an encoder whose blocks rows of all these widths can be cut into.
std::string FormatsThatFit(const std::set<int64_t>& widths) {
  std::vector<absl::string_view> names;
  for (const WeightFormat* format : AllWeightFormats()) {
    const bool fits = std::all_of(widths.begin(), widths.end(), [&](int64_t width) {
      return width % format->block_elements == 0;
    });
    if (fits && format->quantize != nullptr) names.push_back(format->name);
  }
  return absl::StrJoin(names, ", ");
}

// The largest block of a mixture's tensors is its own.
std::set<int64_t> WidthsThatDoNotFit(const WeightFormat& wanted, const ModelSpec& spec) {
  std::set<int64_t> widths;
  for (const TensorSpec& tensor : spec.tensors) {
    if (!IsMatrix(tensor)) continue;
    const WeightFormat& format = *FormatInMix(&wanted, spec, tensor);
    if (tensor.shape[1] % format.block_elements != 0) widths.insert(tensor.shape[1]);
  }
  return widths;
}

// What ggml's quantiser takes for rows that are no whole number of `wanted`'s blocks.
const WeightFormat* Fallback(const WeightFormat* wanted, int64_t columns) {
  if (columns % wanted->block_elements == 0) return wanted;
  const WeightFormat* smaller = nullptr;
  if (wanted->name == "q4_k") smaller = FindWeightFormat("q5_0");
  if (wanted->name == "q5_k") smaller = FindWeightFormat("q5_1");
  if (wanted->name == "q6_k") smaller = &kQ8_0Format;
  if (wanted->name == "q2_k" || wanted->name == "q3_k" || wanted->name == "iq4_xs") {
    smaller = FindWeightFormat("iq4_nl");
  }
  if (wanted == &kFp8Format) smaller = &kFp8B32Format;
  if (smaller != nullptr && columns % smaller->block_elements == 0) return smaller;
  return &kF16Format;
}

bool IsLinear(const TensorSpec& tensor, const std::vector<std::string>& left_out) {
  if (!IsMatrix(tensor) || StaysWide(tensor.role)) return false;
  for (const std::string& module : left_out) {
    if (MatchesModule(tensor.name, module)) return false;
  }
  return true;
}

}  // namespace

absl::Status ConvertFormats(const WeightFormat& wanted, ModelSpec& spec) {
  int64_t fitting = 0;
  std::vector<const WeightFormat*> formats;
  for (const TensorSpec& tensor : spec.tensors) {
    if (!IsMatrix(tensor)) {
      formats.push_back(tensor.format);
      continue;
    }
    const WeightFormat* in_mix = FormatInMix(&wanted, spec, tensor);
    const WeightFormat* format = Fallback(in_mix, tensor.shape[1]);
    if (format == in_mix) ++fitting;
    formats.push_back(format);
    if (format == tensor.format) continue;
    if (!tensor.format->decodable()) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" is of type ",
                                                     tensor.format->name,
                                                     ", which cannot be read"));
    }
    if (!IsPlain(*tensor.format) && !IsPlain(wanted)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the checkpoint holds ", tensor.format->name, " weights (\"", tensor.name,
          "\"), which would lose more if they were quantised again: leave --weights out, take "
          "f32, f16 or bf16, or a checkpoint that is not quantised"));
    }
    if (format->quantize == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no encoder for ", format->name,
                       " weights; there is one for: ", FormatsThatFit({})));
    }
  }
  if (fitting == 0) {
    const std::set<int64_t> widths = WidthsThatDoNotFit(wanted, spec);
    return absl::InvalidArgumentError(absl::StrCat(
        "rows of ", absl::StrJoin(widths, ", "), " elements are no whole number of ", wanted.name,
        "'s blocks of ", wanted.block_elements, "; formats that fit: ", FormatsThatFit(widths)));
  }
  for (size_t i = 0; i < formats.size(); ++i) spec.tensors[i].format = formats[i];
  return absl::OkStatus();
}

std::string FallbackNote(const WeightFormat& wanted, const ModelSpec& spec) {
  std::map<absl::string_view, int> counts;
  std::set<int64_t> widths;
  for (const TensorSpec& tensor : spec.tensors) {
    if (!IsMatrix(tensor) || tensor.format == FormatInMix(&wanted, spec, tensor)) continue;
    ++counts[tensor.format->name];
    widths.insert(tensor.shape[1]);
  }
  if (counts.empty()) return "";
  return absl::StrCat("rows of ", absl::StrJoin(widths, ", "), " elements are no whole number of ",
                      wanted.name, "'s blocks of ", wanted.block_elements,
                      ": matrices by format they got instead: ",
                      absl::StrJoin(counts, ", ", absl::PairFormatter(" ")));
}

absl::StatusOr<const WeightFormat*> QuantizedFormat(const Json& config, absl::string_view tensor) {
  const Json* quantization = FindMember(config, "quantization_config");
  if (quantization == nullptr) return nullptr;
  ASSIGN_OR_RETURN(const std::string method, GetStringOr(*quantization, "quant_method", ""));
  const WeightFormat* format = nullptr;
  if (method == "fp8" || method == "fbgemm_fp8") format = &kFp8Format;
  if (method == "mxfp4") format = FindWeightFormat("mxfp4");
  if (method == "modelopt") {
    ASSIGN_OR_RETURN(const std::string algorithm, GetStringOr(*quantization, "quant_algo", ""));
    if (algorithm == "FP8") format = &kFp8Format;
  }
  if (method == "compressed-tensors") {
    ASSIGN_OR_RETURN(format, CompressedTensors(config, *quantization, tensor));
  }
  if (method == "gptq" || method == "awq") {
    ASSIGN_OR_RETURN(const int64_t bits, GetIntOr(*quantization, "bits", 4));
    ASSIGN_OR_RETURN(const int64_t group, GetIntOr(*quantization, "group_size", 128));
    ASSIGN_OR_RETURN(const bool scattered, GetBoolOr(*quantization, "desc_act", false));
    format = Integers(bits, group, DType::kF16);
    // Act-order: groups are not pieces of a row, see engine/checkpoint/gptq.cc.
    if (format != nullptr && method == "gptq" && scattered && group > 0) format = &kF16Format;
  }
  if (method == "bitsandbytes") {
    ASSIGN_OR_RETURN(const bool four, GetBoolOr(*quantization, "load_in_4bit", false));
    ASSIGN_OR_RETURN(const std::string type,
                     GetStringOr(*quantization, "bnb_4bit_quant_type", "fp4"));
    format = !four ? &kBnbInt8Format : type == "nf4" ? &kNf4Format : &kFp4Format;
  }
  if (format != nullptr) return format;
  return absl::InvalidArgumentError(absl::StrCat("quantization_config of method \"", method,
                                                 "\" is unknown in this form; read are ",
                                                 kReadableQuantisers));
}

// Scales are found while running, also where the checkpoint has some of its own: "static" ones are
// for speed.
bool DeclaresFp8Activations(const Json& config) {
  const Json* quantization = FindMember(config, "quantization_config");
  if (quantization == nullptr || !quantization->is_object()) return false;
  const std::string method = GetStringOr(*quantization, "quant_method", "").value_or("");
  if (method == "fbgemm_fp8") return true;  // always per token
  if (method == "fp8") {
    const std::string scheme = GetStringOr(*quantization, "activation_scheme", "").value_or("");
    return scheme == "dynamic" || scheme == "static";
  }
  const Json* groups = FindMember(*quantization, "config_groups");
  if (method != "compressed-tensors" || groups == nullptr || !groups->is_object()) return false;
  if (groups->empty()) return false;
  const Json* inputs = FindMember(groups->begin().value(), "input_activations");
  return inputs != nullptr && inputs->is_object() &&
         GetStringOr(*inputs, "type", "").value_or("") == "float" &&
         GetIntOr(*inputs, "num_bits", 0).value_or(0) == 8;
}

absl::Status AssumeFormats(const Json& config, const WeightFormat* assumed, ModelSpec& spec) {
  ASSIGN_OR_RETURN(const WeightFormat* wide, ConfigFormat(config));
  std::vector<std::string> left_out;
  const Json* quantization = FindMember(config, "quantization_config");
  if (quantization != nullptr) left_out = LeftOutModules(*quantization);
  for (TensorSpec& tensor : spec.tensors) {
    if (!IsMatrix(tensor)) {
      tensor.format = &kF32Format;
      continue;
    }
    const WeightFormat* format = wide;
    if (assumed != nullptr) {
      format = FormatInMix(assumed, spec, tensor);
    } else if (quantization != nullptr && IsLinear(tensor, left_out)) {
      const auto quantized = QuantizedFormat(config, tensor.name);
      if (!quantized.ok()) {
        return absl::Status(quantized.status().code(), absl::StrCat(quantized.status().message(),
                                                                    "; or say --weights=FORMAT"));
      }
      format = *quantized;
    }
    tensor.format = Fallback(format, tensor.shape[1]);
  }
  return absl::OkStatus();
}

}  // namespace tprun
