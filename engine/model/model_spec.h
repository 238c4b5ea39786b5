#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/format/weight_format.h"

namespace tprun {

// A model as data: what its blocks compute and which tensors they read. Made by a file in arch/
// from a config; nothing here knows of ranks or devices.

enum class RopeLayout {
  kNone,
  kHalfSplit,    // pairs (x[i], x[i + dims/2]), "NeoX"
  kInterleaved,  // pairs (x[2i], x[2i+1]), "GPT-J"
};

// kYarn is arXiv 2309.00071. kLongRope is arXiv 2402.13753.
enum class RopeScaling { kNone, kLinear, kLlama3, kYarn, kLongRope };

struct RopeSpec {
  RopeLayout layout = RopeLayout::kHalfSplit;
  int dims = 0;  // rotated elements at the start of each head
  double theta = 10000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;
  double low_freq_factor = 1;           // kLlama3
  double high_freq_factor = 4;          // kLlama3
  int64_t original_context_length = 0;  // kLlama3, kYarn, kLongRope
  // kYarn: frequencies that turn more than beta_fast times within the original context are kept,
  // those that turn less than beta_slow times are divided by factor; `truncate` rounds the borders
  // to whole pairs.
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;
  float magnitude = 1;  // of the rotated elements: cosines and sines are multiplied by it
  // Divisors of the frequencies, [dims / 2], of kLongRope or that a GGUF carries as a tensor;
  // empty: none. kLongRope has others for contexts beyond the original one.
  std::vector<float> factors;
  std::vector<float> long_factors;
};

// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads come
// from one latent vector per position, which is all that the KV cache holds. A head's query and key
// are `plain` elements, then rope_dim rotated ones.
struct LatentSpec {
  int64_t query_rank = 0;  // of the query's latent vector; 0: the query is projected directly
  int64_t kv_rank = 0;     // 0: no latent attention
  int rope_dim = 0;        // of the one rotated key that all heads share
};

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;   // latent attention: as many as heads
  int head_dim = 0;   // of queries and keys
  int value_dim = 0;  // of values; 0: head_dim
  LatentSpec latent;
  RopeSpec rope;
  bool qkv_bias = false;
  bool out_bias = false;
  bool qk_norm = false;     // RMSNorm over each head of q and k before RoPE
  int64_t window = 0;       // a query sees this many positions, itself included; 0: all
  float scale = 0;          // of q.k, usually 1/sqrt(head_dim)
  float logit_softcap = 0;  // s -> cap * tanh(s / cap); 0: none
  bool sinks = false;       // a learned logit per head that takes part in the softmax (gpt-oss)

  bool is_latent() const { return latent.kv_rank > 0; }
  int values() const { return value_dim > 0 ? value_dim : head_dim; }
  // Elements that the KV cache holds per position: of one KV head's keys and values, or of the
  // latent vector, which is kept whole by every rank that has a head.
  int64_t cache_per_kv_head() const { return is_latent() ? 0 : head_dim + values(); }
  int64_t latent_cache() const { return is_latent() ? latent.kv_rank + latent.rope_dim : 0; }
};

enum class Activation {
  kSilu,
  kGeluTanh,
  kClampedSwiGlu,  // g = min(gate, 7), u = clamp(up, -7, 7): g sigmoid(1.702 g) (u + 1) (gpt-oss)
};

enum class RouterScore { kSoftmax, kSigmoid };

// A mixture of experts: the router picks `per_token` of `count` gated MLPs of MlpSpec::ffn_dim
// columns each; shared experts, run for every token, are one more MLP of shared_ffn_dim columns.
// Groups rank by their best expert, by the sum of their two best where there is a choice_bias.
struct ExpertsSpec {
  int count = 0;  // 0: a dense MLP
  int per_token = 0;
  int64_t shared_ffn_dim = 0;  // 0: none
  bool shared_gate = false;    // the shared output is scaled by sigmoid(w x) (Qwen2-MoE)
  RouterScore score = RouterScore::kSoftmax;
  bool normalize = true;       // the chosen scores are scaled to add up to one
  float scale = 1;             // of the routed experts' sum
  int groups = 1;              // experts are chosen within the best groups_per_token groups
  int groups_per_token = 1;    // (DeepSeek-V3, arXiv 2412.19437)
  bool choice_bias = false;    // a bias per expert that takes part in the choice only
  bool router_bias = false;    // a bias of the router's logits (gpt-oss)
  bool expert_biases = false;  // biases of gate, up and down (gpt-oss)
};

// down(act(gate(x)) * up(x))
struct MlpSpec {
  Activation activation = Activation::kSilu;
  int64_t ffn_dim = 0;  // of one expert where there are several
  ExpertsSpec experts;
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
  // Layers of a second stack (Moshi's depth transformer, "depth") follow those of the first; their
  // blocks are one unit each. `steps` times per token, with weights of their own for each step.
  std::string stack;
  int steps = 1;
};

// A second stack of layers, those from first_layer on: for each position that the first stack has
// gone through it runs `steps` times, each from the first one's normed output and the token chosen
// before, and gives logits over `vocab` tokens. Weights of the steps stand one below the other.
struct DepthSpec {
  int steps = 0;  // 0: there is none
  int64_t dim = 0;
  int64_t vocab = 0;
  int first_layer = 0;
};

enum class BlockKind { kEmbed, kAttention, kMlp, kHead };

// The chain that a plan places: embed, (attention, mlp) per layer, head.
struct Block {
  BlockKind kind = BlockKind::kEmbed;
  int layer = 0;  // kAttention and kMlp
};

// What a tensor is to its block.
enum class TensorRole {
  kEmbedding,         // [vocab, dim]; for each stream of tokens where there are several
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
  // Latent attention.
  kQueryDown,        // [query_rank, dim]
  kQueryDownNorm,    // [query_rank]
  kQueryUp,          // [heads * head_dim, query_rank]
  kKvDown,           // [kv_rank, dim]
  kKvDownNorm,       // [kv_rank]
  kKeyDown,          // [rope_dim, dim]: the rotated key
  kKeyUp,            // [heads * plain, kv_rank], or
  kKeyUpTransposed,  // [heads * kv_rank, plain]
  kValueUp,          // [heads * values, kv_rank]
  // Mixtures of experts; those of all experts stand one below the other.
  kRouter,          // [experts, dim]
  kRouterBias,      // [experts]
  kChoiceBias,      // [experts]
  kExpertGate,      // [experts * ffn_dim, dim]
  kExpertUp,        // [experts * ffn_dim, dim]
  kExpertDown,      // [experts * dim, ffn_dim]
  kExpertGateBias,  // [experts * ffn_dim]
  kExpertUpBias,    // [experts * ffn_dim]
  kExpertDownBias,  // [experts * dim]
  kSharedGate,      // [shared_ffn_dim, dim]
  kSharedUp,        // [shared_ffn_dim, dim]
  kSharedDown,      // [dim, shared_ffn_dim]
  kSharedRouter,    // [1, dim]
  kSinks,           // [heads]
  // A second stack: in its first block and in the head.
  kDepthInput,      // [steps * depth.dim, dim]
  kDepthEmbedding,  // [rows, depth.dim], for each step
  kDepthHead,       // [depth.vocab, depth.dim], for each step
  kOther,           // of models that can only be planned
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
  // Rows first_row, first_row + row_step, ... of the checkpoint's tensor, which has source_rows
  // rows: for tensors that a checkpoint fuses (q|k|v, gate|up). source_rows == 0: it is not fused.
  int64_t first_row = 0;
  int64_t row_step = 1;
  int64_t source_rows = 0;
  // > 0: so many matrices (or vectors) of equal size, one below the other, shape[0] being the rows
  // of all; first_row and source_rows are then those of each. "{e}" in the name: each is a tensor
  // of its own in the checkpoint; else they are one tensor, mostly with one dimension more.
  int experts = 0;
  bool transposed = false;  // the checkpoint has [in, out] (of each expert)

  // Filled in from the checkpoint's header, or by assumption where there is none.
  const WeightFormat* format = nullptr;
};

// What runs beside the model and needs memory of its own: a codec, a vocoder.
struct Sidecar {
  std::string name;   // "Mimi codec, f32"
  int64_t bytes = 0;  // of weights and state
  bool may_run_on_cpu = true;
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
  // Token ids per position: the embedding is the sum over the streams, each of its own table; -1 is
  // a zero. The logits are those of the first stream.
  int streams = 1;
  DepthSpec depth;
  std::vector<int> delays;  // of each stream, in positions; empty: none (GenerateFrames)
  std::vector<LayerSpec> layers;
  std::vector<Block> blocks;
  std::vector<TensorSpec> tensors;  // in block order
  std::vector<Sidecar> sidecars;
  double tokens_per_second_needed = 0;  // to keep up with the sound it speaks; 0: no such need
  // Why the engine cannot run it, "" if it can; it can always be planned.
  std::string not_runnable;

  int num_layers() const { return static_cast<int>(layers.size()); }
  int embed_block() const { return 0; }
  int attention_block(int layer) const { return 1 + 2 * layer; }
  int mlp_block(int layer) const { return 2 + 2 * layer; }
  int head_block() const { return 1 + 2 * num_layers(); }
};

// "embed", "layer 3 attention", "layer 3 mlp", "head".
std::string BlockName(const ModelSpec& spec, int block);

int64_t ElementCount(const TensorSpec& tensor);

// Stands for the expert in names of tensors that a checkpoint keeps one by one.
inline constexpr char kExpertMark[] = "{e}";
std::string ExpertTensorName(const TensorSpec& tensor, int expert);

// Parameters of the model: elements of its distinct tensors (a tied head counts once).
int64_t ParameterCount(const ModelSpec& spec);

// Parameters that one token goes through: of experts only those that the router picks.
int64_t ActiveParameterCount(const ModelSpec& spec);

// InvalidArgument with the reason if the engine cannot run the model.
absl::Status CheckRunnable(const ModelSpec& spec);

// InvalidArgument if text cannot be generated with the model: it has several streams of tokens.
absl::Status CheckGeneratesText(const ModelSpec& spec);

// The tensor of `role` in `block`, or nullptr.
const TensorSpec* FindTensor(const ModelSpec& spec, int block, TensorRole role);

}  // namespace tprun
