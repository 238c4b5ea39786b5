#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"
#include "engine/arch/model_config.h"

// Moshi (arXiv 2410.00037), as kyutai-labs/moshi ships it: a temporal transformer over the sum of
// one text and n_q audio embeddings, and a depth transformer that is run dep_q times per frame with
// weights of its own for each step. The names are those of the PyTorch checkpoint. The depth layers
// follow the temporal ones in the chain, as a second stack.

namespace tprun {
namespace {

// Attention sees the last "context" steps and positions go on without end (moshi/modules/
// transformer.py, rope.py), so that only numbers bound a conversation: a day of 12.5 steps a
// second.
constexpr int64_t kMostSteps = 24 * 60 * 60 * 25 / 2;

struct Moshi {
  int64_t dim = 0, text_card = 0, card = 0, context = 0;
  int heads = 0, layers = 0, n_q = 0, dep_q = 0;
  double hidden_scale = 0;
  int64_t depth_dim = 0, depth_ffn = 0;
  int depth_heads = 0, depth_layers = 0;
  std::vector<int> delays;
};

// Kyutai's code can do more than its published models use; absent members have its defaults there.
absl::Status CheckVariant(const Json& config, const Moshi& m) {
  const std::pair<const char*, const char*> wanted[] = {{"norm", "rms_norm_f32"},
                                                        {"gating", "silu"},
                                                        {"positional_embedding", "rope"},
                                                        {"depformer_gating", "silu"},
                                                        {"depformer_pos_emb", "none"}};
  for (const auto& [key, value] : wanted) {
    ASSIGN_OR_RETURN(const std::string found, GetStringOr(config, key, value));
    if (found == value) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": supported is \"", value, "\", found \"", found, "\""));
  }
  for (const char* key : {"depformer_weights_per_step_schedule", "depformer_low_rank_embeddings"}) {
    if (FindMember(config, key) == nullptr) continue;
    return absl::InvalidArgumentError(absl::StrCat("\"", key, "\" is not supported"));
  }
  ASSIGN_OR_RETURN(const double period, GetDoubleOr(config, "max_period", 10000));
  if (period == 10000 && m.dep_q <= m.n_q) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"max_period\" (", period, "), \"dep_q\" (",
                                                 m.dep_q, "): supported are 10000 ",
                                                 "and at most \"n_q\" (", m.n_q, ")"));
}

// A delay for the text and each audio stream; empty where the config has none.
absl::StatusOr<std::vector<int>> ReadDelays(const Json& config, int n_q) {
  std::vector<int> delays;
  const Json* list = FindMember(config, "delays");
  if (list == nullptr) return delays;
  constexpr int kMost = 1000;
  for (const Json& delay : list->is_array() ? *list : Json::array()) {
    const bool sound = delay.is_number_integer() && delay >= 0 && delay <= kMost;
    delays.push_back(sound ? delay.get<int>() : -1);
  }
  const bool sound = std::find(delays.begin(), delays.end(), -1) == delays.end();
  if (sound && static_cast<int>(delays.size()) == n_q + 1) return delays;
  return absl::InvalidArgumentError(absl::StrCat("\"delays\": wanted ", n_q + 1,
                                                 " whole numbers from 0 to ", kMost, ", found ",
                                                 list->dump().substr(0, 80)));
}

absl::StatusOr<Moshi> ReadMoshi(const Json& config) {
  Moshi m;
  ASSIGN_OR_RETURN(m.dim, GetCount(config, "dim", 1 << 20));
  ASSIGN_OR_RETURN(m.text_card, GetCount(config, "text_card", 1 << 24));
  ASSIGN_OR_RETURN(m.card, GetCount(config, "card", 1 << 20));
  ASSIGN_OR_RETURN(m.context, GetCount(config, "context", 1 << 24));
  ASSIGN_OR_RETURN(m.heads, GetCount(config, "num_heads", m.dim));
  ASSIGN_OR_RETURN(m.layers, GetCount(config, "num_layers", 1000));
  ASSIGN_OR_RETURN(m.n_q, GetCount(config, "n_q", 256));
  ASSIGN_OR_RETURN(m.dep_q, GetCount(config, "dep_q", 256));
  ASSIGN_OR_RETURN(m.hidden_scale, GetDoubleOr(config, "hidden_scale", 4));
  ASSIGN_OR_RETURN(m.depth_dim, GetCount(config, "depformer_dim", 1 << 16));
  ASSIGN_OR_RETURN(m.depth_ffn,
                   GetCountOr(config, "depformer_dim_feedforward", 1 << 22, 4 * m.depth_dim));
  ASSIGN_OR_RETURN(m.depth_heads, GetCount(config, "depformer_num_heads", m.depth_dim));
  ASSIGN_OR_RETURN(m.depth_layers, GetCount(config, "depformer_num_layers", 1000));
  if (m.dim % m.heads != 0 || m.depth_dim % m.depth_heads != 0) {
    return absl::InvalidArgumentError("\"num_heads\" and \"depformer_num_heads\" must divide dims");
  }
  if (m.depth_dim > m.dim) {
    return absl::InvalidArgumentError(absl::StrCat("\"depformer_dim\": wanted at most \"dim\" (",
                                                   m.dim, "), found ", m.depth_dim));
  }
  RETURN_IF_ERROR(CheckVariant(config, m));
  ASSIGN_OR_RETURN(m.delays, ReadDelays(config, m.n_q));
  if (!(m.hidden_scale > 0) || m.hidden_scale > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"hidden_scale\": wanted a number in (0, 64], found ", m.hidden_scale));
  }
  return m;
}

// moshi/modules/gating.py: two thirds of the feed-forward width, 21/8 of the model's where that is
// four times as wide.
int64_t GatedWidth(int64_t dim, int64_t ffn) { return ffn == 4 * dim ? 21 * dim / 8 : 2 * ffn / 3; }

LayerSpec Layer(int64_t dim, int heads, int64_t ffn, int64_t window, RopeLayout rope) {
  LayerSpec layer;
  layer.norm.eps = 1e-8f;
  AttentionSpec& attention = layer.attention;
  attention.heads = attention.kv_heads = heads;
  attention.head_dim = static_cast<int>(dim / heads);
  attention.window = window;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));
  attention.rope.layout = rope;
  attention.rope.dims = rope == RopeLayout::kNone ? 0 : attention.head_dim;
  layer.mlp.ffn_dim = GatedWidth(dim, ffn);
  return layer;
}

class Tensors {
 public:
  Tensors(const Moshi& moshi, ModelSpec& spec) : m_(moshi), spec_(spec) {}

  void AddAll() {
    AddEmbeddings();
    for (int i = 0; i < m_.layers; ++i) AddTemporalLayer(i);
    for (int i = 0; i < m_.depth_layers; ++i) AddDepthLayer(i);
    AddHeads();
  }

 private:
  void Add(TensorRole role, int block, std::string name, std::vector<int64_t> shape,
           SplitRule split = SplitRule::kColumn, int64_t first_row = 0, int64_t source_rows = 0) {
    TensorSpec tensor;
    tensor.role = role;
    tensor.block = block;
    tensor.name = std::move(name);
    tensor.shape = std::move(shape);
    tensor.split = split;
    tensor.first_row = first_row;
    tensor.source_rows = source_rows;
    spec_.tensors.push_back(std::move(tensor));
  }

  void AddNorm(int block, std::string name, int64_t dim) {
    Add(TensorRole::kNorm, block, std::move(name), {dim}, SplitRule::kReplicate);
  }

  void AddEmbeddings() {
    const int block = spec_.embed_block();
    Add(TensorRole::kEmbedding, block, "text_emb.weight", {m_.text_card + 1, m_.dim});
    for (int q = 0; q < m_.n_q; ++q) {
      Add(TensorRole::kEmbedding, block, absl::StrCat("emb.", q, ".weight"), {m_.card + 1, m_.dim});
    }
  }

  void AddTemporalLayer(int i) {
    const std::string layer = absl::StrCat("transformer.layers.", i, ".");
    const int64_t ffn = spec_.layers[i].mlp.ffn_dim;
    int block = spec_.attention_block(i);
    AddNorm(block, layer + "norm1.alpha", m_.dim);
    const std::string qkv = layer + "self_attn.in_proj_weight";
    const TensorRole roles[] = {TensorRole::kQuery, TensorRole::kKey, TensorRole::kValue};
    for (int part = 0; part < 3; ++part) {
      Add(roles[part], block, qkv, {m_.dim, m_.dim}, SplitRule::kColumn, part * m_.dim, 3 * m_.dim);
    }
    Add(TensorRole::kAttentionOut, block, layer + "self_attn.out_proj.weight", {m_.dim, m_.dim},
        SplitRule::kRow);
    block = spec_.mlp_block(i);
    AddNorm(block, layer + "norm2.alpha", m_.dim);
    const std::string gating = layer + "gating.linear_in.weight";
    Add(TensorRole::kGate, block, gating, {ffn, m_.dim}, SplitRule::kColumn, 0, 2 * ffn);
    Add(TensorRole::kUp, block, gating, {ffn, m_.dim}, SplitRule::kColumn, ffn, 2 * ffn);
    Add(TensorRole::kDown, block, layer + "gating.linear_out.weight", {m_.dim, ffn},
        SplitRule::kRow);
  }

  void AddDepthLayer(int i) {
    const std::string layer = absl::StrCat("depformer.layers.", i, ".");
    const int64_t dim = m_.depth_dim;
    const int64_t ffn = spec_.layers[m_.layers + i].mlp.ffn_dim;
    int block = spec_.attention_block(m_.layers + i);
    if (i == 0) AddDepthInputs(block);
    AddNorm(block, layer + "norm1.alpha", dim);
    // The matrices of all steps stand one below the other.
    const std::string qkv = layer + "self_attn.in_proj_weight";
    const TensorRole roles[] = {TensorRole::kQuery, TensorRole::kKey, TensorRole::kValue};
    for (int part = 0; part < 3; ++part) {
      AddSteps(roles[part], block, qkv, dim, dim, SplitRule::kColumn, part * dim, 3 * dim);
    }
    AddSteps(TensorRole::kAttentionOut, block, layer + "self_attn.out_proj.weight", dim, dim,
             SplitRule::kRow);
    block = spec_.mlp_block(m_.layers + i);
    AddNorm(block, layer + "norm2.alpha", dim);
    const std::string gating = layer + "gating.{e}.linear_in.weight";
    AddSteps(TensorRole::kGate, block, gating, ffn, dim, SplitRule::kColumn, 0, 2 * ffn);
    AddSteps(TensorRole::kUp, block, gating, ffn, dim, SplitRule::kColumn, ffn, 2 * ffn);
    AddSteps(TensorRole::kDown, block, layer + "gating.{e}.linear_out.weight", dim, ffn,
             SplitRule::kRow);
  }

  // A matrix [rows, columns] for each step.
  void AddSteps(TensorRole role, int block, std::string name, int64_t rows, int64_t columns,
                SplitRule split, int64_t first_row = 0, int64_t source_rows = 0) {
    Add(role, block, std::move(name), {m_.dep_q * rows, columns}, split, first_row, source_rows);
    spec_.tensors.back().experts = m_.dep_q;
  }

  void AddDepthInputs(int block) {
    const int64_t dim = m_.depth_dim;
    AddSteps(TensorRole::kDepthInput, block, "depformer_in.{e}.weight", dim, m_.dim,
             SplitRule::kColumn);
    Add(TensorRole::kDepthEmbedding, block, "depformer_text_emb.weight", {m_.text_card + 1, dim});
    for (int q = 0; q + 1 < m_.dep_q; ++q) {
      Add(TensorRole::kDepthEmbedding, block, absl::StrCat("depformer_emb.", q, ".weight"),
          {m_.card + 1, dim});
    }
  }

  void AddHeads() {
    const int block = spec_.head_block();
    AddNorm(block, "out_norm.alpha", m_.dim);
    Add(TensorRole::kHead, block, "text_linear.weight", {m_.text_card, m_.dim});
    for (int q = 0; q < m_.dep_q; ++q) {
      Add(TensorRole::kDepthHead, block, absl::StrCat("linears.", q, ".weight"),
          {m_.card, m_.depth_dim});
    }
  }

  const Moshi& m_;
  ModelSpec& spec_;
};

absl::StatusOr<ModelSpec> BuildMoshi(const Json& config, Naming naming) {
  if (naming == Naming::kGguf) {
    return absl::InvalidArgumentError("GGUF files of Moshi carry no numbers of the model");
  }
  ASSIGN_OR_RETURN(const Moshi m, ReadMoshi(config));
  ModelConfig numbers;
  ASSIGN_OR_RETURN(numbers.name, GetStringOr(config, "_name", ""));
  numbers.dim = m.dim;
  numbers.layers = m.layers + m.depth_layers;
  numbers.vocab = m.text_card;
  numbers.context_length = kMostSteps;
  numbers.norm_eps = 1e-8f;
  ModelSpec spec = StartSpec("moshi", numbers);
  const auto temporal_ffn = static_cast<int64_t>(m.hidden_scale * static_cast<double>(m.dim));
  spec.layers.assign(m.layers,
                     Layer(m.dim, m.heads, temporal_ffn, m.context, RopeLayout::kInterleaved));
  LayerSpec depth = Layer(m.depth_dim, m.depth_heads, m.depth_ffn, m.dep_q, RopeLayout::kNone);
  depth.stack = "depth";
  depth.steps = m.dep_q;
  spec.layers.insert(spec.layers.end(), m.depth_layers, depth);
  spec.streams = 1 + m.n_q;
  spec.delays = m.delays;
  spec.depth = {m.dep_q, m.depth_dim, m.card, m.layers};
  Tensors(m, spec).AddAll();
  // Mimi in f32 with 8 codebooks and its state (kyutai-labs/moshi, rust/moshi-core/src/mimi.rs);
  // 12.5 frames per second.
  spec.sidecars.push_back({"Mimi codec, f32", 334'077'220 + 16'000'000, true});
  spec.tokens_per_second_needed = 12.5;
  return spec;
}

}  // namespace

extern const Architecture kMoshi = {"moshi", {"moshi"}, BuildMoshi};

}  // namespace tprun
