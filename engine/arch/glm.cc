#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/decoder.h"
#include "engine/arch/model_config.h"

// GLM-4 in its two namings: `glm` and `glm4` (Hugging Face's, arXiv 2406.12793) and `chatglm`
// (ChatGLMModel, as GLM-4-Voice ships, and in GGUF). Interleaved rotary pairs over the first half
// of each head; gate and up are one tensor, in chatglm q, k and v too.

namespace tprun {
namespace {

ModelSpec GlmSpec(absl::string_view architecture, const ModelConfig& numbers, bool qkv_bias,
                  bool post_norms) {
  LayerSpec layer;
  layer.norm.eps = numbers.norm_eps;
  layer.post_norms = post_norms;
  layer.attention = PlainAttention(numbers);
  layer.attention.qkv_bias = qkv_bias;
  layer.attention.rope.layout = RopeLayout::kInterleaved;
  layer.mlp = {.activation = Activation::kSilu, .ffn_dim = numbers.ffn_dim};
  ModelSpec spec = StartSpec(architecture, numbers);
  spec.layers.assign(numbers.layers, layer);
  return spec;
}

absl::StatusOr<ModelSpec> BuildGlm(const Json& config, Naming naming) {
  const bool gguf = naming == Naming::kGguf;  // of glm4 alone: glm is a chatglm there
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  RETURN_IF_ERROR(CheckActivation(config, {"silu", "swish"}));
  ASSIGN_OR_RETURN(const std::string type, GetString(config, "model_type"));
  ASSIGN_OR_RETURN(const bool bias, GetBoolOr(config, "attention_bias", false));
  ModelSpec spec = GlmSpec(type, numbers, bias, /*post_norms=*/type == "glm4");
  DecoderNames names = StandardNames(naming);
  names.gate = names.up =
      gguf ? "blk.{i}.ffn_up.weight" : "model.layers.{i}.mlp.gate_up_proj.weight";
  if (!gguf) {
    names.attention_post_norm = "model.layers.{i}.post_self_attn_layernorm.weight";
    names.mlp_post_norm = "model.layers.{i}.post_mlp_layernorm.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

// ChatGLM's own config keys under the names that ReadModelConfig knows.
absl::StatusOr<Json> TranslateChatGlm(const Json& config) {
  Json result = config;
  const std::pair<const char*, const char*> renamed[] = {
      {"num_layers", "num_hidden_layers"},
      {"ffn_hidden_size", "intermediate_size"},
      {"padded_vocab_size", "vocab_size"},
      {"seq_length", "max_position_embeddings"},
      {"kv_channels", "head_dim"},
      {"layernorm_epsilon", "rms_norm_eps"},
      {"multi_query_group_num", "num_key_value_heads"}};
  for (const auto& [from, to] : renamed) {
    if (const Json* value = FindMember(config, from)) result[to] = *value;
  }
  ASSIGN_OR_RETURN(const bool multi_query, GetBoolOr(config, "multi_query_attention", true));
  if (!multi_query) result.erase("num_key_value_heads");
  ASSIGN_OR_RETURN(const double ratio, GetDoubleOr(config, "rope_ratio", 1));
  result["rope_theta"] = 10000 * ratio;
  result["partial_rotary_factor"] = 0.5;
  return result;
}

absl::StatusOr<ModelSpec> BuildChatGlm(const Json& config, Naming naming) {
  const bool gguf = naming == Naming::kGguf;
  Json translated = config;
  if (!gguf) {
    ASSIGN_OR_RETURN(translated, TranslateChatGlm(config));
  }
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(translated));
  // A GGUF tells by its tensors.
  const char* const bias_key = gguf ? "attention_bias" : "add_qkv_bias";
  ASSIGN_OR_RETURN(const bool bias, GetBoolOr(config, bias_key, true));
  ModelSpec spec = GlmSpec("chatglm", numbers, bias, /*post_norms=*/false);
  DecoderNames names = StandardNames(naming);
  if (gguf) {
    names.query = names.key = names.value = "blk.{i}.attn_qkv.weight";
    names.gate = "blk.{i}.ffn_up.weight";
  } else {
    const std::string layer = "transformer.encoder.layers.{i}.";
    names.embedding = "transformer.embedding.word_embeddings.weight";
    names.final_norm = "transformer.encoder.final_layernorm.weight";
    names.head = "transformer.output_layer.weight";
    names.attention_norm = layer + "input_layernorm.weight";
    names.query = names.key = names.value = layer + "self_attention.query_key_value.weight";
    names.attention_out = layer + "self_attention.dense.weight";
    names.mlp_norm = layer + "post_attention_layernorm.weight";
    names.gate = names.up = layer + "mlp.dense_h_to_4h.weight";
    names.down = layer + "mlp.dense_4h_to_h.weight";
  }
  AddDecoderTensors(names, spec);
  return spec;
}

}  // namespace

extern const Architecture kGlm = {"glm", {"glm", "glm4"}, BuildGlm};
extern const Architecture kChatGlm = {"chatglm", {"chatglm"}, BuildChatGlm};

}  // namespace tprun
