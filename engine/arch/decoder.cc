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
      : spec_(spec), layer_(layer), dim_(spec.dim), attention_(spec.layers[layer].attention) {}

  void Add(const DecoderNames& names) {
    block_ = spec_.attention_block(layer_);
    AddAttention(names);
    block_ = spec_.mlp_block(layer_);
    AddMlp(names);
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
    AddVector(TensorRole::kNorm, names.attention_norm, dim_);
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
    AddTensor(TensorRole::kAttentionOut, names.attention_out, {dim_, query_rows}, SplitRule::kRow);
    if (attention_.out_bias) {
      AddVector(TensorRole::kAttentionOutBias,
                absl::StrCat(absl::StripSuffix(names.attention_out, ".weight"), ".bias"), dim_);
    }
    if (spec_.layers[layer_].post_norms) {
      AddVector(TensorRole::kPostNorm, names.attention_post_norm, dim_);
    }
  }

  void AddMlp(const DecoderNames& names) {
    const int64_t ffn_dim = spec_.layers[layer_].mlp.ffn_dim;
    AddVector(TensorRole::kNorm, names.mlp_norm, dim_);
    AddColumnParts({{TensorRole::kGate, names.gate, ffn_dim}, {TensorRole::kUp, names.up, ffn_dim}},
                   dim_, ".weight");
    AddTensor(TensorRole::kDown, names.down, {dim_, ffn_dim}, SplitRule::kRow);
    if (spec_.layers[layer_].post_norms) {
      AddVector(TensorRole::kPostNorm, names.mlp_post_norm, dim_);
    }
  }

  ModelSpec& spec_;
  int layer_;
  int64_t dim_;
  AttentionSpec attention_;
  int block_ = 0;
};

}  // namespace

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
            .down = "blk.{i}.ffn_down.weight"};
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
          .down = "model.layers.{i}.mlp.down_proj.weight"};
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
