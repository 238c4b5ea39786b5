#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/format/weight_format.h"

namespace tprun {

// A model as data: what its blocks compute and which tensors they read. Made by a file in arch/
// from a config; nothing here knows of ranks or devices.

enum class RopeLayout {
  kNone,
  kHalfSplit,    // pairs (x[i], x[i + dims/2]), "NeoX"
  kInterleaved,  // pairs (x[2i], x[2i+1]), "GPT-J"
};

enum class RopeScaling { kNone, kLinear, kLlama3 };

struct RopeSpec {
  RopeLayout layout = RopeLayout::kHalfSplit;
  int dims = 0;  // rotated elements at the start of each head
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_freq_factor = 1;           // kLlama3
  double high_freq_factor = 4;          // kLlama3
  int64_t original_context_length = 0;  // kLlama3
  // Divisors of the frequencies that a GGUF carries as a tensor, [dims / 2]; empty: none.
  std::vector<float> factors;
};

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  RopeSpec rope;
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;     // RMSNorm over each head of q and k before RoPE
  int64_t window = 0;       // a query sees this many positions, itself included; 0: all
  float scale = 0;          // of q.k, usually 1/sqrt(head_dim)
  float logit_softcap = 0;  // s -> cap * tanh(s / cap); 0: none
};

enum class Activation { kSilu, kGeluTanh };

// down(act(gate(x)) * up(x))
struct MlpSpec {
  Activation activation = Activation::kSilu;
  int64_t ffn_dim = 0;
};

// w * x / sqrt(mean(x^2) + eps); with unit_offset (1 + w) stands for w.
struct NormSpec {
  float eps = 1e-5f;
  bool unit_offset = false;
};

struct LayerSpec {
  AttentionSpec attention;
  MlpSpec mlp;
  NormSpec norm;
  bool post_norms = false;  // a norm on each block's output, before the residual add (Gemma 2)
};

enum class BlockKind { kEmbed, kAttention, kMlp, kHead };

// The chain that a plan places: embed, (attention, mlp) per layer, head.
struct Block {
  BlockKind kind = BlockKind::kEmbed;
  int layer = 0;  // kAttention and kMlp
};

// What a tensor is to its block.
enum class TensorRole {
  kEmbedding,         // [vocab, dim]
  kNorm,              // [dim]: before attention, mlp or head
  kPostNorm,          // [dim]
  kQuery,             // [heads * head_dim, dim]
  kKey,               // [kv_heads * head_dim, dim]
  kValue,             // [kv_heads * head_dim, dim]
  kQueryBias,         // [heads * head_dim]
  kKeyBias,           // [kv_heads * head_dim]
  kValueBias,         // [kv_heads * head_dim]
  kQueryNorm,         // [head_dim]
  kKeyNorm,           // [head_dim]
  kAttentionOut,      // [dim, heads * head_dim]
  kAttentionOutBias,  // [dim]
  kGate,              // [ffn_dim, dim]
  kUp,                // [ffn_dim, dim]
  kDown,              // [dim, ffn_dim]
  kHead,              // [vocab, dim]
};

// How a tensor follows the shares of its block's ranks.
enum class SplitRule {
  kReplicate,  // every rank of the group holds all of it
  kColumn,     // the output axis (rows of [out, in]) is cut
  kRow,        // the input axis (columns of [out, in]) is cut
};

struct TensorSpec {
  TensorRole role = TensorRole::kNorm;
  int block = 0;               // index into ModelSpec::blocks
  std::string name;            // in the checkpoint
  std::vector<int64_t> shape;  // of this tensor, [out, in] or [n]
  SplitRule split = SplitRule::kReplicate;
  // Rows [first_row, first_row + shape[0]) of the checkpoint's tensor, which has source_rows rows:
  // for tensors that a checkpoint fuses (q|k|v, gate|up). source_rows == 0: it is not fused.
  int64_t first_row = 0;
  int64_t source_rows = 0;

  // Filled in from the checkpoint's header, or by assumption where there is none.
  const WeightFormat* format = nullptr;
};

struct ModelSpec {
  std::string name;          // "stories260K"
  std::string architecture;  // "llama"
  int64_t dim = 0;
  int64_t vocab = 0;
  int64_t context_length = 0;
  bool tied_head = false;         // the head reads the embedding's tensor
  float embedding_scale = 1;      // of the embedding's output
  float final_logit_softcap = 0;  // 0: none
  NormSpec final_norm;
  std::vector<LayerSpec> layers;
  std::vector<Block> blocks;
  std::vector<TensorSpec> tensors;  // in block order

  int num_layers() const { return static_cast<int>(layers.size()); }
  int embed_block() const { return 0; }
  int attention_block(int layer) const { return 1 + 2 * layer; }
  int mlp_block(int layer) const { return 2 + 2 * layer; }
  int head_block() const { return 1 + 2 * num_layers(); }
};

// "embed", "layer 3 attention", "layer 3 mlp", "head".
std::string BlockName(const ModelSpec& spec, int block);

int64_t ElementCount(const TensorSpec& tensor);

// Parameters of the model: elements of its distinct tensors (a tied head counts once).
int64_t ParameterCount(const ModelSpec& spec);

// The tensor of `role` in `block`, or nullptr.
const TensorSpec* FindTensor(const ModelSpec& spec, int block, TensorRole role);

}  // namespace tprun
