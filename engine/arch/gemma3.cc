#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// Gemma 3 (arXiv 2503.19786), the text model: Gemma 2 without soft caps, with norms over each head
// of q and k; five layers with a sliding window and rotary base 10000, then one without. A config
// of the models that see images keeps the text model's in "text_config".

namespace tprun {
namespace {

// Configs leave out what equals transformers' Gemma3TextConfig.
Json WithDefaults(const Json& config) {
  Json result = {{"vocab_size", 262208},
                 {"hidden_size", 2304},
                 {"intermediate_size", 9216},
                 {"num_hidden_layers", 26},
                 {"num_attention_heads", 8},
                 {"num_key_value_heads", 4},
                 {"head_dim", 256},
                 {"max_position_embeddings", 131072},
                 {"rms_norm_eps", 1e-6},
                 {"rope_theta", 1e6},
                 {"sliding_window", 4096},
                 {"sliding_window_pattern", 6},
                 {"query_pre_attn_scalar", 256}};
  for (const auto& [key, value] : config.items()) result[key] = value;
  return result;
}

// From transformers 5 on, "rope_parameters" has an entry for each kind of layer.
absl::Status UnpackRope(Json& config) {
  const Json* rope = FindMember(config, "rope_parameters");
  if (rope == nullptr || !rope->is_object()) return absl::OkStatus();
  const Json* local = FindMember(*rope, "sliding_attention");
  const Json* global = FindMember(*rope, "full_attention");
  if (local == nullptr && global == nullptr) return absl::OkStatus();
  if (local == nullptr || global == nullptr || !local->is_object() || !global->is_object()) {
    return absl::InvalidArgumentError(
        "\"rope_parameters\": wanted objects for \"full_attention\" and \"sliding_attention\"");
  }
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(*local, "rope_type", "default"));
  if (type != "default") {
    return absl::InvalidArgumentError(
        absl::StrCat("rope scaling \"", type, "\" of the layers with a window is not supported"));
  }
  ASSIGN_OR_RETURN(const double local_theta, GetDoubleOr(*local, "rope_theta", 10000));
  const Json of_global = *global;  // a member of what is overwritten next
  config["rope_local_base_freq"] = local_theta;
  config["rope_parameters"] = of_global;
  return absl::OkStatus();
}

absl::StatusOr<ModelSpec> BuildText(const Json& given, Naming naming, const std::string& prefix) {
  Json config = given;
  RETURN_IF_ERROR(UnpackRope(config));
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config, /*tied_by_default=*/true));
  RETURN_IF_ERROR(CheckActivation(config, {"gelu_pytorch_tanh", "gelu", "gelu_new"}));
  LayerSpec layer;
  layer.norm = {.eps = numbers.norm_eps, .unit_offset = naming == Naming::kHuggingFace};
  layer.post_norms = true;
  layer.attention = PlainAttention(numbers);
  layer.attention.qk_norm = true;
  // GGUF does not carry the scale; that of the 27B model (62 layers) is dim / heads.
  const int64_t scale_dim = numbers.layers == 62 ? numbers.dim / numbers.heads : numbers.head_dim;
  ASSIGN_OR_RETURN(const double query_scale,
                   GetDoubleOr(config, "query_pre_attn_scalar", scale_dim));
  layer.attention.scale = 1.0f / std::sqrt(static_cast<float>(query_scale));
  layer.mlp = {.activation = Activation::kGeluTanh, .ffn_dim = numbers.ffn_dim};
  ASSIGN_OR_RETURN(const double local_theta, GetDoubleOr(config, "rope_local_base_freq", 10000));
  const Json* types = FindMember(config, "layer_types");
  int64_t pattern = 6;
  if (naming == Naming::kHuggingFace) {
    ASSIGN_OR_RETURN(pattern, GetCountOr(config, "sliding_window_pattern", 10000, 6));
  }
  ModelSpec spec = StartSpec("gemma3", numbers);
  spec.tied_head = true;
  spec.final_norm = layer.norm;
  spec.embedding_scale = std::sqrt(static_cast<float>(numbers.dim));
  for (int i = 0; i < numbers.layers; ++i) {
    bool local = (i + 1) % pattern != 0;
    if (types != nullptr && types->is_array() && i < static_cast<int>(types->size())) {
      local = (*types)[i] == "sliding_attention";
    }
    LayerSpec here = layer;
    if (local) {
      here.attention.window = numbers.sliding_window;
      here.attention.rope.theta = local_theta;
      here.attention.rope.scaling = RopeScaling::kNone;
    }
    spec.layers.push_back(here);
  }
  DecoderNames names = StandardNames(naming);
  if (naming == Naming::kHuggingFace) {
    names.attention_post_norm = "model.layers.{i}.post_attention_layernorm.weight";
    names.mlp_norm = "model.layers.{i}.pre_feedforward_layernorm.weight";
    names.mlp_post_norm = "model.layers.{i}.post_feedforward_layernorm.weight";
  }
  AddDecoderTensors(names, spec);
  for (TensorSpec& tensor : spec.tensors) tensor.name = prefix + tensor.name;
  return spec;
}

absl::StatusOr<ModelSpec> BuildGemma3(const Json& config, Naming naming) {
  if (naming == Naming::kGguf) return BuildText(config, naming, "");
  const Json* text = FindMember(config, "text_config");
  if (text == nullptr) return BuildText(WithDefaults(config), naming, "");
  if (!text->is_object()) {
    return absl::InvalidArgumentError("\"text_config\": wanted an object");
  }
  Json merged = WithDefaults(*text);
  if (const Json* name = FindMember(config, "_name")) merged["_name"] = *name;
  return BuildText(merged, naming, "language_model.");
}

}  // namespace

extern const Architecture kGemma3 = {"gemma3", {"gemma3", "gemma3_text"}, BuildGemma3};

}  // namespace tprun
