#include "engine/arch/gguf_description.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/gguf_metadata.h"
#include "engine/checkpoint/checkpoint_builder.h"
#include "engine/checkpoint/gguf.h"

namespace tprun {
namespace {

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

std::string RopeDifference(const RopeSpec& a, const RopeSpec& b) {
  if (a.layout == RopeLayout::kNone || b.layout == RopeLayout::kNone) {
    return a.layout == b.layout ? "" : "rotary embedding";
  }
  if (a.dims != b.dims) return "rotated dimensions";
  if (std::fabs(a.theta - b.theta) > 1e-6 * a.theta) return "rope_theta";
  if (a.scaling != b.scaling) return "rope scaling";
  if (a.scaling != RopeScaling::kLongRope && a.factor != b.factor) return "rope scaling";
  if (a.factors != b.factors || a.long_factors != b.long_factors) return "rope factors";
  if (std::fabs(a.magnitude - b.magnitude) > 1e-5f * a.magnitude) return "rope magnitude";
  const bool original = a.scaling == RopeScaling::kYarn || a.scaling == RopeScaling::kLongRope;
  if (original && a.original_context_length != b.original_context_length) {
    return "original context of the rope scaling";
  }
  if (a.scaling == RopeScaling::kYarn &&
      (a.beta_fast != b.beta_fast || a.beta_slow != b.beta_slow || a.truncate != b.truncate)) {
    return "borders of the rope scaling";
  }
  return "";
}

std::string AttentionDifference(const AttentionSpec& a, const AttentionSpec& b) {
  if (a.heads != b.heads || a.kv_heads != b.kv_heads) return "attention heads";
  if (a.head_dim != b.head_dim || a.values() != b.values()) return "head dimension";
  if (a.latent.query_rank != b.latent.query_rank || a.latent.kv_rank != b.latent.kv_rank ||
      a.latent.rope_dim != b.latent.rope_dim) {
    return "latent attention";
  }
  if (a.qkv_bias != b.qkv_bias || a.out_bias != b.out_bias) return "attention biases";
  if (a.qk_norm != b.qk_norm) return "norms of q and k";
  if (a.window != b.window) return "sliding window";
  if (std::fabs(a.scale - b.scale) > 3e-6f * a.scale) return "attention scale";
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
      x.groups != y.groups || x.groups_per_token != y.groups_per_token ||
      x.expert_biases != y.expert_biases || x.choice_bias != y.choice_bias ||
      x.router_bias != y.router_bias) {
    return "the experts' router";
  }
  return "";
}

// A head's projection of keys is turned round in GGUF.
bool IsTurned(const TensorSpec& x, const TensorSpec& y) {
  return x.role == TensorRole::kKeyUp && y.role == TensorRole::kKeyUpTransposed &&
         x.shape[0] / x.experts == y.shape[1] && x.shape[1] == y.shape[0] / y.experts;
}

std::string TensorDifference(const ModelSpec& a, const ModelSpec& b) {
  if (a.tensors.size() != b.tensors.size()) return "the number of tensors";
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const TensorSpec& x = a.tensors[i];
    const TensorSpec& y = b.tensors[i];
    const bool same = x.role == y.role && x.shape == y.shape;
    if (!(same || IsTurned(x, y)) || x.block != y.block || x.experts != y.experts) {
      return absl::StrCat("tensor ", x.name);
    }
  }
  return "";
}

// As its GGUF form tells of the model: divisors of frequencies for their formula, and no window
// where llama.cpp's `llama` knows none.
ModelSpec AsGgufTells(const ModelSpec& original, const std::string& name) {
  ModelSpec spec = original;
  for (LayerSpec& layer : spec.layers) {
    RopeSpec& rope = layer.attention.rope;
    if (rope.scaling == RopeScaling::kLlama3) {
      std::vector<float> factors = Llama3Factors(rope);
      rope = {.layout = rope.layout, .dims = rope.dims, .theta = rope.theta};
      rope.factors = std::move(factors);
    }
    if (name == "llama") layer.attention.window = 0;
  }
  return spec;
}

std::string WindowNote(const ModelSpec& original, const std::string& name) {
  int64_t window = 0;
  for (const LayerSpec& layer : original.layers) {
    window = std::max(window, layer.attention.window);
  }
  if (name != "llama" || window == 0 || window >= original.context_length) return "";
  return absl::StrCat("GGUF's llama has no sliding window: beyond position ", window,
                      " tokens will see more than in the original");
}

// The spec of a file with this metadata and the tensors whose presence tells something.
absl::StatusOr<ModelSpec> SpecOfMetadata(const Json& metadata, const ModelSpec& told) {
  CheckpointBuilder builder(CheckpointKind::kGguf, "its GGUF form");
  builder.SetMetadata(metadata);
  const auto put = [&](const char* name, bool is_there) {
    if (is_there) builder.AddPacked({.name = name});
  };
  const AttentionSpec& attention = told.layers[0].attention;
  put("token_embd.weight", true);
  put("output.weight", !told.tied_head);
  put("blk.0.attn_q.bias", attention.qkv_bias);
  put("rope_factors_long.weight", attention.rope.scaling == RopeScaling::kLongRope);
  ASSIGN_OR_RETURN(const Json config, GgufConfig(*std::move(builder).Build()));
  ASSIGN_OR_RETURN(const Architecture* architecture, FindArchitecture(config));
  ASSIGN_OR_RETURN(ModelSpec spec, architecture->build(config, Naming::kGguf));
  spec.name = told.name;
  for (int i = 0; i < std::min(spec.num_layers(), told.num_layers()); ++i) {
    spec.layers[i].attention.rope.factors = told.layers[i].attention.rope.factors;
    spec.layers[i].attention.rope.long_factors = told.layers[i].attention.rope.long_factors;
  }
  return spec;
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

absl::StatusOr<GgufDescription> DescribeAsGguf(const ModelSpec& original) {
  ASSIGN_OR_RETURN(const std::string name, GgufArchitecture(original));
  const ModelSpec told = AsGgufTells(original, name);
  GgufDescription description;
  description.metadata = GgufMetadata(told, name);
  ASSIGN_OR_RETURN(description.spec, SpecOfMetadata(description.metadata, told));
  const std::string difference = DifferenceOf(told, description.spec);
  if (!difference.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("this model's GGUF form would differ in: ", difference));
  }
  description.note = WindowNote(original, name);
  return description;
}

}  // namespace tprun
