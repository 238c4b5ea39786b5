#include "launcher/op_profile.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/kernel_checks.h"

namespace tprun {
namespace {

using Clock = std::chrono::steady_clock;

// Adds the time until its end.
class Timed {
 public:
  Timed(OpProfile* profile, std::string name, double bytes, double operations, bool keep = false)
      : profile_(profile), name_(std::move(name)), keep_(keep), start_(Clock::now()) {
    call_.bytes = bytes;
    call_.operations = operations;
  }
  Timed(OpProfile* profile, std::string name, double bytes, double operations,
        cpu::Arithmetic arithmetic)
      : Timed(profile, std::move(name), bytes, operations) {
    call_.arithmetic = arithmetic;
  }
  ~Timed() {
    call_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    profile_->Add(name_, call_, keep_);
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  OpProfile* const profile_;
  const std::string name_;
  OpProfile::Op call_;
  const bool keep_;
  const Clock::time_point start_;
};

double Floats(int64_t count) { return static_cast<double>(count) * sizeof(float); }
double WeightBytes(const WeightMatrix& w) {
  return static_cast<double>(w.format->Bytes(w.rows * w.columns));
}
double Products(const WeightMatrix& w, int64_t tokens) {
  return 2.0 * static_cast<double>(w.rows) * static_cast<double>(w.columns) *
         static_cast<double>(tokens);
}

class ProfiledKernels final : public Kernels {
 public:
  ProfiledKernels(std::unique_ptr<Kernels> kernels, Activations activations, OpProfile* profile)
      : inner_(std::move(kernels)), activations_(activations), profile_(profile) {}

  absl::string_view name() const override { return inner_->name(); }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    const Timed timed = Elements("embedding", tokens * table.columns);
    return inner_->Embedding(table, ids, tokens, first_row, scale, out);
  }
  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    const Timed timed = Elements("norm", 2 * tokens * dim);
    return inner_->RmsNorm(x, w, tokens, dim, norm, out);
  }
  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    const Timed timed = Product("matmul", {w}, tokens);
    return inner_->MatMul(x, w, bias, tokens, out, out_stride);
  }
  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    const Timed timed = Elements("rope", 2 * batch.tokens * heads * head_dim);
    return inner_->Rope(x, batch, heads, head_dim, stride, rope, inverse_frequencies);
  }
  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    const Timed timed = Elements("store kv", 2 * batch.tokens * cache.kv_heads * cache.head_dim);
    return inner_->StoreKv(k, v, stride, batch, cache);
  }
  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    double bytes = 0, operations = 0;
    for (const TokenRun& run : batch.runs) {
      int64_t pairs = 0;  // of a query and a key
      const int64_t end = run.first_position + run.tokens;
      for (int64_t position = run.first_position; position < end; ++position) {
        pairs += position + 1 - FirstVisible(shape, position);
      }
      const int64_t rows = end - FirstVisible(shape, run.first_position);
      const int stored = cache.keys == cache.values ? 1 : 2;
      bytes += static_cast<double>(stored * rows * cache.kv_heads * cache.row_bytes());
      operations += 4.0 * static_cast<double>(pairs) * shape.query_heads * cache.head_dim;
    }
    const Timed timed(profile_, "attention", bytes, operations);
    return inner_->Attention(q, q_stride, batch, cache, shape, out);
  }
  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    const Timed timed = Elements("activation", 3 * count);
    return inner_->GatedActivation(activation, gate, up, count);
  }
  absl::Status Add(float* x, const float* y, int64_t count) override {
    const Timed timed = Elements("add", 3 * count);
    return inner_->Add(x, y, count);
  }
  absl::Status Softcap(float* x, int64_t count, float cap) override {
    const Timed timed = Elements("softcap", 2 * count);
    return inner_->Softcap(x, count, cap);
  }
  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    const Timed timed = Elements("argmax", rows * columns);
    return inner_->ArgMax(x, rows, columns, first_id, best);
  }
  absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                       int64_t tokens) override {
    std::vector<WeightMatrix> weights;
    for (const Projection& p : projections) weights.push_back(p.weight);
    const Timed timed = Product("matmuls", weights, tokens);
    return inner_->MatMuls(x, projections, tokens);
  }
  absl::Status GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                           Activation activation, int64_t tokens, float* out,
                           float* up_out) override {
    const Timed timed = Product("gate, up", {gate, up}, tokens);
    return inner_->GatedMatMul(x, gate, up, activation, tokens, out, up_out);
  }
  absl::Status HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                        int64_t stride, const NormSpec& norm) override {
    const Timed timed = Elements("norm", 2 * tokens * heads * head_dim);
    return inner_->HeadNorm(x, w, tokens, heads, head_dim, stride, norm);
  }
  absl::Status RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                           const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                           const float* inverse_frequencies, const KvCacheView& cache) override {
    const int64_t heads = 2 * query_heads + 3 * cache.kv_heads;
    const Timed timed = Elements("rope, store kv", batch.tokens * heads * cache.head_dim);
    return inner_->RopeStoreKv(q, k, v, stride, batch, query_heads, rope, inverse_frequencies,
                               cache);
  }
  absl::Status AddBias(float* x, const float* bias, int64_t tokens, int64_t dim) override {
    const Timed timed = Elements("add", 2 * tokens * dim);
    return inner_->AddBias(x, bias, tokens, dim);
  }
  absl::Status AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                          int64_t dim, const NormSpec& norm, float* out) override {
    const Timed timed = Elements("add, norm", 4 * tokens * dim);
    return inner_->AddRmsNorm(residual, y, w, tokens, dim, norm, out);
  }
  absl::Status SumParts(absl::Span<const float* const> parts, int64_t count, float* out) override {
    const auto reads = static_cast<int64_t>(parts.size());
    const Timed timed = Elements("sum", (reads + 1) * count);
    return inner_->SumParts(parts, count, out);
  }
  absl::Status SumPartsRmsNorm(absl::Span<const float* const> parts, float* residual,
                               const float* w, int64_t tokens, int64_t dim, const NormSpec& norm,
                               float* out) override {
    const auto reads = static_cast<int64_t>(parts.size());
    const Timed timed = Elements("sum, add, norm", (reads + 3) * tokens * dim);
    return inner_->SumPartsRmsNorm(parts, residual, w, tokens, dim, norm, out);
  }
  absl::Status RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                            const ExpertsSpec& experts, int32_t* ids, float* weights) override {
    const Timed timed = Elements("route", tokens * experts.count);
    return inner_->RouteExperts(logits, choice_bias, tokens, experts, ids, weights);
  }
  absl::Status ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                 const ExpertMatrices& up, Activation activation,
                                 const ExpertChoice& choice, float* out, float* up_out) override {
    const Timed timed = OfExperts("experts' gate, up", {gate.all, up.all}, choice);
    return inner_->ExpertGatedMatMul(x, gate, up, activation, choice, out, up_out);
  }
  absl::Status ExpertSum(const float* h, const ExpertMatrices& down, const ExpertChoice& choice,
                         float* out) override {
    const Timed timed = OfExperts("experts' down", {down.all}, choice);
    return inner_->ExpertSum(h, down, choice, out);
  }
  absl::Status SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns) override {
    const Timed timed = Elements("scale", 2 * tokens * columns);
    return inner_->SigmoidScale(x, gate, tokens, columns);
  }
  absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                          int64_t tokens, int heads, const HeadVectors& out) override {
    const Timed timed = {profile_, "heads' matmul", WeightBytes(w), Products(w, tokens)};
    return inner_->HeadMatMul(x, w, transposed, tokens, heads, out);
  }
  absl::Status CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                         const HeadVectors& out) override {
    const Timed timed = Elements("copy", 2 * tokens * heads * count);
    return inner_->CopyHeads(x, tokens, heads, count, out);
  }
  absl::Status CheckHasOpsFor(const LayerSpec& layer, BlockKind kind) const override {
    return inner_->CheckHasOpsFor(layer, kind);
  }
  bool HasPages() const override { return inner_->HasPages(); }
  absl::Status CheckHasCacheOf(const WeightFormat& format) const override {
    return inner_->CheckHasCacheOf(format);
  }
  absl::Status ArrangeWeights(const WeightFormat& format, void* data, int64_t rows,
                              int64_t columns) override {
    return inner_->ArrangeWeights(format, data, rows, columns);
  }
  int64_t arranged_rows() const override { return inner_->arranged_rows(); }
  absl::Status ArrangeRows(const WeightFormat& format, void* data, int64_t rows, int64_t columns,
                           int64_t begin, int64_t end) override {
    return inner_->ArrangeRows(format, data, rows, columns, begin, end);
  }
  int64_t workspace_bytes() const override { return inner_->workspace_bytes(); }

 private:
  Timed Elements(const char* name, int64_t floats) { return {profile_, name, Floats(floats), 0}; }

  Timed Product(const char* name, const std::vector<WeightMatrix>& weights, int64_t tokens) {
    double bytes = 0, operations = 0;
    for (const WeightMatrix& w : weights) {
      bytes += WeightBytes(w) + Floats(tokens * w.rows);
      operations += Products(w, tokens);
    }
    if (weights.empty()) return {profile_, name, 0, 0};
    bytes += Floats(tokens * weights[0].columns);
    return OfFormat(name, *weights[0].format, bytes, operations);
  }

  Timed OfFormat(const char* name, const WeightFormat& format, double bytes, double operations) {
    return {profile_, absl::StrCat(name, " ", format.name), bytes, operations,
            cpu::ArithmeticOf(format, activations_)};
  }

  // As if every token went to the slots of this rank and each chosen expert were read once.
  Timed OfExperts(const char* name, const std::vector<WeightMatrix>& all,
                  const ExpertChoice& choice) {
    const auto chosen = static_cast<double>(choice.tokens * choice.slots());
    const double experts = std::max(choice.experts, 1);
    double bytes = 0, operations = 0;
    for (const WeightMatrix& w : all) {
      bytes += WeightBytes(w) * std::min(chosen / experts, 1.0);
      operations += Products(w, 1) / experts * chosen;
    }
    return OfFormat(name, *all[0].format, bytes, operations);
  }

  const std::unique_ptr<Kernels> inner_;
  const Activations activations_;
  OpProfile* const profile_;
};

class ProfiledCommunicator final : public Communicator {
 public:
  ProfiledCommunicator(Communicator* comm, std::unique_ptr<Communicator> owned, OpProfile* profile)
      : comm_(comm), owned_(std::move(owned)), profile_(profile) {}

  int rank() const override { return comm_->rank(); }
  int size() const override { return comm_->size(); }
  absl::Duration timeout() const override { return comm_->timeout(); }
  absl::string_view backend() const override { return comm_->backend(); }
  std::string description() const override { return comm_->description(); }
  bool capturable() const override { return comm_->capturable(); }
  bool buffers_sends() const override { return comm_->buffers_sends(); }

  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override {
    const auto bytes = static_cast<double>(count) * static_cast<double>(SizeOf(dtype));
    const Timed timed(profile_, "all-reduce", bytes, 0, /*keep=*/true);
    return comm_->AllReduceSum(send, receive, count, dtype);
  }
  void* SumBuffer(int64_t bytes) override { return comm_->SumBuffer(bytes); }
  // Of sums in place the ranks' meetings count here, and reading the parts as an op.
  absl::StatusOr<std::unique_ptr<SharedParts>> ShareParts(int64_t floats) override {
    ASSIGN_OR_RETURN(std::unique_ptr<SharedParts> parts, comm_->ShareParts(floats));
    if (parts == nullptr) return parts;
    parts->Watch([profile = profile_](int64_t bytes, double seconds) {
      profile->Add("all-reduce", {.seconds = seconds, .bytes = static_cast<double>(bytes)},
                   /*keep=*/true);
    });
    return parts;
  }
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override {
    double bytes = 0;
    for (int64_t count : counts)
      bytes += static_cast<double>(count * static_cast<int64_t>(SizeOf(dtype)));
    const Timed timed(profile_, "all-gather", bytes, 0, /*keep=*/true);
    return comm_->AllGather(send, receive, counts, dtype);
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root) override {
    return comm_->Broadcast(data, bytes, root);
  }
  absl::Status Send(const void* data, int64_t bytes, int to) override {
    const Timed timed(profile_, "send", static_cast<double>(bytes), 0, /*keep=*/true);
    return comm_->Send(data, bytes, to);
  }
  absl::Status Receive(void* data, int64_t bytes, int from) override {
    const Timed timed(profile_, "receive", static_cast<double>(bytes), 0, /*keep=*/true);
    return comm_->Receive(data, bytes, from);
  }
  absl::Status Barrier() override { return comm_->Barrier(); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override {
    ASSIGN_OR_RETURN(std::unique_ptr<Communicator> group, comm_->Split(ranks));
    if (group == nullptr) return group;
    Communicator* const comm = group.get();
    return std::make_unique<ProfiledCommunicator>(comm, std::move(group), profile_);
  }
  absl::Status Check() override { return comm_->Check(); }
  void Abort(const std::string& reason) override { comm_->Abort(reason); }

 private:
  Communicator* const comm_;
  const std::unique_ptr<Communicator> owned_;  // comm_, or none
  OpProfile* const profile_;
};

}  // namespace

void OpProfile::Add(const std::string& name, const Op& call, bool keep) {
  Op& op = ops_[name];
  ++op.calls;
  op.seconds += call.seconds;
  op.bytes += call.bytes;
  op.operations += call.operations;
  op.arithmetic = call.arithmetic;
  if (keep) op.samples.push_back(static_cast<float>(call.seconds));
}

std::unique_ptr<Kernels> ProfileKernels(std::unique_ptr<Kernels> kernels, Activations activations,
                                        OpProfile* profile) {
  return std::make_unique<ProfiledKernels>(std::move(kernels), activations, profile);
}

std::unique_ptr<Communicator> ProfileCommunicator(Communicator* comm, OpProfile* profile) {
  return std::make_unique<ProfiledCommunicator>(comm, nullptr, profile);
}

}  // namespace tprun
