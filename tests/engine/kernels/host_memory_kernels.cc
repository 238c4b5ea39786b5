#include "tests/engine/kernels/host_memory_kernels.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status_macros.h"

namespace tprun {
namespace {

// A copy of host memory on the device, for the time of a call.
class Mirror {
 public:
  absl::Status In(Device& device, const void* host, int64_t bytes) {
    if (host == nullptr) return absl::OkStatus();
    bytes_ = std::max<int64_t>(bytes, 0);
    ASSIGN_OR_RETURN(buffer_, device.Allocate(bytes_));
    return device.CopyFromHost(buffer_->data(), host, bytes_);
  }
  absl::Status Out(Device& device, void* host) const {
    if (buffer_ == nullptr) return absl::OkStatus();
    return device.CopyToHost(host, buffer_->data(), bytes_);
  }
  // Only the rows of `width` floats: what is between them may be another op's.
  absl::Status OutRows(Device& device, float* host, int64_t rows, int64_t width,
                       int64_t stride) const {
    std::vector<float> copy(bytes_ / sizeof(float));
    RETURN_IF_ERROR(Out(device, copy.data()));
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(copy.begin() + row * stride, width, host + row * stride);
    }
    return absl::OkStatus();
  }
  template <class T>
  T* as() const {
    return buffer_ == nullptr ? nullptr : static_cast<T*>(buffer_->data());
  }

 private:
  std::unique_ptr<Buffer> buffer_;
  int64_t bytes_ = 0;
};

int64_t FloatBytes(int64_t count) { return count * static_cast<int64_t>(sizeof(float)); }

// Rows of `width` floats, `stride` from start to start.
int64_t StridedBytes(int64_t rows, int64_t width, int64_t stride) {
  return rows <= 0 ? 0 : FloatBytes((rows - 1) * stride + width);
}

struct BatchMirror {
  Mirror sequences, positions;
  TokenBatch batch;

  absl::Status In(Device& device, const TokenBatch& host) {
    int64_t tokens = 0;  // that the arrays have, also of a batch that is refused
    for (const TokenRun& run : host.runs) tokens += std::max<int64_t>(run.tokens, 0);
    RETURN_IF_ERROR(sequences.In(device, host.sequences, tokens * 4));
    RETURN_IF_ERROR(positions.In(device, host.positions, tokens * 4));
    batch = host;
    batch.sequences = sequences.as<int32_t>();
    batch.positions = positions.as<int32_t>();
    return absl::OkStatus();
  }
};

struct CacheMirror {
  Mirror keys, values, pages;
  KvCacheView cache;

  absl::Status In(Device& device, const KvCacheView& host) {
    const int64_t sequence = host.kv_heads * host.capacity * host.row_bytes();
    const int64_t bytes =
        host.pages != nullptr
            ? host.page_count * host.kv_heads * kKvPagePositions * host.row_bytes()
            : (host.sequences - 1) * host.sequence_stride + sequence;
    RETURN_IF_ERROR(
        pages.In(device, host.pages, host.sequences * host.pages_per_sequence() * int64_t{4}));
    RETURN_IF_ERROR(keys.In(device, host.keys, bytes));
    const bool shared = host.values == host.keys;
    if (!shared) RETURN_IF_ERROR(values.In(device, host.values, bytes));
    cache = host;
    cache.pages = pages.as<int32_t>();
    cache.keys = keys.as<void>();
    cache.values = shared ? cache.keys : values.as<void>();
    return absl::OkStatus();
  }
  absl::Status Out(Device& device, const KvCacheView& host) const {
    RETURN_IF_ERROR(keys.Out(device, host.keys));
    return host.values == host.keys ? absl::OkStatus() : values.Out(device, host.values);
  }
};

// A stack of matrices, each of which is arranged by itself.
struct ExpertsMirror {
  Mirror weights, bias;
  ExpertMatrices matrices;

  absl::Status In(Device& device, Kernels& kernels, const ExpertMatrices& host) {
    matrices = host;
    const WeightFormat& format = *host.all.format;
    const int64_t row_bytes = format.Bytes(host.all.columns);
    RETURN_IF_ERROR(weights.In(device, host.all.data, host.all.rows * row_bytes));
    RETURN_IF_ERROR(bias.In(device, host.bias, FloatBytes(host.all.rows)));
    matrices.all.data = weights.as<void>();
    matrices.bias = bias.as<float>();
    for (int64_t row = 0; row < host.all.rows; row += host.rows) {
      RETURN_IF_ERROR(kernels.ArrangeWeights(format, weights.as<char>() + row * row_bytes,
                                             host.rows, host.all.columns));
    }
    return absl::OkStatus();
  }
};

struct ChoiceMirror {
  Mirror ids, weights;
  ExpertChoice choice;

  absl::Status In(Device& device, const ExpertChoice& host) {
    const int64_t bytes = FloatBytes(host.tokens * host.per_token);
    RETURN_IF_ERROR(ids.In(device, host.ids, bytes));
    RETURN_IF_ERROR(weights.In(device, host.weights, bytes));
    choice = host;
    choice.ids = ids.as<int32_t>();
    choice.weights = weights.as<float>();
    return absl::OkStatus();
  }
};

class HostMemoryKernels final : public Kernels {
 public:
  HostMemoryKernels(std::unique_ptr<Device> device, std::unique_ptr<Kernels> kernels)
      : device_(std::move(device)), kernels_(std::move(kernels)) {}

  absl::string_view name() const override { return kernels_->name(); }
  bool HasPages() const override { return kernels_->HasPages(); }
  absl::Status CheckHasCacheOf(const WeightFormat& format) const override {
    return kernels_->CheckHasCacheOf(format);
  }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    Mirror weights, on_ids, on_out;
    ASSIGN_OR_RETURN(const WeightMatrix matrix, Weights(table, weights));
    RETURN_IF_ERROR(on_ids.In(*device_, ids, tokens * 4));
    RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(tokens * table.columns)));
    RETURN_IF_ERROR(kernels_->Embedding(matrix, on_ids.as<int32_t>(), tokens, first_row, scale,
                                        on_out.as<float>()));
    return on_out.Out(*device_, out);
  }

  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    Mirror on_x, on_w, on_out;
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(tokens * dim)));
    RETURN_IF_ERROR(on_w.In(*device_, w, FloatBytes(dim)));
    if (out != x) RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(tokens * dim)));
    const Mirror& result = out == x ? on_x : on_out;
    RETURN_IF_ERROR(kernels_->RmsNorm(on_x.as<float>(), on_w.as<float>(), tokens, dim, norm,
                                      result.as<float>()));
    return result.Out(*device_, out);
  }

  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    return MatMuls(x, {{w, bias, out, out_stride}}, tokens);
  }

  absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                       int64_t tokens) override {
    Mirror on_x;
    std::vector<Mirror> weights(projections.size()), biases(projections.size()),
        outs(projections.size());
    std::vector<Projection> on_device(projections.begin(), projections.end());
    for (size_t i = 0; i < projections.size(); ++i) {
      Projection& p = on_device[i];
      // A product without rows does not read x, which may then be shorter.
      if (p.weight.rows > 0 && on_x.as<float>() == nullptr) {
        RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(tokens * p.weight.columns)));
      }
      RETURN_IF_ERROR(biases[i].In(*device_, p.bias, FloatBytes(p.weight.rows)));
      RETURN_IF_ERROR(
          outs[i].In(*device_, p.out, StridedBytes(tokens, p.weight.rows, p.out_stride)));
      ASSIGN_OR_RETURN(p.weight, Weights(p.weight, weights[i]));
      p.bias = biases[i].as<float>();
      p.out = outs[i].as<float>();
    }
    // One goes the way of MatMul.
    RETURN_IF_ERROR(on_device.size() == 1
                        ? kernels_->MatMul(on_x.as<float>(), on_device[0].weight, on_device[0].bias,
                                           tokens, on_device[0].out, on_device[0].out_stride)
                        : kernels_->MatMuls(on_x.as<float>(), on_device, tokens));
    for (size_t i = 0; i < projections.size(); ++i) {
      const Projection& p = projections[i];
      RETURN_IF_ERROR(outs[i].OutRows(*device_, p.out, tokens, p.weight.rows, p.out_stride));
    }
    return absl::OkStatus();
  }

  absl::Status GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                           Activation activation, int64_t tokens, float* out,
                           float* up_out) override {
    Mirror on_x, on_gate, on_up, on_out, on_up_out;
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(tokens * gate.columns)));
    RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(tokens * gate.rows)));
    RETURN_IF_ERROR(on_up_out.In(*device_, up_out, FloatBytes(tokens * gate.rows)));
    ASSIGN_OR_RETURN(const WeightMatrix gate_matrix, Weights(gate, on_gate));
    ASSIGN_OR_RETURN(const WeightMatrix up_matrix, Weights(up, on_up));
    RETURN_IF_ERROR(kernels_->GatedMatMul(on_x.as<float>(), gate_matrix, up_matrix, activation,
                                          tokens, on_out.as<float>(), on_up_out.as<float>()));
    RETURN_IF_ERROR(on_up_out.Out(*device_, up_out));
    return on_out.Out(*device_, out);
  }

  absl::Status HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                        int64_t stride, const NormSpec& norm) override {
    Mirror on_x, on_w;
    RETURN_IF_ERROR(on_x.In(*device_, x, StridedBytes(tokens, int64_t{heads} * head_dim, stride)));
    RETURN_IF_ERROR(on_w.In(*device_, w, FloatBytes(head_dim)));
    RETURN_IF_ERROR(kernels_->HeadNorm(on_x.as<float>(), on_w.as<float>(), tokens, heads, head_dim,
                                       stride, norm));
    return on_x.OutRows(*device_, x, tokens, int64_t{heads} * head_dim, stride);
  }

  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    Mirror on_x, frequencies;
    BatchMirror on_batch;
    RETURN_IF_ERROR(
        on_x.In(*device_, x, StridedBytes(batch.tokens, int64_t{heads} * head_dim, stride)));
    RETURN_IF_ERROR(frequencies.In(*device_, inverse_frequencies, FloatBytes(rope.dims / 2)));
    RETURN_IF_ERROR(on_batch.In(*device_, batch));
    RETURN_IF_ERROR(kernels_->Rope(on_x.as<float>(), on_batch.batch, heads, head_dim, stride, rope,
                                   frequencies.as<float>()));
    return on_x.OutRows(*device_, x, batch.tokens, int64_t{heads} * head_dim, stride);
  }

  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    Mirror on_k, on_v;
    BatchMirror on_batch;
    CacheMirror on_cache;
    const int64_t width = int64_t{cache.kv_heads} * cache.head_dim;
    RETURN_IF_ERROR(on_k.In(*device_, k, StridedBytes(batch.tokens, width, stride)));
    RETURN_IF_ERROR(on_v.In(*device_, v, StridedBytes(batch.tokens, width, stride)));
    RETURN_IF_ERROR(on_batch.In(*device_, batch));
    RETURN_IF_ERROR(on_cache.In(*device_, cache));
    RETURN_IF_ERROR(kernels_->StoreKv(on_k.as<float>(), on_v.as<float>(), stride, on_batch.batch,
                                      on_cache.cache));
    return on_cache.Out(*device_, cache);
  }

  absl::Status RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                           const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                           const float* inverse_frequencies, const KvCacheView& cache) override {
    Mirror on_q, on_k, on_v, frequencies;
    BatchMirror on_batch;
    CacheMirror on_cache;
    const int64_t width = int64_t{cache.kv_heads} * cache.head_dim;
    const int64_t q_width = int64_t{query_heads} * cache.head_dim;
    RETURN_IF_ERROR(on_q.In(*device_, q, StridedBytes(batch.tokens, q_width, stride)));
    RETURN_IF_ERROR(on_k.In(*device_, k, StridedBytes(batch.tokens, width, stride)));
    RETURN_IF_ERROR(on_v.In(*device_, v, StridedBytes(batch.tokens, width, stride)));
    RETURN_IF_ERROR(frequencies.In(*device_, inverse_frequencies, FloatBytes(rope.dims / 2)));
    RETURN_IF_ERROR(on_batch.In(*device_, batch));
    RETURN_IF_ERROR(on_cache.In(*device_, cache));
    RETURN_IF_ERROR(kernels_->RopeStoreKv(on_q.as<float>(), on_k.as<float>(), on_v.as<float>(),
                                          stride, on_batch.batch, query_heads, rope,
                                          frequencies.as<float>(), on_cache.cache));
    RETURN_IF_ERROR(on_q.OutRows(*device_, q, batch.tokens, q_width, stride));
    return on_cache.Out(*device_, cache);
  }

  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    Mirror on_q, on_out, on_sinks;
    BatchMirror on_batch;
    CacheMirror on_cache;
    const int64_t width = int64_t{shape.query_heads} * cache.head_dim;
    AttentionShape on_device = shape;
    RETURN_IF_ERROR(on_sinks.In(*device_, shape.sinks, FloatBytes(shape.query_heads)));
    on_device.sinks = on_sinks.as<float>();
    RETURN_IF_ERROR(on_q.In(*device_, q, StridedBytes(batch.tokens, width, q_stride)));
    RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(batch.tokens * width)));
    RETURN_IF_ERROR(on_batch.In(*device_, batch));
    RETURN_IF_ERROR(on_cache.In(*device_, cache));
    RETURN_IF_ERROR(kernels_->Attention(on_q.as<float>(), q_stride, on_batch.batch, on_cache.cache,
                                        on_device, on_out.as<float>()));
    return on_out.Out(*device_, out);
  }

  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    return TwoRows(gate, up, count, count, [&](float* x, const float* y) {
      return kernels_->GatedActivation(activation, x, y, count);
    });
  }

  absl::Status Add(float* x, const float* y, int64_t count) override {
    return TwoRows(x, y, count, count, [&](float* on_x, const float* on_y) {
      return kernels_->Add(on_x, on_y, count);
    });
  }

  absl::Status AddBias(float* x, const float* bias, int64_t tokens, int64_t dim) override {
    return TwoRows(x, bias, tokens * dim, dim, [&](float* on_x, const float* on_bias) {
      return kernels_->AddBias(on_x, on_bias, tokens, dim);
    });
  }

  absl::Status AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                          int64_t dim, const NormSpec& norm, float* out) override {
    Mirror on_residual, on_y, on_w, on_out;
    RETURN_IF_ERROR(on_residual.In(*device_, residual, FloatBytes(tokens * dim)));
    RETURN_IF_ERROR(on_y.In(*device_, y, FloatBytes(tokens * dim)));
    RETURN_IF_ERROR(on_w.In(*device_, w, FloatBytes(dim)));
    if (out != y) RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(tokens * dim)));
    const Mirror& result = out == y ? on_y : on_out;
    RETURN_IF_ERROR(kernels_->AddRmsNorm(on_residual.as<float>(), on_y.as<float>(),
                                         on_w.as<float>(), tokens, dim, norm, result.as<float>()));
    RETURN_IF_ERROR(on_residual.Out(*device_, residual));
    return result.Out(*device_, out);
  }

  absl::Status Softcap(float* x, int64_t count, float cap) override {
    Mirror on_x;
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(count)));
    RETURN_IF_ERROR(kernels_->Softcap(on_x.as<float>(), count, cap));
    return on_x.Out(*device_, x);
  }

  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    Mirror on_x, on_best;
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(rows * columns)));
    RETURN_IF_ERROR(on_best.In(*device_, best, rows * static_cast<int64_t>(sizeof(BestLogit))));
    RETURN_IF_ERROR(
        kernels_->ArgMax(on_x.as<float>(), rows, columns, first_id, on_best.as<BestLogit>()));
    return on_best.Out(*device_, best);
  }

  absl::Status Sample(float* logits, const SampleRequest* requests, int64_t rows, int64_t vocab,
                      const uint32_t* seen, BestLogit* chosen) override {
    Mirror on_logits, on_requests, on_seen, on_chosen;
    RETURN_IF_ERROR(on_logits.In(*device_, logits, FloatBytes(rows * vocab)));
    RETURN_IF_ERROR(
        on_requests.In(*device_, requests, rows * static_cast<int64_t>(sizeof(SampleRequest))));
    int32_t last = 0;
    for (int64_t r = 0; r < rows; ++r) last = std::max(last, requests[r].sequence);
    RETURN_IF_ERROR(on_seen.In(*device_, seen, (last + 1) * SeenWords(vocab) * 4));
    RETURN_IF_ERROR(on_chosen.In(*device_, chosen, rows * static_cast<int64_t>(sizeof(BestLogit))));
    RETURN_IF_ERROR(kernels_->Sample(on_logits.as<float>(), on_requests.as<SampleRequest>(), rows,
                                     vocab, on_seen.as<uint32_t>(), on_chosen.as<BestLogit>()));
    return on_chosen.Out(*device_, chosen);
  }

  absl::Status MarkSeen(const int32_t* ids, const int32_t* sequences, int64_t tokens, int64_t vocab,
                        uint32_t* seen) override {
    Mirror on_ids, on_sequences, on_seen;
    RETURN_IF_ERROR(on_ids.In(*device_, ids, tokens * 4));
    RETURN_IF_ERROR(on_sequences.In(*device_, sequences, tokens * 4));
    const int32_t last = *std::max_element(sequences, sequences + tokens);
    RETURN_IF_ERROR(on_seen.In(*device_, seen, (last + 1) * SeenWords(vocab) * 4));
    RETURN_IF_ERROR(kernels_->MarkSeen(on_ids.as<int32_t>(), on_sequences.as<int32_t>(), tokens,
                                       vocab, on_seen.as<uint32_t>()));
    return on_seen.Out(*device_, seen);
  }

  absl::Status RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                            const ExpertsSpec& experts, int32_t* ids, float* weights) override {
    Mirror on_logits, on_bias, on_ids, on_weights;
    const int64_t bytes = FloatBytes(tokens * experts.per_token);
    RETURN_IF_ERROR(on_logits.In(*device_, logits, FloatBytes(tokens * experts.count)));
    RETURN_IF_ERROR(on_bias.In(*device_, choice_bias, FloatBytes(experts.count)));
    RETURN_IF_ERROR(on_ids.In(*device_, ids, bytes));
    RETURN_IF_ERROR(on_weights.In(*device_, weights, bytes));
    RETURN_IF_ERROR(kernels_->RouteExperts(on_logits.as<float>(), on_bias.as<float>(), tokens,
                                           experts, on_ids.as<int32_t>(), on_weights.as<float>()));
    RETURN_IF_ERROR(on_ids.Out(*device_, ids));
    return on_weights.Out(*device_, weights);
  }

  absl::Status ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                 const ExpertMatrices& up, Activation activation,
                                 const ExpertChoice& choice, float* out, float* up_out) override {
    Mirror on_x, on_out, on_up_out;
    ExpertsMirror on_gate, on_up;
    ChoiceMirror on_choice;
    const int64_t rows = choice.tokens * choice.slots();
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(choice.tokens * gate.all.columns)));
    RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(rows * gate.rows)));
    RETURN_IF_ERROR(on_up_out.In(*device_, up_out, FloatBytes(rows * gate.rows)));
    RETURN_IF_ERROR(on_gate.In(*device_, *kernels_, gate));
    RETURN_IF_ERROR(on_up.In(*device_, *kernels_, up));
    RETURN_IF_ERROR(on_choice.In(*device_, choice));
    RETURN_IF_ERROR(kernels_->ExpertGatedMatMul(on_x.as<float>(), on_gate.matrices, on_up.matrices,
                                                activation, on_choice.choice, on_out.as<float>(),
                                                on_up_out.as<float>()));
    return on_out.Out(*device_, out);
  }

  absl::Status ExpertSum(const float* h, const ExpertMatrices& down, const ExpertChoice& choice,
                         float* out) override {
    Mirror on_h, on_out;
    ExpertsMirror on_down;
    ChoiceMirror on_choice;
    RETURN_IF_ERROR(
        on_h.In(*device_, h, FloatBytes(choice.tokens * choice.slots() * down.all.columns)));
    RETURN_IF_ERROR(on_out.In(*device_, out, FloatBytes(choice.tokens * down.rows)));
    RETURN_IF_ERROR(on_down.In(*device_, *kernels_, down));
    RETURN_IF_ERROR(on_choice.In(*device_, choice));
    RETURN_IF_ERROR(kernels_->ExpertSum(on_h.as<float>(), on_down.matrices, on_choice.choice,
                                        on_out.as<float>()));
    return on_out.Out(*device_, out);
  }

  absl::Status SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns) override {
    return TwoRows(x, gate, tokens * columns, tokens, [&](float* on_x, const float* on_gate) {
      return kernels_->SigmoidScale(on_x, on_gate, tokens, columns);
    });
  }

  absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                          int64_t tokens, int heads, const HeadVectors& out) override {
    const int64_t rows = heads == 0 ? 0 : w.rows / heads;
    Mirror weights;
    const int64_t bytes = w.format->Bytes(w.rows * w.columns);
    RETURN_IF_ERROR(weights.In(*device_, w.data, bytes));
    for (int h = 0; !transposed && h < heads; ++h) {
      RETURN_IF_ERROR(kernels_->ArrangeWeights(*w.format, weights.as<char>() + h * (bytes / heads),
                                               rows, w.columns));
    }
    const WeightMatrix on_device = {weights.as<void>(), w.format, w.rows, w.columns};
    return OnHeads(x, tokens, heads, transposed ? rows : w.columns, out,
                   transposed ? w.columns : rows, [&](const HeadVectors& a, const HeadVectors& b) {
                     return kernels_->HeadMatMul(a, on_device, transposed, tokens, heads, b);
                   });
  }

  absl::Status CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                         const HeadVectors& out) override {
    return OnHeads(x, tokens, heads, count, out, count,
                   [&](const HeadVectors& a, const HeadVectors& b) {
                     return kernels_->CopyHeads(a, tokens, heads, count, b);
                   });
  }

 private:
  // An op on x, heads of `width` elements, that writes out, heads of `out_width`.
  template <class Op>
  absl::Status OnHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t width,
                       const HeadVectors& out, int64_t out_width, Op op) {
    Mirror on_x, on_out;
    const auto bytes = [&](const HeadVectors& v, int64_t of) {
      return StridedBytes(tokens, (heads - 1) * v.head_stride + of, v.token_stride);
    };
    RETURN_IF_ERROR(on_x.In(*device_, x.data, bytes(x, width)));
    RETURN_IF_ERROR(on_out.In(*device_, out.data, bytes(out, out_width)));
    RETURN_IF_ERROR(op({on_x.as<float>(), x.token_stride, x.head_stride},
                       {on_out.as<float>(), out.token_stride, out.head_stride}));
    return on_out.Out(*device_, out.data);
  }

  // An op on x [count] and y [y_count] that writes x.
  template <class Op>
  absl::Status TwoRows(float* x, const float* y, int64_t count, int64_t y_count, Op op) {
    Mirror on_x, on_y;
    RETURN_IF_ERROR(on_x.In(*device_, x, FloatBytes(count)));
    RETURN_IF_ERROR(on_y.In(*device_, y, FloatBytes(y_count)));
    RETURN_IF_ERROR(op(on_x.as<float>(), on_y.as<float>()));
    return on_x.Out(*device_, x);
  }

  absl::StatusOr<WeightMatrix> Weights(const WeightMatrix& host, Mirror& mirror) {
    WeightMatrix w = host;
    if (w.columns % w.format->block_elements != 0) return w;  // will be refused
    RETURN_IF_ERROR(mirror.In(*device_, host.data, w.format->Bytes(w.rows * w.columns)));
    w.data = mirror.as<void>();
    if (w.data == nullptr) return w;
    RETURN_IF_ERROR(kernels_->ArrangeWeights(*w.format, mirror.as<void>(), w.rows, w.columns));
    return w;
  }

  const std::unique_ptr<Device> device_;
  const std::unique_ptr<Kernels> kernels_;
};

}  // namespace

std::unique_ptr<Kernels> MakeHostMemoryKernels(std::unique_ptr<Device> device,
                                               std::unique_ptr<Kernels> kernels) {
  return std::make_unique<HostMemoryKernels>(std::move(device), std::move(kernels));
}

}  // namespace tprun
