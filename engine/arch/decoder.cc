#include "engine/arch/decoder.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

// One tensor of a layer, before fused neighbours are told their rows.
struct Part {
  TensorRole role;
  const std::string& name;
  int64_t rows;
};

class LayerTensors {
 public:
  LayerTensors(ModelSpec& spec, int layer)
      : spec_(spec),
        layer_(layer),
        dim_(spec.dim),
        attention_(spec.layers[layer].attention),
        mlp_(spec.layers[layer].mlp) {}

  void Add(const DecoderNames& names) {
    block_ = spec_.attention_block(layer_);
    AddVector(TensorRole::kNorm, names.attention_norm, dim_);
    if (attention_.is_latent()) {
      AddLatentAttention(names);
    } else {
      AddAttention(names);
    }
    AddAttentionOut(names);
    block_ = spec_.mlp_block(layer_);
    AddVector(TensorRole::kNorm, names.mlp_norm, dim_);
    if (mlp_.experts.count > 0) {
      AddExperts(names);
    } else {
      AddMlp(names);
    }
    if (spec_.layers[layer_].post_norms) {
      AddVector(TensorRole::kPostNorm, names.mlp_post_norm, dim_);
    }
  }

 private:
  std::string Name(absl::string_view pattern) const {
    return absl::StrReplaceAll(pattern, {{"{i}", absl::StrCat(layer_)}});
  }

  TensorSpec& AddTensor(TensorRole role, absl::string_view pattern, std::vector<int64_t> shape,
                        SplitRule split) {
    TensorSpec tensor;
    tensor.role = role;
    tensor.block = block_;
    tensor.name = Name(pattern);
    tensor.shape = std::move(shape);
    tensor.split = split;
    spec_.tensors.push_back(std::move(tensor));
    return spec_.tensors.back();
  }

  void AddVector(TensorRole role, absl::string_view pattern, int64_t size) {
    AddTensor(role, pattern, {size}, SplitRule::kReplicate);
  }

  // Column-parallel parts; those with one name are rows of one checkpoint tensor.
  void AddColumnParts(const std::vector<Part>& parts, int64_t columns, absl::string_view suffix) {
    for (size_t i = 0; i < parts.size(); ++i) {
      int64_t before = 0;
      int64_t total = 0;
      for (size_t j = 0; j < parts.size(); ++j) {
        if (parts[j].name != parts[i].name) continue;
        if (j < i) before += parts[j].rows;
        total += parts[j].rows;
      }
      const std::string name = absl::StrCat(absl::StripSuffix(parts[i].name, ".weight"), suffix);
      TensorSpec& tensor = AddTensor(parts[i].role, name,
                                     columns > 0 ? std::vector<int64_t>{parts[i].rows, columns}
                                                 : std::vector<int64_t>{parts[i].rows},
                                     SplitRule::kColumn);
      if (total != parts[i].rows) {
        tensor.first_row = before;
        tensor.source_rows = total;
      }
    }
  }

  void AddAttention(const DecoderNames& names) {
    const int64_t query_rows = int64_t{attention_.heads} * attention_.head_dim;
    const int64_t kv_rows = int64_t{attention_.kv_heads} * attention_.head_dim;
    AddColumnParts({{TensorRole::kQuery, names.query, query_rows},
                    {TensorRole::kKey, names.key, kv_rows},
                    {TensorRole::kValue, names.value, kv_rows}},
                   dim_, ".weight");
    if (attention_.qkv_bias) {
      AddColumnParts({{TensorRole::kQueryBias, names.query, query_rows},
                      {TensorRole::kKeyBias, names.key, kv_rows},
                      {TensorRole::kValueBias, names.value, kv_rows}},
                     0, ".bias");
    }
    if (attention_.qk_norm) {
      AddVector(TensorRole::kQueryNorm, names.query_norm, attention_.head_dim);
      AddVector(TensorRole::kKeyNorm, names.key_norm, attention_.head_dim);
    }
    if (attention_.sinks) {
      AddTensor(TensorRole::kSinks, names.sinks, {attention_.heads}, SplitRule::kColumn);
    }
  }

  void AddLatentAttention(const DecoderNames& names) {
    const LatentSpec& latent = attention_.latent;
    const int64_t heads = attention_.heads;
    const int64_t query_rows = heads * attention_.head_dim;
    const int64_t plain = attention_.head_dim - latent.rope_dim;  // of a key, without rotation
    if (latent.query_rank == 0) {
      AddTensor(TensorRole::kQuery, names.query, {query_rows, dim_}, SplitRule::kColumn);
    } else {
      AddTensor(TensorRole::kQueryDown, names.query_down, {latent.query_rank, dim_},
                SplitRule::kReplicate);
      AddVector(TensorRole::kQueryDownNorm, names.query_down_norm, latent.query_rank);
      AddTensor(TensorRole::kQueryUp, names.query_up, {query_rows, latent.query_rank},
                SplitRule::kColumn);
    }
    const int64_t kv_down_rows = latent.kv_rank + latent.rope_dim;
    SetFused(AddTensor(TensorRole::kKvDown, names.kv_down, {latent.kv_rank, dim_},
                       SplitRule::kReplicate),
             0, kv_down_rows);
    SetFused(AddTensor(TensorRole::kKeyDown, names.kv_down, {latent.rope_dim, dim_},
                       SplitRule::kReplicate),
             latent.kv_rank, kv_down_rows);
    AddVector(TensorRole::kKvDownNorm, names.kv_down_norm, latent.kv_rank);
    const int64_t values = attention_.values();
    if (names.key_up.empty()) {
      SetFused(AddOfHeads(TensorRole::kKeyUp, names.kv_up, plain, latent.kv_rank), 0,
               plain + values);
      SetFused(AddOfHeads(TensorRole::kValueUp, names.kv_up, values, latent.kv_rank), plain,
               plain + values);
      return;
    }
    AddOfHeads(TensorRole::kKeyUpTransposed, names.key_up, latent.kv_rank, plain);
    AddOfHeads(TensorRole::kValueUp, names.value_up, values, latent.kv_rank);
  }

  static void SetFused(TensorSpec& tensor, int64_t first_row, int64_t source_rows) {
    tensor.first_row = first_row;
    tensor.source_rows = source_rows;
  }

  // A matrix per head, [rows, columns] each.
  TensorSpec& AddOfHeads(TensorRole role, absl::string_view pattern, int64_t rows,
                         int64_t columns) {
    TensorSpec& tensor =
        AddTensor(role, pattern, {attention_.heads * rows, columns}, SplitRule::kColumn);
    tensor.experts = attention_.heads;
    return tensor;
  }

  void AddAttentionOut(const DecoderNames& names) {
    AddTensor(TensorRole::kAttentionOut, names.attention_out,
              {dim_, int64_t{attention_.heads} * attention_.values()}, SplitRule::kRow);
    if (attention_.out_bias) {
      AddVector(TensorRole::kAttentionOutBias, Bias(names.attention_out), dim_);
    }
    if (spec_.layers[layer_].post_norms) {
      AddVector(TensorRole::kPostNorm, names.attention_post_norm, dim_);
    }
  }

  void AddMlp(const DecoderNames& names) {
    const int64_t ffn_dim = mlp_.ffn_dim;
    AddColumnParts({{TensorRole::kGate, names.gate, ffn_dim}, {TensorRole::kUp, names.up, ffn_dim}},
                   dim_, ".weight");
    AddTensor(TensorRole::kDown, names.down, {dim_, ffn_dim}, SplitRule::kRow);
  }

  void AddExperts(const DecoderNames& names) {
    const ExpertsSpec& experts = mlp_.experts;
    AddTensor(TensorRole::kRouter, names.router, {experts.count, dim_}, SplitRule::kReplicate);
    if (experts.router_bias) AddVector(TensorRole::kRouterBias, Bias(names.router), experts.count);
    if (experts.choice_bias) AddVector(TensorRole::kChoiceBias, names.choice_bias, experts.count);
    AddGateAndUp(names, TensorRole::kExpertGate, names.expert_gate, TensorRole::kExpertUp,
                 names.expert_up, dim_);
    AddStacked(TensorRole::kExpertDown, names.expert_down, dim_, mlp_.ffn_dim).transposed =
        names.transposed_experts;
    if (experts.expert_biases) {
      const std::string& fused = names.expert_gate_up_bias;
      AddGateAndUp(names, TensorRole::kExpertGateBias,
                   fused.empty() ? Bias(names.expert_gate) : fused, TensorRole::kExpertUpBias,
                   fused.empty() ? Bias(names.expert_up) : fused, 0);
      AddStacked(TensorRole::kExpertDownBias,
                 names.expert_down_bias.empty() ? Bias(names.expert_down) : names.expert_down_bias,
                 dim_, 0);
    }
    const int64_t shared = experts.shared_ffn_dim;
    if (shared == 0) return;
    AddTensor(TensorRole::kSharedGate, names.shared_gate, {shared, dim_}, SplitRule::kColumn);
    AddTensor(TensorRole::kSharedUp, names.shared_up, {shared, dim_}, SplitRule::kColumn);
    AddTensor(TensorRole::kSharedDown, names.shared_down, {dim_, shared}, SplitRule::kRow);
    if (experts.shared_gate) {
      AddTensor(TensorRole::kSharedRouter, names.shared_router, {1, dim_}, SplitRule::kReplicate);
    }
  }

  // Gate and up of all experts; of one name they are fused.
  void AddGateAndUp(const DecoderNames& names, TensorRole gate_role, const std::string& gate,
                    TensorRole up_role, const std::string& up, int64_t columns) {
    const int64_t rows = mlp_.ffn_dim;
    for (const bool is_up : {false, true}) {
      TensorSpec& tensor =
          AddStacked(is_up ? up_role : gate_role, is_up ? up : gate, rows, columns);
      tensor.transposed = names.transposed_experts && columns > 0;
      if (gate == up) FuseExperts(names.interleaved_experts, is_up, rows, tensor);
    }
  }

  // One matrix (columns > 0) or vector per expert.
  TensorSpec& AddStacked(TensorRole role, absl::string_view pattern, int64_t rows,
                         int64_t columns) {
    std::vector<int64_t> shape = {mlp_.experts.count * rows};
    if (columns > 0) shape.push_back(columns);
    TensorSpec& tensor = AddTensor(role, pattern, std::move(shape), SplitRule::kColumn);
    tensor.experts = mlp_.experts.count;
    return tensor;
  }

  static std::string Bias(absl::string_view weight) {
    return absl::StrCat(absl::StripSuffix(weight, ".weight"), ".bias");
  }

  ModelSpec& spec_;
  int layer_;
  int64_t dim_;
  AttentionSpec attention_;
  MlpSpec mlp_;
  int block_ = 0;
};

}  // namespace

void FuseExperts(bool interleaved, bool is_up, int64_t rows, TensorSpec& tensor) {
  tensor.source_rows = 2 * rows;
  tensor.row_step = interleaved ? 2 : 1;
  tensor.first_row = !is_up ? 0 : interleaved ? 1 : rows;
}

DecoderNames StandardNames(Naming naming) {
  if (naming == Naming::kGguf) {
    return {.embedding = "token_embd.weight",
            .final_norm = "output_norm.weight",
            .head = "output.weight",
            .attention_norm = "blk.{i}.attn_norm.weight",
            .attention_post_norm = "blk.{i}.post_attention_norm.weight",
            .query = "blk.{i}.attn_q.weight",
            .key = "blk.{i}.attn_k.weight",
            .value = "blk.{i}.attn_v.weight",
            .attention_out = "blk.{i}.attn_output.weight",
            .query_norm = "blk.{i}.attn_q_norm.weight",
            .key_norm = "blk.{i}.attn_k_norm.weight",
            .mlp_norm = "blk.{i}.ffn_norm.weight",
            .mlp_post_norm = "blk.{i}.post_ffw_norm.weight",
            .gate = "blk.{i}.ffn_gate.weight",
            .up = "blk.{i}.ffn_up.weight",
            .down = "blk.{i}.ffn_down.weight",
            .query_down = "blk.{i}.attn_q_a.weight",
            .query_down_norm = "blk.{i}.attn_q_a_norm.weight",
            .query_up = "blk.{i}.attn_q_b.weight",
            .kv_down = "blk.{i}.attn_kv_a_mqa.weight",
            .kv_down_norm = "blk.{i}.attn_kv_a_norm.weight",
            .kv_up = "blk.{i}.attn_kv_b.weight",
            .router = "blk.{i}.ffn_gate_inp.weight",
            .choice_bias = "blk.{i}.exp_probs_b.bias",
            .expert_gate = "blk.{i}.ffn_gate_exps.weight",
            .expert_up = "blk.{i}.ffn_up_exps.weight",
            .expert_down = "blk.{i}.ffn_down_exps.weight",
            .shared_gate = "blk.{i}.ffn_gate_shexp.weight",
            .shared_up = "blk.{i}.ffn_up_shexp.weight",
            .shared_down = "blk.{i}.ffn_down_shexp.weight",
            .shared_router = "blk.{i}.ffn_gate_inp_shexp.weight",
            .sinks = "blk.{i}.attn_sinks.weight"};
  }
  return {.embedding = "model.embed_tokens.weight",
          .final_norm = "model.norm.weight",
          .head = "lm_head.weight",
          .attention_norm = "model.layers.{i}.input_layernorm.weight",
          .attention_post_norm = "",
          .query = "model.layers.{i}.self_attn.q_proj.weight",
          .key = "model.layers.{i}.self_attn.k_proj.weight",
          .value = "model.layers.{i}.self_attn.v_proj.weight",
          .attention_out = "model.layers.{i}.self_attn.o_proj.weight",
          .query_norm = "model.layers.{i}.self_attn.q_norm.weight",
          .key_norm = "model.layers.{i}.self_attn.k_norm.weight",
          .mlp_norm = "model.layers.{i}.post_attention_layernorm.weight",
          .mlp_post_norm = "",
          .gate = "model.layers.{i}.mlp.gate_proj.weight",
          .up = "model.layers.{i}.mlp.up_proj.weight",
          .down = "model.layers.{i}.mlp.down_proj.weight",
          .query_down = "model.layers.{i}.self_attn.q_a_proj.weight",
          .query_down_norm = "model.layers.{i}.self_attn.q_a_layernorm.weight",
          .query_up = "model.layers.{i}.self_attn.q_b_proj.weight",
          .kv_down = "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight",
          .kv_down_norm = "model.layers.{i}.self_attn.kv_a_layernorm.weight",
          .kv_up = "model.layers.{i}.self_attn.kv_b_proj.weight",
          .router = "model.layers.{i}.mlp.gate.weight",
          .choice_bias = "model.layers.{i}.mlp.gate.e_score_correction_bias",
          .expert_gate = "model.layers.{i}.mlp.experts.{e}.gate_proj.weight",
          .expert_up = "model.layers.{i}.mlp.experts.{e}.up_proj.weight",
          .expert_down = "model.layers.{i}.mlp.experts.{e}.down_proj.weight",
          .shared_gate = "model.layers.{i}.mlp.shared_expert.gate_proj.weight",
          .shared_up = "model.layers.{i}.mlp.shared_expert.up_proj.weight",
          .shared_down = "model.layers.{i}.mlp.shared_expert.down_proj.weight",
          .shared_router = "model.layers.{i}.mlp.shared_expert_gate.weight",
          .sinks = "model.layers.{i}.self_attn.sinks"};
}

void AddDecoderTensors(const DecoderNames& names, ModelSpec& spec) {
  const auto add = [&](TensorRole role, int block, const std::string& name,
                       std::vector<int64_t> shape, SplitRule split) {
    TensorSpec tensor;
    tensor.role = role;
    tensor.block = block;
    tensor.name = name;
    tensor.shape = std::move(shape);
    tensor.split = split;
    spec.tensors.push_back(std::move(tensor));
  };
  add(TensorRole::kEmbedding, spec.embed_block(), names.embedding, {spec.vocab, spec.dim},
      SplitRule::kColumn);
  for (int layer = 0; layer < spec.num_layers(); ++layer) LayerTensors(spec, layer).Add(names);
  add(TensorRole::kNorm, spec.head_block(), names.final_norm, {spec.dim}, SplitRule::kReplicate);
  add(TensorRole::kHead, spec.head_block(), spec.tied_head ? names.embedding : names.head,
      {spec.vocab, spec.dim}, SplitRule::kColumn);
}

}  // namespace tprun
