#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
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

// Keys or values of one layer on one rank: [kv_heads, positions, head_dim], so that the keys of a
// head lie together.
struct KvCacheView {
  void* keys = nullptr;
  void* values = nullptr;
  DType dtype = DType::kF32;
  int64_t capacity = 0;  // positions
  int kv_heads = 0;
  int head_dim = 0;
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

// The op set. Activations are f32, row-major, on the device's memory; shapes and aliasing of each
// op are said here once. Bound at creation to a device's stream, and for the CPU to a thread pool;
// ops run in the order of the calls. Twins: `reference` (plain loops, sums in double), `cpu`
// (Highway). An empty shape (0 tokens, 0 rows) is allowed and does nothing.
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

  // Rotates, in place, the first rope.dims elements of each head of x, whose token t is at position
  // first_position + t. x [tokens, heads, head_dim] with `stride` floats from token to token.
  // inverse_frequencies [rope.dims / 2] (see InverseFrequencies).
  virtual absl::Status Rope(float* x, int64_t tokens, int heads, int head_dim, int64_t stride,
                            const RopeSpec& rope, const float* inverse_frequencies,
                            int64_t first_position) = 0;

  // Writes k and v, [tokens, kv_heads, head_dim] with `stride` floats from token to token, to
  // positions [first_position, first_position + tokens) of the cache, rounding to its dtype.
  virtual absl::Status StoreKv(const float* k, const float* v, int64_t tokens, int64_t stride,
                               int64_t first_position, const KvCacheView& cache) = 0;

  // Causal attention of `tokens` queries, the first at first_position, over the cache, which
  // already holds their own keys and values. q [tokens, query_heads, head_dim] with q_stride floats
  // from token to token, out [tokens, query_heads, head_dim] dense. No aliasing.
  virtual absl::Status Attention(const float* q, int64_t tokens, int64_t q_stride,
                                 int64_t first_position, const KvCacheView& cache,
                                 const AttentionShape& shape, float* out) = 0;

  // gate[i] = act(gate[i]) * up[i], in place.
  virtual absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                                       int64_t count) = 0;

  // x[i] += y[i].
  virtual absl::Status Add(float* x, const float* y, int64_t count) = 0;

  // x[i] = cap * tanh(x[i] / cap).
  virtual absl::Status Softcap(float* x, int64_t count, float cap) = 0;
};

// Plain loops, one thread: what the others are tested against.
std::unique_ptr<Kernels> MakeReferenceKernels();

// Vectorised with Highway, the best instruction set chosen at run time. `pool` outlives the
// kernels.
std::unique_ptr<Kernels> MakeCpuKernels(ThreadPool* pool);

// theta^(-2i / dims) for i < dims/2, scaled as `rope` says (Llama 3: arXiv 2407.21783 and
// meta-llama/llama-models; linear: divided by factor), each divided by factors[i] if given. Formed
// in double.
void InverseFrequencies(const RopeSpec& rope, const float* factors, float* out);

}  // namespace tprun
