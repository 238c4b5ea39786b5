#include "tests/engine/runtime/fake_accelerator.h"

#include <deque>
#include <mutex>
#include <numeric>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "comm/host_communicator.h"
#include "tests/engine/runtime/fake_device.h"

namespace tprun {
namespace {

// The batch as its arrays say, a run per token; what the host had is not used.
class ArrayBatch {
 public:
  explicit ArrayBatch(const TokenBatch& batch) {
    for (int64_t t = 0; t < batch.tokens; ++t) {
      runs_.push_back({batch.sequences[t], batch.positions[t], 1});
    }
    batch_ = batch;
    batch_.runs = runs_;
  }
  const TokenBatch& batch() const { return batch_; }

 private:
  std::vector<TokenRun> runs_;
  TokenBatch batch_;
};

constexpr char kArranged = 0x5a;

// A matrix as the checkpoint has it, from one that went through ArrangeWeights: once, or it is
// nonsense.
class PlainMatrix {
 public:
  explicit PlainMatrix(const WeightMatrix& arranged) : matrix_(arranged) {
    if (arranged.data == nullptr) return;
    const auto* bytes = static_cast<const char*>(arranged.data);
    plain_.assign(bytes, bytes + arranged.format->Bytes(arranged.rows * arranged.columns));
    for (char& byte : plain_) byte ^= kArranged;
    matrix_.data = plain_.data();
  }
  const WeightMatrix& matrix() const { return matrix_; }

 private:
  WeightMatrix matrix_;
  std::vector<char> plain_;
};

using tprun::Behind;
WeightMatrix Behind(WeightMatrix w) {
  w.data = Behind(w.data);
  return w;
}
KvCacheView Behind(KvCacheView cache) {
  cache.keys = Behind(cache.keys);
  cache.values = Behind(cache.values);
  return cache;
}
TokenBatch Behind(TokenBatch batch) {
  batch.sequences = Behind(batch.sequences);
  batch.positions = Behind(batch.positions);
  return batch;
}

ExpertMatrices Behind(ExpertMatrices matrices) {
  matrices.all = Behind(matrices.all);
  matrices.bias = Behind(matrices.bias);
  return matrices;
}
ExpertChoice Behind(ExpertChoice choice) {
  choice.ids = Behind(choice.ids);
  choice.weights = Behind(choice.weights);
  return choice;
}
HeadVectors Behind(HeadVectors x) {
  x.data = Behind(x.data);
  return x;
}

class FakeKernels final : public Kernels {
 public:
  FakeKernels(FakeDevice& device, FakeCompute compute)
      : device_(device), compute_(std::move(compute)) {}
  absl::string_view name() const override { return "fake"; }

  absl::Status ArrangeWeights(const WeightFormat& format, void* data, int64_t rows,
                              int64_t columns) override {
    return Enqueue([this, &format, data = Behind(data), rows, columns] {
      if (compute_.arranges) return kernels().ArrangeWeights(format, data, rows, columns);
      const int64_t bytes = format.Bytes(rows * columns);
      for (int64_t i = 0; i < bytes; ++i) static_cast<char*>(data)[i] ^= kArranged;
      return absl::OkStatus();
    });
  }
  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    return Enqueue([=, this, table = Behind(table), ids = Behind(ids), out = Behind(out)] {
      return WithMatrices({table}, [&](const std::vector<WeightMatrix>& m) {
        return kernels().Embedding(m[0], ids, tokens, first_row, scale, out);
      });
    });
  }
  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    return Enqueue([=, this, x = Behind(x), w = Behind(w), out = Behind(out)] {
      return kernels().RmsNorm(x, w, tokens, dim, norm, out);
    });
  }
  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    return MatMuls(x, {{w, bias, out, out_stride}}, tokens);
  }
  absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                       int64_t tokens) override {
    std::vector<Projection> all(projections.begin(), projections.end());
    std::vector<WeightMatrix> matrices;
    for (Projection& p : all) {
      p = {Behind(p.weight), Behind(p.bias), Behind(p.out), p.out_stride};
      matrices.push_back(p.weight);
    }
    return Enqueue([=, this, x = Behind(x)] {
      return WithMatrices(matrices, [&](const std::vector<WeightMatrix>& m) {
        std::vector<Projection> plain = all;
        for (size_t i = 0; i < m.size(); ++i) plain[i].weight = m[i];
        return kernels().MatMuls(x, plain, tokens);
      });
    });
  }
  absl::Status GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                           Activation activation, int64_t tokens, float* out,
                           float* up_out) override {
    return Enqueue([=, this, x = Behind(x), gate = Behind(gate), up = Behind(up), out = Behind(out),
                    up_out = Behind(up_out)] {
      return WithMatrices({gate, up}, [&](const std::vector<WeightMatrix>& m) {
        return kernels().GatedMatMul(x, m[0], m[1], activation, tokens, out, up_out);
      });
    });
  }
  absl::Status HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                        int64_t stride, const NormSpec& norm) override {
    return Enqueue([=, this, x = Behind(x), w = Behind(w)] {
      return kernels().HeadNorm(x, w, tokens, heads, head_dim, stride, norm);
    });
  }
  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    return Enqueue(
        [=, this, x = Behind(x), batch = Behind(batch), frequencies = Behind(inverse_frequencies)] {
          return kernels().Rope(x, ArrayBatch(batch).batch(), heads, head_dim, stride, rope,
                                frequencies);
        });
  }
  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    return Enqueue(
        [=, this, k = Behind(k), v = Behind(v), batch = Behind(batch), cache = Behind(cache)] {
          return kernels().StoreKv(k, v, stride, ArrayBatch(batch).batch(), cache);
        });
  }
  absl::Status RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                           const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                           const float* inverse_frequencies, const KvCacheView& cache) override {
    return Enqueue([=, this, q = Behind(q), k = Behind(k), v = Behind(v), batch = Behind(batch),
                    frequencies = Behind(inverse_frequencies), cache = Behind(cache)] {
      return kernels().RopeStoreKv(q, k, v, stride, ArrayBatch(batch).batch(), query_heads, rope,
                                   frequencies, cache);
    });
  }
  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override {
    AttentionShape behind = shape;
    behind.sinks = Behind(shape.sinks);
    return Enqueue(
        [=, this, q = Behind(q), batch = Behind(batch), cache = Behind(cache), out = Behind(out)] {
          return kernels().Attention(q, q_stride, ArrayBatch(batch).batch(), cache, behind, out);
        });
  }
  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    return Enqueue([=, this, gate = Behind(gate), up = Behind(up)] {
      return kernels().GatedActivation(activation, gate, up, count);
    });
  }
  absl::Status Add(float* x, const float* y, int64_t count) override {
    return Enqueue([=, this, x = Behind(x), y = Behind(y)] { return kernels().Add(x, y, count); });
  }
  absl::Status AddBias(float* x, const float* bias, int64_t tokens, int64_t dim) override {
    return Enqueue([=, this, x = Behind(x), bias = Behind(bias)] {
      return kernels().AddBias(x, bias, tokens, dim);
    });
  }
  absl::Status AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                          int64_t dim, const NormSpec& norm, float* out) override {
    return Enqueue(
        [=, this, residual = Behind(residual), y = Behind(y), w = Behind(w), out = Behind(out)] {
          return kernels().AddRmsNorm(residual, y, w, tokens, dim, norm, out);
        });
  }
  absl::Status Softcap(float* x, int64_t count, float cap) override {
    return Enqueue([=, this, x = Behind(x)] { return kernels().Softcap(x, count, cap); });
  }
  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    return Enqueue([=, this, x = Behind(x), best = Behind(best)] {
      return kernels().ArgMax(x, rows, columns, first_id, best);
    });
  }
  absl::Status Sample(float* logits, const SampleRequest* requests, int64_t rows, int64_t vocab,
                      const uint32_t* seen, BestLogit* chosen) override {
    return Enqueue([=, this, logits = Behind(logits), requests = Behind(requests),
                    seen = Behind(seen), chosen = Behind(chosen)] {
      return kernels().Sample(logits, requests, rows, vocab, seen, chosen);
    });
  }
  absl::Status MarkSeen(const int32_t* ids, const int32_t* sequences, int64_t tokens, int64_t vocab,
                        uint32_t* seen) override {
    return Enqueue(
        [=, this, ids = Behind(ids), sequences = Behind(sequences), seen = Behind(seen)] {
          return kernels().MarkSeen(ids, sequences, tokens, vocab, seen);
        });
  }
  absl::Status RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                            const ExpertsSpec& experts, int32_t* ids, float* weights) override {
    return Enqueue([=, this, logits = Behind(logits), bias = Behind(choice_bias), ids = Behind(ids),
                    weights = Behind(weights)] {
      return kernels().RouteExperts(logits, bias, tokens, experts, ids, weights);
    });
  }
  absl::Status ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                 const ExpertMatrices& up, Activation activation,
                                 const ExpertChoice& choice, float* out, float* up_out) override {
    return Enqueue([=, this, x = Behind(x), gate = Behind(gate), up = Behind(up),
                    choice = Behind(choice), out = Behind(out), up_out = Behind(up_out)] {
      return WithMatrices({gate.all, up.all}, [&](const std::vector<WeightMatrix>& m) {
        return kernels().ExpertGatedMatMul(x, {m[0], gate.rows, gate.bias},
                                           {m[1], up.rows, up.bias}, activation, choice, out,
                                           up_out);
      });
    });
  }
  absl::Status ExpertSum(const float* h, const ExpertMatrices& down, const ExpertChoice& choice,
                         float* out) override {
    return Enqueue(
        [=, this, h = Behind(h), down = Behind(down), choice = Behind(choice), out = Behind(out)] {
          return WithMatrices({down.all}, [&](const std::vector<WeightMatrix>& m) {
            return kernels().ExpertSum(h, {m[0], down.rows, down.bias}, choice, out);
          });
        });
  }
  absl::Status SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns) override {
    return Enqueue([=, this, x = Behind(x), gate = Behind(gate)] {
      return kernels().SigmoidScale(x, gate, tokens, columns);
    });
  }
  absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                          int64_t tokens, int heads, const HeadVectors& out) override {
    return Enqueue([=, this, x = Behind(x), w = Behind(w), out = Behind(out)] {
      // Transposed, w has not been arranged.
      if (transposed) return kernels().HeadMatMul(x, w, true, tokens, heads, out);
      return WithMatrices({w}, [&](const std::vector<WeightMatrix>& m) {
        return kernels().HeadMatMul(x, m[0], false, tokens, heads, out);
      });
    });
  }
  absl::Status CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                         const HeadVectors& out) override {
    return Enqueue([=, this, x = Behind(x), out = Behind(out)] {
      return kernels().CopyHeads(x, tokens, heads, count, out);
    });
  }

 private:
  Kernels& kernels() { return *compute_.kernels; }

  absl::Status Enqueue(Work work) {
    return device_.Enqueue([this, work = std::move(work)] {
      std::unique_lock<std::mutex> lock;
      if (compute_.mutex != nullptr) lock = std::unique_lock<std::mutex>(*compute_.mutex);
      return work();
    });
  }

  // Calls op with the matrices as the kernels behind read them.
  absl::Status WithMatrices(
      const std::vector<WeightMatrix>& arranged,
      const std::function<absl::Status(const std::vector<WeightMatrix>&)>& op) const {
    if (compute_.arranges) return op(arranged);
    std::deque<PlainMatrix> plain;
    std::vector<WeightMatrix> matrices;
    for (const WeightMatrix& matrix : arranged) {
      plain.emplace_back(matrix);
      matrices.push_back(plain.back().matrix());
    }
    return op(matrices);
  }

  FakeDevice& device_;
  const FakeCompute compute_;
};

// What both exchanges share: they split what they talk through.
class FakeExchange : public Communicator {
 public:
  FakeExchange(std::unique_ptr<Communicator> bootstrap, Device& device)
      : bootstrap_(std::move(bootstrap)), device_(device) {}
  int rank() const override { return bootstrap_->rank(); }
  int size() const override { return bootstrap_->size(); }
  absl::Duration timeout() const override { return bootstrap_->timeout(); }
  absl::string_view backend() const override { return "fake"; }
  absl::Status Barrier() override {
    RETURN_IF_ERROR(device_.Synchronize());
    return bootstrap_->Barrier();
  }
  void Abort(const std::string& reason) override { bootstrap_->Abort(reason); }

 protected:
  const std::unique_ptr<Communicator> bootstrap_;
  Device& device_;
};

// Through host memory.
class StagedExchange final : public FakeExchange {
 public:
  StagedExchange(std::unique_ptr<Communicator> bootstrap, Device& device)
      : FakeExchange(std::move(bootstrap), device),
        host_(MakeHostCommunicator(*bootstrap_, device)) {}
  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override {
    return host_->AllReduceSum(send, receive, count, dtype);
  }
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override {
    return host_->AllGather(send, receive, counts, dtype);
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root) override {
    return host_->Broadcast(data, bytes, root);
  }
  absl::Status Send(const void* data, int64_t bytes, int to) override {
    return host_->Send(data, bytes, to);
  }
  absl::Status Receive(void* data, int64_t bytes, int from) override {
    return host_->Receive(data, bytes, from);
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override {
    ASSIGN_OR_RETURN(auto part, bootstrap_->Split(ranks));
    return std::make_unique<StagedExchange>(std::move(part), device_);
  }

 private:
  const std::unique_ptr<Communicator> host_;
};

// As work on the stream, which can be recorded.
class StreamExchange final : public FakeExchange {
 public:
  StreamExchange(std::unique_ptr<Communicator> bootstrap, FakeDevice& device,
                 std::shared_ptr<std::atomic<int>> sums_in_buffers)
      : FakeExchange(std::move(bootstrap), device),
        stream_(device),
        sums_in_buffers_(std::move(sums_in_buffers)) {}
  bool capturable() const override { return true; }
  void* SumBuffer(int64_t bytes) override {
    if (sums_in_buffers_ == nullptr) return nullptr;
    sum_buffer_ = std::make_unique<FakeBuffer>(bytes);
    return sum_buffer_->data();
  }
  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override {
    if (sum_buffer_ != nullptr && send == sum_buffer_->data() && send == receive) {
      ++*sums_in_buffers_;
    }
    return stream_.Enqueue([=, this, send = Behind(send), receive = Behind(receive)] {
      return bootstrap_->AllReduceSum(send, receive, count, dtype);
    });
  }
  absl::Status AllGather(const void* send, void* receive, absl::Span<const int64_t> counts,
                         DType dtype) override {
    return stream_.Enqueue([=, this, send = Behind(send), receive = Behind(receive),
                            counts = std::vector<int64_t>(counts.begin(), counts.end())] {
      return bootstrap_->AllGather(send, receive, counts, dtype);
    });
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root) override {
    return stream_.Enqueue(
        [=, this, data = Behind(data)] { return bootstrap_->Broadcast(data, bytes, root); });
  }
  absl::Status Send(const void* data, int64_t bytes, int to) override {
    return stream_.Enqueue(
        [=, this, data = Behind(data)] { return bootstrap_->Send(data, bytes, to); });
  }
  absl::Status Receive(void* data, int64_t bytes, int from) override {
    return stream_.Enqueue(
        [=, this, data = Behind(data)] { return bootstrap_->Receive(data, bytes, from); });
  }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int> ranks) override {
    ASSIGN_OR_RETURN(auto part, bootstrap_->Split(ranks));
    return std::make_unique<StreamExchange>(std::move(part), stream_, sums_in_buffers_);
  }

 private:
  FakeDevice& stream_;
  const std::shared_ptr<std::atomic<int>> sums_in_buffers_;
  std::unique_ptr<FakeBuffer> sum_buffer_;
};

absl::StatusOr<std::unique_ptr<Communicator>> Everyone(Communicator& world) {
  std::vector<int> ranks(world.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  return world.Split(ranks);
}

}  // namespace

MakeRankParts FakeAccelerators(const FakeOptions& options) {
  return [options](Communicator& world, ThreadPool& pool) -> absl::StatusOr<RankParts> {
    auto device =
        std::make_unique<FakeDevice>(options.record, options.launches, options.capture_error);
    FakeCompute compute;
    if (options.make_compute) {
      compute = options.make_compute(pool);
    } else {
      compute.kernels = MakeCpuKernels(&pool);
    }
    RankParts parts;
    parts.kernels = std::make_unique<FakeKernels>(*device, std::move(compute));
    ASSIGN_OR_RETURN(auto bootstrap, Everyone(world));
    if (options.record) {
      parts.exchange =
          std::make_unique<StreamExchange>(std::move(bootstrap), *device, options.sums_in_buffers);
    } else {
      parts.exchange = std::make_unique<StagedExchange>(std::move(bootstrap), *device);
    }
    parts.device = std::move(device);
    return parts;
  };
}

MakeRankParts FakeAcceleratorsAndCpus(const FakeOptions& options) {
  return [options](Communicator& world, ThreadPool& pool) -> absl::StatusOr<RankParts> {
    if (world.rank() % 2 == 0) return FakeAccelerators(options)(world, pool);
    RankParts parts;
    parts.device = MakeCpuDevice();
    parts.kernels = MakeCpuKernels(&pool);
    ASSIGN_OR_RETURN(auto bootstrap, Everyone(world));
    parts.exchange = std::make_unique<StagedExchange>(std::move(bootstrap), *parts.device);
    return parts;
  };
}

}  // namespace tprun
