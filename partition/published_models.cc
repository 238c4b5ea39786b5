#include "partition/published_models.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/assume_formats.h"

namespace tprun {
namespace {

enum class Family { kLlama, kQwen2, kQwen3, kGemma3, kQwen2Moe, kQwen3Moe, kDeepSeek };

struct Row {
  absl::string_view key;  // in the name, lower case, letters and digits only; the first hit counts
  Family family;
  int layers;
  int64_t dim, ffn_dim;
  int heads, kv_heads, head_dim;
  int64_t vocab;
  bool tied = false;
  int experts = 0, per_token = 0;
  int64_t expert_ffn_dim = 0, shared_ffn_dim = 0;
};

// From the models' config.json on Hugging Face.
constexpr Row kRows[] = {
    {"orpheus", Family::kLlama, 28, 3072, 8192, 24, 8, 128, 156940, true},
    {"llama323b", Family::kLlama, 28, 3072, 8192, 24, 8, 128, 128256, true},
    {"tinyllama", Family::kLlama, 22, 2048, 5632, 32, 4, 64, 32000},
    {"openllama3b", Family::kLlama, 26, 3200, 8640, 32, 32, 100, 32000},
    {"codellama34b", Family::kLlama, 48, 8192, 22016, 64, 8, 128, 32000},
    {"llama318b", Family::kLlama, 32, 4096, 14336, 32, 8, 128, 128256},
    {"llama38b", Family::kLlama, 32, 4096, 14336, 32, 8, 128, 128256},
    {"llama370b", Family::kLlama, 80, 8192, 28672, 64, 8, 128, 128256},
    {"llama270b", Family::kLlama, 80, 8192, 28672, 64, 8, 128, 32000},
    {"llama70b", Family::kLlama, 80, 8192, 28672, 64, 8, 128, 32000},
    {"llama27b", Family::kLlama, 32, 4096, 11008, 32, 32, 128, 32000},
    {"llama7b", Family::kLlama, 32, 4096, 11008, 32, 32, 128, 32000},
    {"vicuna7b", Family::kLlama, 32, 4096, 11008, 32, 32, 128, 32000},
    {"llama213b", Family::kLlama, 40, 5120, 13824, 40, 40, 128, 32000},
    {"llama13b", Family::kLlama, 40, 5120, 13824, 40, 40, 128, 32000},
    {"llama33b", Family::kLlama, 60, 6656, 17920, 52, 52, 128, 32000},
    {"wizardlm33b", Family::kLlama, 60, 6656, 17920, 52, 52, 128, 32000},
    {"mistral7b", Family::kLlama, 32, 4096, 14336, 32, 8, 128, 32000},
    {"distillqwen14b", Family::kQwen2, 48, 5120, 13824, 40, 8, 128, 152064},
    {"qwen257ba14b", Family::kQwen2Moe, 28, 3584, 18944, 28, 4, 128, 151936, false, 64, 8, 2560,
     20480},
    {"qwen2505b", Family::kQwen2, 24, 896, 4864, 14, 2, 64, 151936, true},
    {"qwen2515b", Family::kQwen2, 28, 1536, 8960, 12, 2, 128, 151936, true},
    {"qwen253b", Family::kQwen2, 36, 2048, 11008, 16, 2, 128, 151936, true},
    {"qwen257b", Family::kQwen2, 28, 3584, 18944, 28, 4, 128, 152064},
    {"qwen2514b", Family::kQwen2, 48, 5120, 13824, 40, 8, 128, 152064},
    {"qwen2532b", Family::kQwen2, 64, 5120, 27648, 40, 8, 128, 152064},
    {"qwen2572b", Family::kQwen2, 80, 8192, 29568, 64, 8, 128, 152064},
    {"qwen205b", Family::kQwen2, 24, 896, 4864, 14, 2, 64, 151936, true},
    {"qwen215b", Family::kQwen2, 28, 1536, 8960, 12, 2, 128, 151936, true},
    {"qwen27b", Family::kQwen2, 28, 3584, 18944, 28, 4, 128, 152064},
    {"qwen272b", Family::kQwen2, 80, 8192, 29568, 64, 8, 128, 152064},
    {"qwen7b", Family::kQwen2, 32, 4096, 11008, 32, 32, 128, 151936},
    {"qwen3235ba22b", Family::kQwen3Moe, 94, 4096, 12288, 64, 4, 128, 151936, false, 128, 8, 1536},
    {"qwen330ba3b", Family::kQwen3Moe, 48, 2048, 6144, 32, 4, 128, 151936, false, 128, 8, 768},
    {"qwen34b", Family::kQwen3, 36, 2560, 9728, 32, 8, 128, 151936, true},
    {"qwen314b", Family::kQwen3, 40, 5120, 17408, 40, 8, 128, 151936},
    {"qwen3vl32b", Family::kQwen3, 64, 5120, 25600, 64, 8, 128, 151936},
    {"gemma327b", Family::kGemma3, 62, 5376, 21504, 32, 16, 128, 262208, true},
    {"deepseekv3", Family::kDeepSeek, 61, 7168, 18432, 128, 128, 192, 129280, false, 256, 8, 2048,
     2048},
    {"deepseekr10528", Family::kDeepSeek, 61, 7168, 18432, 128, 128, 192, 129280, false, 256, 8,
     2048, 2048},
};

constexpr absl::string_view ModelType(Family family) {
  switch (family) {
    case Family::kLlama:
      return "llama";
    case Family::kQwen2:
      return "qwen2";
    case Family::kQwen3:
      return "qwen3";
    case Family::kGemma3:
      return "gemma3_text";
    case Family::kQwen2Moe:
      return "qwen2_moe";
    case Family::kQwen3Moe:
      return "qwen3_moe";
    case Family::kDeepSeek:
      return "deepseek_v3";
  }
  return "";
}

Json ConfigOf(const Row& row) {
  Json config = {{"model_type", std::string(ModelType(row.family))},
                 {"num_hidden_layers", row.layers},
                 {"hidden_size", row.dim},
                 {"intermediate_size", row.ffn_dim},
                 {"num_attention_heads", row.heads},
                 {"num_key_value_heads", row.kv_heads},
                 {"head_dim", row.head_dim},
                 {"vocab_size", row.vocab},
                 {"max_position_embeddings", 1 << 18},
                 {"tie_word_embeddings", row.tied}};
  if (row.experts > 0) {
    config["num_experts"] = row.experts;
    config["num_experts_per_tok"] = row.per_token;
    config["moe_intermediate_size"] = row.expert_ffn_dim;
    if (row.shared_ffn_dim > 0) config["shared_expert_intermediate_size"] = row.shared_ffn_dim;
  }
  if (row.family == Family::kDeepSeek) {
    config.update(Json{{"q_lora_rank", 1536},
                       {"kv_lora_rank", 512},
                       {"qk_nope_head_dim", 128},
                       {"qk_rope_head_dim", 64},
                       {"v_head_dim", 128},
                       {"first_k_dense_replace", 3},
                       {"scoring_func", "sigmoid"}});
  }
  return config;
}

std::string Plain(absl::string_view name) {
  if (const size_t slash = name.rfind('/'); slash != absl::string_view::npos) {
    name.remove_prefix(slash + 1);
  }
  std::string plain;
  for (char c : name) {
    if (absl::ascii_isalnum(c)) plain += absl::ascii_tolower(c);
  }
  for (absl::string_view prefix : {"metallama"}) {
    if (absl::StartsWith(plain, prefix)) plain.erase(0, prefix.size() - 5);
  }
  return plain;
}

absl::Status Apply(const Json& quantization, absl::string_view assumed, ModelSpec& spec) {
  Json config = {{"torch_dtype", "float16"}};
  if (!quantization.is_null()) config["quantization_config"] = quantization;
  const WeightFormat* format = nullptr;
  if (!assumed.empty()) {
    ASSIGN_OR_RETURN(format, ParseWeightFormat(assumed));
  }
  return AssumeFormats(config, format, spec);
}

// "q4_k - medium" -> "q4_k_m".
std::string MixName(absl::string_view label) {
  std::string name = absl::AsciiStrToLower(label);
  for (const auto& [words, letter] : {std::pair<const char*, const char*>{" - small", "_s"},
                                      {" - medium", "_m"},
                                      {" - large", "_l"}}) {
    if (const size_t at = name.find(words); at != std::string::npos) {
      name = name.substr(0, at) + letter;
    }
  }
  return name;
}

}  // namespace

absl::StatusOr<ModelSpec> PublishedModel(absl::string_view name) {
  const std::string plain = Plain(name);
  for (const Row& row : kRows) {
    if (!absl::StrContains(plain, row.key)) continue;
    const Json config = ConfigOf(row);
    ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config));
    ASSIGN_OR_RETURN(ModelSpec spec, architecture->build(config, Naming::kHuggingFace));
    spec.name = std::string(name);
    return spec;
  }
  return absl::NotFoundError(absl::StrCat("no published model is called \"", name, "\""));
}

absl::Status SetPublishedFormats(absl::string_view label, ModelSpec& spec) {
  const std::string name = MixName(label);
  const auto has = [&](absl::string_view word) { return absl::StrContains(name, word); };
  const bool eight = has("int8") || has("8-bit");
  if (has("gptq") || has("awq") || has("exl2 4.0") || name == "4-bit" || name == "int4" || eight) {
    const int group = has("g32") ? 32 : has("g64") ? 64 : 128;
    return Apply({{"quant_method", has("awq") ? "awq" : "gptq"},
                  {"bits", eight ? 8 : 4},
                  {"group_size", group}},
                 "", spec);
  }
  if (name == "fp16" || name == "f16" || name == "bf16") return Apply(nullptr, "f16", spec);
  if (name == "fp32" || name == "f32") return Apply(nullptr, "f32", spec);
  if (name == "fp8" || has("fp8")) return Apply({{"quant_method", "fp8"}}, "", spec);
  if (const absl::Status status = Apply(nullptr, name, spec); status.ok()) return status;
  return absl::NotFoundError(
      absl::StrCat("the label \"", label, "\" does not say what types of weights it stands for"));
}

}  // namespace tprun
