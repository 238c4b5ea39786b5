#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/dtype.h"
#include "base/thread_pool.h"
#include "engine/format/weight_format.h"
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
// the keys of a head lie together.
struct KvCacheView {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF32;
  int64_t capacity = 0;  // positions of a sequence
  int kv_heads = 0;
  int head_dim = 0;
  int64_t sequence_stride = 0;  // bytes from the keys of one sequence to those of the next
  int sequences = 1;
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
  // positions of the batch. x [tokens, heads, head_dim] with `stride` floats from token to token.
  // inverse_frequencies [rope.dims / 2] (see InverseFrequencies).
  virtual absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim,
                            int64_t stride, const RopeSpec& rope,
                            const float* inverse_frequencies) = 0;

  // Writes k and v, [tokens, kv_heads, head_dim] with `stride` floats from token to token, to the
  // sequences and positions of the batch in the cache, rounding to its dtype.
  virtual absl::Status StoreKv(const float* k, const float* v, int64_t stride,
                               const TokenBatch& batch, const KvCacheView& cache) = 0;

  // Causal attention of the batch's queries, each over its own sequence in the cache, which already
  // holds their own keys and values. q [tokens, query_heads, head_dim] with q_stride floats from
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
// bits with a scale per block of the weights' format (engine/kernels/int8_ops.h). 8 bits add about
// 0.7 % to the error of a product, 16 bits 0.003 %.
enum class Activations { kF32, kInt16, kInt8 };

// Vectorised with Highway, the best instruction set chosen at run time. `pool` outlives the
// kernels. Rounding, quantised weights must go through ArrangeWeights.
std::unique_ptr<Kernels> MakeCpuKernels(ThreadPool* pool,
                                        Activations activations = Activations::kF32);

// theta^(-2i / dims) for i < dims/2, scaled as `rope` says (Llama 3: arXiv 2407.21783 and
// meta-llama/llama-models; linear: divided by factor), each divided by factors[i] if given. Formed
// in double.
void InverseFrequencies(const RopeSpec& rope, const float* factors, float* out);

}  // namespace tprun
