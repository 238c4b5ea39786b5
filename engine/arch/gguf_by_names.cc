#include "engine/arch/gguf_by_names.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/arch/model_config.h"

namespace tprun {
namespace {

struct Kind {
  absl::string_view suffix;  // after "blk.N."
  TensorRole role;
  SplitRule split;
};

constexpr Kind kKinds[] = {
    {"attn_q.weight", TensorRole::kQuery, SplitRule::kColumn},
    {"attn_k.weight", TensorRole::kKey, SplitRule::kColumn},
    {"attn_v.weight", TensorRole::kValue, SplitRule::kColumn},
    {"attn_q.bias", TensorRole::kQueryBias, SplitRule::kColumn},
    {"attn_k.bias", TensorRole::kKeyBias, SplitRule::kColumn},
    {"attn_v.bias", TensorRole::kValueBias, SplitRule::kColumn},
    {"attn_output.weight", TensorRole::kAttentionOut, SplitRule::kRow},
    {"ffn_gate.weight", TensorRole::kGate, SplitRule::kColumn},
    {"ffn_up.weight", TensorRole::kUp, SplitRule::kColumn},
    {"ffn_down.weight", TensorRole::kDown, SplitRule::kRow},
    {"ffn_gate_exps.weight", TensorRole::kExpertGate, SplitRule::kColumn},
    {"ffn_up_exps.weight", TensorRole::kExpertUp, SplitRule::kColumn},
    {"ffn_down_exps.weight", TensorRole::kExpertDown, SplitRule::kColumn},
};

class SpecMaker {
 public:
  SpecMaker(const Checkpoint& checkpoint, const ModelConfig& numbers, const ExpertsSpec& experts,
            int64_t expert_ffn_dim)
      : checkpoint_(checkpoint), spec_(StartSpec("", numbers)) {
    LayerSpec layer;
    layer.attention = PlainAttention(numbers);
    layer.norm.eps = numbers.norm_eps;
    layer.mlp.ffn_dim = experts.count > 0 ? expert_ffn_dim : numbers.ffn_dim;
    layer.mlp.experts = experts;
    spec_.layers.assign(numbers.layers, layer);
    dense_ffn_dim_ = numbers.ffn_dim;
  }

  ModelSpec Make() {
    MarkDenseLayers();
    for (const auto& [name, source] : checkpoint_.tensors()) Add(source);
    spec_.tied_head = checkpoint_.Find("output.weight") == nullptr;
    if (spec_.tied_head) AddTiedHead();
    std::stable_sort(spec_.tensors.begin(), spec_.tensors.end(),
                     [](const auto& a, const auto& b) { return a.block < b.block; });
    return std::move(spec_);
  }

 private:
  void MarkDenseLayers() {
    for (int i = 0; i < spec_.num_layers(); ++i) {
      if (checkpoint_.Find(absl::StrCat("blk.", i, ".ffn_down_exps.weight")) != nullptr) continue;
      spec_.layers[i].mlp = MlpSpec{.ffn_dim = dense_ffn_dim_};
    }
  }

  // "blk.7.attn_q.weight" -> layer 7, "attn_q.weight"; false if it is not of a layer.
  bool ParseName(absl::string_view name, int* layer, absl::string_view* suffix) const {
    if (!absl::ConsumePrefix(&name, "blk.")) return false;
    const size_t dot = name.find('.');
    if (dot == absl::string_view::npos || !absl::SimpleAtoi(name.substr(0, dot), layer)) {
      return false;
    }
    *suffix = name.substr(dot + 1);
    return *layer >= 0 && *layer < spec_.num_layers();
  }

  void Add(const CheckpointTensor& source) {
    TensorSpec tensor;
    tensor.name = source.name;
    tensor.role = TensorRole::kOther;
    tensor.shape = Flat(source.shape);
    int layer = 0;
    absl::string_view suffix;
    if (ParseName(source.name, &layer, &suffix)) {
      const bool mlp = absl::StartsWith(suffix, "ffn") || absl::StartsWith(suffix, "exp_") ||
                       absl::StartsWith(suffix, "post_ffw");
      tensor.block = mlp ? spec_.mlp_block(layer) : spec_.attention_block(layer);
      SetKind(suffix, source, spec_.layers[layer], tensor);
    } else {
      SetOutside(tensor);
    }
    spec_.tensors.push_back(std::move(tensor));
  }

  static std::vector<int64_t> Flat(const std::vector<int64_t>& shape) {
    if (shape.size() < 2) return {shape.empty() ? 1 : shape[0]};
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return {rows, shape.back()};
  }

  static void SetKind(absl::string_view suffix, const CheckpointTensor& source,
                      const LayerSpec& layer, TensorSpec& tensor) {
    for (const Kind& kind : kKinds) {
      if (kind.suffix != suffix || !Fits(kind.role, source.shape, layer)) continue;
      tensor.role = kind.role;
      tensor.split = kind.split;
      if (source.shape.size() == 3) tensor.experts = static_cast<int>(source.shape[0]);
    }
  }

  // Only what has the expected size is cut.
  static bool Fits(TensorRole role, const std::vector<int64_t>& shape, const LayerSpec& layer) {
    const AttentionSpec& attention = layer.attention;
    switch (role) {
      case TensorRole::kQuery:
      case TensorRole::kQueryBias:
        return shape[0] == int64_t{attention.heads} * attention.head_dim;
      case TensorRole::kKey:
      case TensorRole::kKeyBias:
        return shape[0] == int64_t{attention.kv_heads} * attention.head_dim;
      case TensorRole::kValue:
      case TensorRole::kValueBias:
        return shape[0] == int64_t{attention.kv_heads} * attention.values();
      case TensorRole::kAttentionOut:
        return shape.size() == 2 && shape[1] == int64_t{attention.heads} * attention.values();
      case TensorRole::kGate:
      case TensorRole::kUp:
        return layer.mlp.experts.count == 0 && shape[0] == layer.mlp.ffn_dim;
      case TensorRole::kDown:
        return layer.mlp.experts.count == 0 && shape.size() == 2 && shape[1] == layer.mlp.ffn_dim;
      default:
        return shape.size() == 3 && shape[0] == layer.mlp.experts.count;
    }
  }

  void SetOutside(TensorSpec& tensor) const {
    if (tensor.name == "token_embd.weight") {
      tensor.role = TensorRole::kEmbedding;
      tensor.block = spec_.embed_block();
    } else if (tensor.name == "output.weight") {
      tensor.role = TensorRole::kHead;
      tensor.block = spec_.head_block();
    } else {
      tensor.block =
          absl::StartsWith(tensor.name, "output") || absl::StartsWith(tensor.name, "blk.")
              ? spec_.head_block()
              : spec_.embed_block();
      return;
    }
    if (tensor.shape[0] == spec_.vocab) tensor.split = SplitRule::kColumn;
  }

  void AddTiedHead() {
    for (const TensorSpec& embedding : spec_.tensors) {
      if (embedding.role != TensorRole::kEmbedding) continue;
      TensorSpec head = embedding;
      head.role = TensorRole::kHead;
      head.block = spec_.head_block();
      spec_.tensors.push_back(std::move(head));
      return;
    }
  }

  const Checkpoint& checkpoint_;
  ModelSpec spec_;
  int64_t dense_ffn_dim_ = 0;
};

}  // namespace

absl::StatusOr<ModelSpec> SpecFromTensorNames(const Checkpoint& checkpoint) {
  Json config = checkpoint.config();
  // Models without attention or without an MLP in some layers leave these out.
  if (FindMember(config, "num_attention_heads") == nullptr) config["num_attention_heads"] = 1;
  if (FindMember(config, "intermediate_size") == nullptr) config["intermediate_size"] = 1;
  config.erase("rope_scaling");
  ASSIGN_OR_RETURN(const ModelConfig numbers, ReadModelConfig(config));
  int64_t expert_ffn_dim = 0;
  ASSIGN_OR_RETURN(const ExpertsSpec experts, ReadExperts(config, &expert_ffn_dim, true));
  ModelSpec spec = SpecMaker(checkpoint, numbers, experts, expert_ffn_dim).Make();
  ASSIGN_OR_RETURN(spec.architecture, GetString(config, "model_type"));
  spec.not_runnable =
      absl::StrCat("the engine does not know the architecture \"", spec.architecture, "\"");
  return spec;
}

}  // namespace tprun
