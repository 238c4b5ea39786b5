#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/thread_pool.h"
#include "engine/format/weight_format.h"
#include "engine/kernels/sampling.h"
#include "engine/model/model_spec.h"

namespace tprun {

// A weight matrix [rows, columns] on the device, each row a whole number of format blocks and the
// rows one after another.
struct WeightMatrix {
  const void* data = nullptr;
  const WeightFormat* format = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
};

// Some tokens of one sequence, at positions [first_position, first_position + tokens).
struct TokenRun {
  int sequence = 0;
  int64_t first_position = 0;
  int64_t tokens = 0;
};

// The tokens of one step, run after run. The host has them as runs; the device as two arrays, so
// that the same launches serve every step of as many tokens.
struct TokenBatch {
  int64_t tokens = 0;                  // sum over the runs
  absl::Span<const TokenRun> runs;     // on the host
  const int32_t* sequences = nullptr;  // [tokens], on the device
  const int32_t* positions = nullptr;  // [tokens], on the device
  // The launches are recorded, and run again for other sequences and positions: only the arrays say
  // which, anywhere in the cache; `runs` are those of the recording.
  bool recorded = false;
};

// Keys and values of one layer on one rank: each [sequence, kv_head, position, head_dim], so that
// the keys of a head lie together. A row of head_dim elements is whole blocks of `format`.
struct KvCacheView {
  void* keys = nullptr;
  void* values = nullptr;
  const WeightFormat* format = &kF32Format;
  int64_t capacity = 0;  // rows of a head: positions of a sequence that are kept
  int kv_heads = 0;
  int head_dim = 0;
  int64_t sequence_stride = 0;  // bytes from the keys of one sequence to those of the next
  int sequences = 1;
  // Positions that a sequence may have, where those are more than are kept: the cache is a ring, in
  // which position p is written to row p % capacity. 0: capacity.
  int64_t positions = 0;
  int64_t row_bytes() const { return format->Bytes(head_dim); }
  bool is_ring() const { return positions > capacity; }
};

// What attention computes on one rank.
struct AttentionShape {
  int query_heads = 0;          // of this rank
  int first_query_head = 0;     // its first query head, counted in the whole model
  int first_kv_head = 0;        // likewise its first KV head
  int queries_per_kv_head = 1;  // in the whole model
  float scale = 1;
  float logit_softcap = 0;
  int64_t window = 0;  // 0: all positions
  // [query_heads]: a logit per head that takes part in the softmax and has no value; or none.
  const float* sinks = nullptr;
};

// Vectors of some tokens' heads: x[t, h, :] at data + t * token_stride + h * head_stride.
struct HeadVectors {
  float* data = nullptr;
  int64_t token_stride = 0;
  int64_t head_stride = 0;
};

// The experts that each token goes to, of which this rank has [first_expert, first_expert +
// experts). A token has a slot for each of its choices that is here, in the order of its choices.
struct ExpertChoice {
  const int32_t* ids = nullptr;    // [tokens, per_token]
  const float* weights = nullptr;  // [tokens, per_token]
  int64_t tokens = 0;
  int per_token = 0;
  int first_expert = 0;
  int experts = 0;
  int slots() const { return per_token < experts ? per_token : experts; }
};

// The matrices of this rank's experts, each of `rows` rows, one below the other.
struct ExpertMatrices {
  WeightMatrix all;  // [experts * rows, columns]
  int64_t rows = 0;
  const float* bias = nullptr;  // [experts * rows], or none
};

// A product of MatMuls.
struct Projection {
  WeightMatrix weight;
  const float* bias = nullptr;  // [rows], or none
  float* out = nullptr;         // [tokens, rows]
  int64_t out_stride = 0;       // floats from token to token
};

// The largest logit of a row, or of a part of it.
struct BestLogit {
  float logit = 0;
  int32_t id = -1;  // -1: there is no finite one
};

// The op set. Activations are f32, row-major, on the device's memory; shapes and aliasing of each
// op are said here once. Bound at creation to a device's stream, and for the CPU to a thread pool;
// ops run in the order of the calls. Twins: `reference` (plain loops, sums in double), `cpu`
// (Highway), `cuda`. An empty shape (0 tokens, 0 rows) is allowed and does nothing. Sequences and
// positions of a batch outside the cache are OutOfRange where the host sees them, in its runs.
class Kernels {
 public:
  virtual ~Kernels() = default;
  virtual absl::string_view name() const = 0;  // "reference", "cpu (AVX3_ZEN4)"

  // out[t, c] = scale * table[ids[t] - first_row, c] where first_row <= ids[t] < first_row + rows,
  // else 0, for the rows [first_row, first_row + table.rows) of a vocabulary.
  virtual absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                                 int64_t first_row, float scale, float* out) = 0;

  // out[t, i] = x[t, i] / sqrt(mean(x[t]^2) + eps) * (w[i] + (unit_offset ? 1 : 0)). w is f32
  // [dim]. out may be x.
  virtual absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                               const NormSpec& norm, float* out) = 0;

  // out[t, r] = sum over c of x[t, c] * w[r, c] (+ bias[r] if given); with 0 columns that is 0 (or
  // the bias), the part of a rank with an empty share. x [tokens, columns],
  // out [tokens, rows] with `out_stride` floats from token to token. No aliasing.
  virtual absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias,
                              int64_t tokens, float* out, int64_t out_stride) = 0;

  // Rotates, in place, the first rope.dims elements of each head of x, whose tokens are at the
  // positions of the batch, and multiplies them by rope.magnitude. x [tokens, heads, head_dim] with
  // `stride` floats from token to token. inverse_frequencies [rope.dims / 2] (see
  // InverseFrequencies).
  virtual absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim,
                            int64_t stride, const RopeSpec& rope,
                            const float* inverse_frequencies) = 0;

  // Writes k and v, [tokens, kv_heads, head_dim] with `stride` floats from token to token, to the
  // sequences and positions of the batch in the cache, rounding to its format.
  virtual absl::Status StoreKv(const float* k, const float* v, int64_t stride,
                               const TokenBatch& batch, const KvCacheView& cache) = 0;

  // Causal attention of the batch's queries, each over its own sequence in the cache, which already
  // holds their own keys and values. InvalidArgument where a ring does not hold the windows of all
  // of a run's tokens. q [tokens, query_heads, head_dim] with q_stride floats from
  // token to token, out [tokens, query_heads, head_dim] dense. No aliasing.
  virtual absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                                 const KvCacheView& cache, const AttentionShape& shape,
                                 float* out) = 0;

  // gate[i] = act(gate[i]) * up[i], in place.
  virtual absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                                       int64_t count) = 0;

  // x[i] += y[i].
  virtual absl::Status Add(float* x, const float* y, int64_t count) = 0;

  // x[i] = cap * tanh(x[i] / cap).
  virtual absl::Status Softcap(float* x, int64_t count, float cap) = 0;

  // best[r] = the largest finite element of x[r, 0 .. columns), the first among equals, and
  // first_id
  // + its column; id -1 where there is none. x [rows, columns].
  virtual absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                              BestLogit* best) = 0;

  // Steps of several ops. Here they are just these, in this order; a back end overrides those that
  // it does better at once.

  // MatMul of the same x with several matrices.
  virtual absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                               int64_t tokens);

  // out = act(x gate) * (x up), as two MatMuls and GatedActivation. out and `up_out`, which is
  // overwritten, [tokens, gate.rows].
  virtual absl::Status GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                                   Activation activation, int64_t tokens, float* out,
                                   float* up_out);

  // RmsNorm, in place, over each head of x [tokens, heads, head_dim] with `stride` floats from
  // token to token; w [head_dim].
  virtual absl::Status HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                                int64_t stride, const NormSpec& norm);

  // Rope of q [tokens, query_heads, head_dim] and k [tokens, cache.kv_heads, head_dim], and StoreKv
  // of k and v, all with `stride` floats from token to token. k may be left unrotated.
  virtual absl::Status RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                                   const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                                   const float* inverse_frequencies, const KvCacheView& cache);

  // x[t, i] += bias[i]; x [tokens, dim].
  virtual absl::Status AddBias(float* x, const float* bias, int64_t tokens, int64_t dim);

  // residual += y, then out = RmsNorm(residual); all [tokens, dim]. out may be y.
  virtual absl::Status AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                                  int64_t dim, const NormSpec& norm, float* out);

  // Sums over the parts of ranks, on memory that the host reaches.

  // out[i] = parts[0][i] + parts[1][i] + ..., in this order. out may be one of them.
  virtual absl::Status SumParts(absl::Span<const float* const> parts, int64_t count, float* out);

  // residual += that sum, formed first, and, where w is given, out = RmsNorm(residual). Each
  // [tokens, dim]; none of the parts is residual or out.
  virtual absl::Status SumPartsRmsNorm(absl::Span<const float* const> parts, float* residual,
                                       const float* w, int64_t tokens, int64_t dim,
                                       const NormSpec& norm, float* out);

  // Drawing tokens, mixtures of experts and latent attention. Here these read device memory from
  // the host and use the ops above; a back end whose memory the host cannot reach overrides them.

  // chosen[r].id = the token drawn from logits[r, 0 .. vocab) as requests[r] says, the same on
  // every back end (engine/kernels/sampling.h), and some finite logit of the row; -1 where there is
  // none, as in ArgMax. Overwrites logits. `seen` [sequences, SeenWords(vocab)]; requests on the
  // device.
  virtual absl::Status Sample(float* logits, const SampleRequest* requests, int64_t rows,
                              int64_t vocab, const uint32_t* seen, BestLogit* chosen);

  // Sets the bits of ids[t] in sequences[t]'s part of `seen`.
  virtual absl::Status MarkSeen(const int32_t* ids, const int32_t* sequences, int64_t tokens,
                                int64_t vocab, uint32_t* seen);

  // The experts of each token: scores of the logits [tokens, count] as experts.score says, plus
  // choice_bias (or none), the best per_token of the best groups; ids and weights [tokens,
  // per_token], best first, the lower id among equals; weights are the scores without the bias,
  // scaled to add up to one where experts.normalize, times experts.scale.
  virtual absl::Status RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                                    const ExpertsSpec& experts, int32_t* ids, float* weights);

  // out[t, slot] = act(x[t] gate_e + bias) * (x[t] up_e + bias) of the expert e in each slot; slots
  // that a token does not use are left as they are. x [tokens, gate.columns], out and up_out, which
  // is overwritten, [tokens, slots, gate.rows]. Reads only the chosen experts' weights.
  virtual absl::Status ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                         const ExpertMatrices& up, Activation activation,
                                         const ExpertChoice& choice, float* out, float* up_out);

  // out[t] += the sum over its slots of weight * (h[t, slot] down_e + bias). h [tokens, slots,
  // down.columns], out [tokens, down.rows].
  virtual absl::Status ExpertSum(const float* h, const ExpertMatrices& down,
                                 const ExpertChoice& choice, float* out);

  // x[t, i] *= sigmoid(gate[t]); x [tokens, columns].
  virtual absl::Status SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns);

  // out[t, h] = x[t, h] w_h with a matrix for each head, one below the other in w, each by itself
  // given to ArrangeWeights. x has w.columns elements and out w.rows / heads; transposed, out[t, h,
  // c] = sum over r of x[t, h, r] w_h[r, c], the other way round, and w is in the checkpoint's
  // order.
  virtual absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                                  int64_t tokens, int heads, const HeadVectors& out);

  // The first `count` elements of each head.
  virtual absl::Status CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                                 const HeadVectors& out);

  // Whether this back end has all ops of a layer's attention or MLP: OK, or Unimplemented saying
  // what is missing.
  virtual absl::Status CheckHasOpsFor(const LayerSpec& /*layer*/, BlockKind /*kind*/) const {
    return absl::OkStatus();
  }

  // Likewise for a KV cache of a format.
  virtual absl::Status CheckHasCacheOf(const WeightFormat& /*format*/) const {
    return absl::OkStatus();
  }

  // Brings a matrix of weights, as it is in the checkpoint, into the order in which this back end
  // reads it: in place, as many bytes, once and before any op on it.
  virtual absl::Status ArrangeWeights(const WeightFormat& /*format*/, void* /*data*/,
                                      int64_t /*rows*/, int64_t /*columns*/) {
    return absl::OkStatus();
  }

  // Device memory that the kernels themselves hold, beside what the engine lays out.
  virtual int64_t workspace_bytes() const { return 0; }
};

// Plain loops, one thread: what the others are tested against.
std::unique_ptr<Kernels> MakeReferenceKernels();

// How products with quantised weights take their activations: as they are, or rounded to 16 or 8
// bits with a scale per block of the weights' format (engine/kernels/int8_ops.h): 0.003 or 0.7 % of
// a product's error more. kInt8 lets bf16 weights meet activations of bf16, where that is fast.
enum class Activations { kF32, kInt16, kInt8 };

// Vectorised with Highway, the best instruction set chosen at run time. `pool` outlives the
// kernels. Rounding, quantised weights must go through ArrangeWeights.
std::unique_ptr<Kernels> MakeCpuKernels(ThreadPool* pool,
                                        Activations activations = Activations::kF32);

// theta^(-2i / dims) for i < dims/2, scaled as `rope` says (Llama 3: arXiv 2407.21783 and
// meta-llama/llama-models; YaRN: arXiv 2309.00071; linear: divided by factor), each divided by
// factors[i] if given. Formed in double.
void InverseFrequencies(const RopeSpec& rope, const float* factors, float* out);

// The divisors of `rope` for sequences of up to `context` positions; empty: none.
const std::vector<float>& FactorsFor(const RopeSpec& rope, int64_t context);

}  // namespace tprun
