#include "engine/arch/gguf_description.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"

namespace tprun {
namespace {

// Ours and general.architecture (llama.cpp: gguf-py/gguf/constants.py).
constexpr std::pair<absl::string_view, absl::string_view> kNames[] = {
    {"llama", "llama"},   {"mistral", "llama"},     {"mixtral", "llama"},     {"qwen2", "qwen2"},
    {"qwen3", "qwen3"},   {"qwen2moe", "qwen2moe"}, {"qwen3moe", "qwen3moe"}, {"gemma", "gemma"},
    {"gemma2", "gemma2"}, {"gemma3", "gemma3"},     {"phi3", "phi3"},
};

absl::StatusOr<std::string> GgufName(const ModelSpec& spec) {
  std::string known;
  for (const auto& [ours, gguf] : kNames) {
    if (spec.architecture == ours) return std::string(gguf);
    absl::StrAppend(&known, known.empty() ? "" : ", ", ours);
  }
  return absl::InvalidArgumentError(absl::StrCat("models of architecture ", spec.architecture,
                                                 " cannot be written as GGUF yet; those of ", known,
                                                 " can"));
}

// meta-llama/llama-models, models/llama3/model.py; llama.cpp keeps the divisors as a tensor.
std::vector<float> Llama3Factors(const RopeSpec& rope) {
  constexpr double kTwoPi = 2 * 3.14159265358979323846;
  const auto context = static_cast<double>(rope.original_context_length);
  std::vector<float> factors(rope.dims / 2);
  for (int i = 0; i < rope.dims / 2; ++i) {
    const double wavelength = kTwoPi / std::pow(rope.theta, -2.0 * i / rope.dims);
    double factor = 1;
    if (wavelength > context / rope.low_freq_factor) {
      factor = rope.factor;
    } else if (wavelength >= context / rope.high_freq_factor) {
      const double smooth = (context / wavelength - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
      factor = 1 / ((1 - smooth) / rope.factor + smooth);
    }
    factors[i] = static_cast<float>(factor);
  }
  return factors;
}

class Writer {
 public:
  Writer(const ModelSpec& spec, std::string name) : spec_(spec), name_(std::move(name)) {}

  Json Write() {
    metadata_["general.architecture"] = name_;
    metadata_["general.name"] = spec_.name;
    const LayerSpec& layer = spec_.layers[0];
    Put("vocab_size", spec_.vocab);
    Put("context_length", spec_.context_length);
    Put("embedding_length", spec_.dim);
    Put("block_count", spec_.num_layers());
    WriteAttention(layer.attention);
    Put("attention.layer_norm_rms_epsilon", static_cast<double>(layer.norm.eps));
    WriteMlp(layer.mlp);
    if (spec_.final_logit_softcap > 0) {
      Put("final_logit_softcapping", static_cast<double>(spec_.final_logit_softcap));
    }
    return std::move(metadata_);
  }

 private:
  void Put(absl::string_view key, Json value) {
    // As a float is what GGUF's readers expect of every fraction.
    if (value.is_number_float()) value = static_cast<float>(value.get<double>());
    metadata_[absl::StrCat(name_, ".", key)] = std::move(value);
  }

  void WriteAttention(const AttentionSpec& attention) {
    Put("attention.head_count", attention.heads);
    Put("attention.head_count_kv", attention.kv_heads);
    Put("attention.key_length", attention.head_dim);
    Put("attention.value_length", attention.values());
    if (attention.logit_softcap > 0) {
      Put("attn_logit_softcapping", static_cast<double>(attention.logit_softcap));
    }
    int64_t window = 0;
    for (const LayerSpec& layer : spec_.layers) window = std::max(window, layer.attention.window);
    if (window > 0 && name_ != "llama") Put("attention.sliding_window", window);
    // The rotation of layers without a window, where layers differ.
    const RopeSpec* rope = &attention.rope;
    for (const LayerSpec& layer : spec_.layers) {
      if (layer.attention.window == 0) rope = &layer.attention.rope;
    }
    Put("rope.dimension_count", rope->dims);
    Put("rope.freq_base", rope->theta);
    if (rope->scaling == RopeScaling::kLinear) {
      Put("rope.scaling.type", "linear");
      Put("rope.scaling.factor", rope->factor);
    }
  }

  void WriteMlp(const MlpSpec& mlp) {
    Put("feed_forward_length", mlp.ffn_dim);
    const ExpertsSpec& experts = mlp.experts;
    if (experts.count == 0) return;
    Put("expert_count", experts.count);
    Put("expert_used_count", experts.per_token);
    if (name_ != "llama") Put("expert_feed_forward_length", mlp.ffn_dim);
    if (experts.shared_ffn_dim > 0) {
      Put("expert_shared_feed_forward_length", experts.shared_ffn_dim);
    }
  }

  const ModelSpec& spec_;
  const std::string name_;
  Json metadata_ = Json::object();
};

std::string RopeDifference(const RopeSpec& a, const RopeSpec& b) {
  if (a.layout == RopeLayout::kNone || b.layout == RopeLayout::kNone) {
    return a.layout == b.layout ? "" : "rotary embedding";
  }
  if (a.dims != b.dims) return "rotated dimensions";
  if (std::fabs(a.theta - b.theta) > 1e-6 * a.theta) return "rope_theta";
  if (a.scaling != b.scaling || a.factor != b.factor) return "rope scaling";
  if (a.factors != b.factors) return "rope factors";
  return "";
}

std::string AttentionDifference(const AttentionSpec& a, const AttentionSpec& b) {
  if (a.heads != b.heads || a.kv_heads != b.kv_heads) return "attention heads";
  if (a.head_dim != b.head_dim || a.values() != b.values()) return "head dimension";
  if (a.is_latent() != b.is_latent()) return "latent attention";
  if (a.qkv_bias != b.qkv_bias || a.out_bias != b.out_bias) return "attention biases";
  if (a.qk_norm != b.qk_norm) return "norms of q and k";
  if (a.window != b.window) return "sliding window";
  if (std::fabs(a.scale - b.scale) > 1e-6f * a.scale) return "attention scale";
  if (a.logit_softcap != b.logit_softcap) return "attention soft cap";
  if (a.sinks != b.sinks) return "attention sinks";
  return RopeDifference(a.rope, b.rope);
}

std::string MlpDifference(const MlpSpec& a, const MlpSpec& b) {
  if (a.activation != b.activation) return "activation";
  if (a.ffn_dim != b.ffn_dim) return "feed-forward columns";
  const ExpertsSpec& x = a.experts;
  const ExpertsSpec& y = b.experts;
  if (x.count != y.count || x.per_token != y.per_token) return "experts";
  if (x.shared_ffn_dim != y.shared_ffn_dim || x.shared_gate != y.shared_gate) {
    return "shared experts";
  }
  if (x.score != y.score || x.normalize != y.normalize || x.scale != y.scale ||
      x.groups != y.groups || x.choice_bias != y.choice_bias || x.router_bias != y.router_bias) {
    return "the experts' router";
  }
  return "";
}

std::string TensorDifference(const ModelSpec& a, const ModelSpec& b) {
  if (a.tensors.size() != b.tensors.size()) return "the number of tensors";
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const TensorSpec& x = a.tensors[i];
    const TensorSpec& y = b.tensors[i];
    if (x.role != y.role || x.block != y.block || x.shape != y.shape || x.experts != y.experts) {
      return absl::StrCat("tensor ", x.name);
    }
  }
  return "";
}

// What the GGUF form of the model is told apart from it: divisors of frequencies for their formula,
// and no window where llama.cpp's `llama` knows none.
void AsGgufHasIt(const std::string& name, GgufDescription& description) {
  int64_t window = 0;
  for (LayerSpec& layer : description.spec.layers) {
    RopeSpec& rope = layer.attention.rope;
    if (rope.scaling == RopeScaling::kLlama3) {
      std::vector<float> factors = Llama3Factors(rope);
      rope = {.layout = rope.layout, .dims = rope.dims, .theta = rope.theta};
      rope.factors = std::move(factors);
    }
    if (name == "llama") window = std::max(window, std::exchange(layer.attention.window, 0));
  }
  if (window > 0 && window < description.spec.context_length) {
    description.note = absl::StrCat("GGUF's llama has no sliding window: beyond position ", window,
                                    " tokens will see more than in the original");
  }
}

}  // namespace

std::string DifferenceOf(const ModelSpec& a, const ModelSpec& b) {
  if (a.dim != b.dim || a.vocab != b.vocab || a.num_layers() != b.num_layers()) {
    return "size of the model";
  }
  if (a.tied_head != b.tied_head) return "tied head";
  if (std::fabs(a.embedding_scale - b.embedding_scale) > 1e-6f * a.embedding_scale) {
    return "scale of the embedding";
  }
  if (a.final_logit_softcap != b.final_logit_softcap) return "final soft cap";
  if (a.final_norm.eps != b.final_norm.eps) return "epsilon of the final norm";
  for (int i = 0; i < a.num_layers(); ++i) {
    const LayerSpec& x = a.layers[i];
    const LayerSpec& y = b.layers[i];
    std::string difference = AttentionDifference(x.attention, y.attention);
    if (difference.empty()) difference = MlpDifference(x.mlp, y.mlp);
    if (x.norm.eps != y.norm.eps) difference = "epsilon of the norms";
    if (x.post_norms != y.post_norms) difference = "norms after the blocks";
    if (!difference.empty()) return absl::StrCat(difference, " of layer ", i);
  }
  return TensorDifference(a, b);
}

absl::StatusOr<GgufDescription> DescribeAsGguf(const Json& config, const ModelSpec& original) {
  ASSIGN_OR_RETURN(const std::string name, GgufName(original));
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config));
  GgufDescription description;
  ASSIGN_OR_RETURN(description.spec, architecture->build(config, Naming::kGguf));
  description.spec.name = original.name;
  // What the original's tensors told.
  if (const std::string difference = DifferenceOf(original, description.spec);
      !difference.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("this model's GGUF form would differ in: ", difference));
  }
  AsGgufHasIt(name, description);
  description.metadata = Writer(description.spec, name).Write();
  return description;
}

}  // namespace tprun
