#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cuda/expert_products.h"
#include "engine/kernels/cuda/make_kernels.h"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/projections.h"
#include "engine/kernels/cuda/status.h"
#include "engine/kernels/cuda/workspace.h"
#include "engine/kernels/cuda_kernels.h"
#include "engine/kernels/kernel_checks.h"

namespace tprun::cuda {
namespace {

// By name: program and module have formats of their own.
absl::StatusOr<Format> FormatOf(const WeightFormat& format) {
  static constexpr std::pair<absl::string_view, Format> kFormats[] = {
      {"f32", Format::kF32},
      {"f16", Format::kF16},
      {"bf16", Format::kBF16},
      {"q8_0", Format::kQ8_0},
      {"q4_0", Format::kQ4_0},
      {"q4_1", Format::kQ4_1},
      {"q5_0", Format::kQ5_0},
      {"q5_1", Format::kQ5_1},
      {"q2_k", Format::kQ2_K},
      {"q3_k", Format::kQ3_K},
      {"q4_k", Format::kQ4_K},
      {"q5_k", Format::kQ5_K},
      {"q6_k", Format::kQ6_K},
      {"iq4_nl", Format::kIq4Nl},
      {"iq4_xs", Format::kIq4Xs},
      {"mxfp4", Format::kMxfp4},
      {"iq1_s", Format::kIq1S},
      {"iq1_m", Format::kIq1M},
      {"iq2_xxs", Format::kIq2Xxs},
      {"iq2_xs", Format::kIq2Xs},
      {"iq2_s", Format::kIq2S},
      {"iq3_xxs", Format::kIq3Xxs},
      {"iq3_s", Format::kIq3S},
      {"tq1_0", Format::kTq1},
      {"tq2_0", Format::kTq2},
      {"fp8", Format::kFp8},
      {"fp8_b32", Format::kFp8B32},
      {"nf4", Format::kNf4},
      {"fp4", Format::kFp4},
      {"bnb_int8", Format::kBnbInt8},
      {"int4_g32", Format::kInt4G32},
      {"int4_g64", Format::kInt4G64},
      {"int4_g128", Format::kInt4G128},
      {"int4_g32_bf16", Format::kInt4G32Bf16},
      {"int4_g64_bf16", Format::kInt4G64Bf16},
      {"int4_g128_bf16", Format::kInt4G128Bf16},
      {"int8_g32", Format::kInt8G32},
      {"int8_g128", Format::kInt8G128},
      {"int8_g32_bf16", Format::kInt8G32Bf16},
      {"int8_g128_bf16", Format::kInt8G128Bf16},
      {"int8_g32_f32", Format::kInt8G32F32},
      {"int8_g128_f32", Format::kInt8G128F32},
  };
  std::string names;
  for (const auto& [name, known] : kFormats) {
    if (format.name == name) return known;
    absl::StrAppend(&names, names.empty() ? "" : ", ", name);
  }
  return absl::UnimplementedError(absl::StrCat("there are no CUDA kernels for weights of format ",
                                               format.name, "; there are for ", names));
}

absl::StatusOr<Matrix> MatrixOf(const WeightMatrix& w) {
  RETURN_IF_ERROR(CheckWeights(w));
  ASSIGN_OR_RETURN(const Format format, FormatOf(*w.format));
  return Matrix{w.data, format, w.rows, w.columns};
}

// Of a format that HasCudaCacheOf.
Element ElementOf(const WeightFormat& format) {
  return format.name == "f16"        ? Element::kF16
         : format.name == "bf16"     ? Element::kBF16
         : format.name == "fp8_e4m3" ? Element::kE4M3
         : format.name == "q8_0"     ? Element::kQ8_0
                                     : Element::kF32;
}

Gate GateOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return Gate::kSilu;
    case Activation::kGeluTanh:
      return Gate::kGeluTanh;
    case Activation::kClampedSwiGlu:
      return Gate::kClampedSwiGlu;
  }
  return Gate::kNone;
}

NormRows NormOf(const float* w, int64_t dim, const NormSpec& norm) {
  return {w, dim, norm.eps, norm.unit_offset};
}

RopeArguments RopeOf(const RopeSpec& rope, const float* inverse_frequencies) {
  if (rope.layout == RopeLayout::kNone) return {};
  return {rope.dims / 2, rope.layout == RopeLayout::kInterleaved, inverse_frequencies,
          rope.magnitude};
}

Tokens TokensOf(const TokenBatch& batch) {
  return {batch.tokens, batch.sequences, batch.positions};
}

CacheArguments CacheOf(const KvCacheView& cache) {
  return {cache.keys,
          cache.values,
          ElementOf(*cache.format),
          cache.capacity,
          cache.kv_heads,
          cache.head_dim,
          cache.sequence_stride,
          cache.pages,
          cache.pages_per_sequence()};
}

// One of a stack of matrices.
absl::StatusOr<ExpertStack> StackOf(const ExpertMatrices& matrices, int64_t count) {
  const WeightMatrix& all = matrices.all;
  if (all.rows != matrices.rows * count) {
    return absl::InvalidArgumentError(
        absl::StrCat(count, " matrices of ", matrices.rows, " rows in one of ", all.rows));
  }
  ASSIGN_OR_RETURN(const Matrix one, MatrixOf({all.data, all.format, matrices.rows, all.columns}));
  return ExpertStack{one, matrices.bias, matrices.rows * all.format->Bytes(all.columns)};
}

Choice ChoiceOf(const ExpertChoice& choice) {
  return {choice.ids,          choice.weights, choice.tokens, choice.per_token,
          choice.first_expert, choice.experts, choice.slots()};
}

HeadRows RowsOf(const HeadVectors& x) { return {x.data, x.token_stride, x.head_stride}; }

static_assert(sizeof(Best) == sizeof(BestLogit));
static_assert(kPagePositions == kKvPagePositions);
static_assert(kMostHeadDim == kMostHeadDimOnCuda && kMostExperts == kMostExpertsOnCuda);

class CudaKernels final : public Kernels {
 public:
  CudaKernels(const Stream& stream, std::unique_ptr<Buffer> workspace, std::unique_ptr<Gemm> gemm,
              bool fp8_activations)
      : stream_(stream),
        name_(absl::StrCat("cuda (sm_", stream.compute_capability, ")")),
        workspace_(std::move(workspace)),
        projections_(stream, memory(), std::move(gemm), fp8_activations),
        experts_(stream, memory()) {}

  absl::string_view name() const override { return name_; }
  int64_t workspace_bytes() const override { return kCudaKernelsWorkspaceBytes; }

  absl::Status ArrangeWeights(const WeightFormat& format, void* data, int64_t rows,
                              int64_t columns) override;
  // Waits for it.
  absl::Status FindRowScales(const Matrix& matrix);
  absl::Status CheckHasOpsFor(const LayerSpec& layer, BlockKind kind) const override;
  absl::Status CheckHasCacheOf(const WeightFormat& format) const override;
  bool HasPages() const override { return true; }

  absl::Status Embedding(const WeightMatrix& table, const int32_t* ids, int64_t tokens,
                         int64_t first_row, float scale, float* out) override {
    ASSIGN_OR_RETURN(const Matrix matrix, MatrixOf(table));
    if (tokens == 0 || table.columns == 0) return absl::OkStatus();
    return Launched(cuda::Embedding(stream_, matrix, ids, tokens, first_row, scale, out),
                    "Embedding");
  }

  absl::Status RmsNorm(const float* x, const float* w, int64_t tokens, int64_t dim,
                       const NormSpec& norm, float* out) override {
    if (tokens == 0 || dim == 0) return absl::OkStatus();
    return Launched(cuda::RmsNorm(stream_, x, 1, tokens, 0, NormOf(w, dim, norm), out), "RmsNorm");
  }

  absl::Status HeadNorm(float* x, const float* w, int64_t tokens, int heads, int head_dim,
                        int64_t stride, const NormSpec& norm) override {
    if (tokens == 0 || heads == 0) return absl::OkStatus();
    return Launched(cuda::RmsNorm(stream_, x, tokens, heads, stride, NormOf(w, head_dim, norm), x),
                    "HeadNorm");
  }

  absl::Status AddRmsNorm(float* residual, const float* y, const float* w, int64_t tokens,
                          int64_t dim, const NormSpec& norm, float* out) override {
    if (tokens == 0 || dim == 0) return absl::OkStatus();
    return Launched(cuda::AddRmsNorm(stream_, residual, y, tokens, NormOf(w, dim, norm), out),
                    "AddRmsNorm");
  }

  absl::Status MatMul(const float* x, const WeightMatrix& w, const float* bias, int64_t tokens,
                      float* out, int64_t out_stride) override {
    return MatMuls(x, {{w, bias, out, out_stride}}, tokens);
  }

  absl::Status MatMuls(const float* x, absl::Span<const Projection> projections,
                       int64_t tokens) override {
    std::vector<CudaProjection> on_device;
    for (const Projection& p : projections) {
      ASSIGN_OR_RETURN(const Matrix matrix, MatrixOf(p.weight));
      on_device.push_back(
          {matrix, row_scaled_.count(matrix.data) > 0, p.bias, p.out, p.out_stride});
    }
    return Annotate(projections_.Run(x, on_device, tokens), "MatMul");
  }

  absl::Status GatedMatMul(const float* x, const WeightMatrix& gate, const WeightMatrix& up,
                           Activation activation, int64_t tokens, float* out,
                           float* up_out) override {
    ASSIGN_OR_RETURN(const Matrix gate_matrix, MatrixOf(gate));
    ASSIGN_OR_RETURN(const Matrix up_matrix, MatrixOf(up));
    const auto done =
        projections_.RunGated(x, gate_matrix, up_matrix, GateOf(activation), tokens, out);
    RETURN_IF_ERROR(Annotate(done.status(), "GatedMatMul"));
    if (*done) return absl::OkStatus();
    return Kernels::GatedMatMul(x, gate, up, activation, tokens, out, up_out);
  }

  absl::Status Rope(float* x, const TokenBatch& batch, int heads, int head_dim, int64_t stride,
                    const RopeSpec& rope, const float* inverse_frequencies) override {
    RETURN_IF_ERROR(CheckBatch(batch));
    RETURN_IF_ERROR(CheckRope(rope, head_dim));
    const RopeArguments arguments = RopeOf(rope, inverse_frequencies);
    if (batch.tokens == 0 || heads == 0 || arguments.half == 0) return absl::OkStatus();
    return Launched(cuda::Rope(stream_, x, TokensOf(batch), heads, head_dim, stride, arguments),
                    "Rope");
  }

  absl::Status StoreKv(const float* k, const float* v, int64_t stride, const TokenBatch& batch,
                       const KvCacheView& cache) override {
    return StoreRotated(nullptr, 0, k, v, stride, batch, {}, cache);
  }

  absl::Status RopeStoreKv(float* q, float* k, const float* v, int64_t stride,
                           const TokenBatch& batch, int query_heads, const RopeSpec& rope,
                           const float* inverse_frequencies, const KvCacheView& cache) override {
    RETURN_IF_ERROR(CheckRope(rope, cache.head_dim));
    const RopeArguments arguments = RopeOf(rope, inverse_frequencies);
    return StoreRotated(arguments.half > 0 ? q : nullptr, query_heads, k, v, stride, batch,
                        arguments, cache);
  }

  absl::Status Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                         const KvCacheView& cache, const AttentionShape& shape,
                         float* out) override;

  absl::Status RouteExperts(const float* logits, const float* choice_bias, int64_t tokens,
                            const ExpertsSpec& experts, int32_t* ids, float* weights) override;

  absl::Status ExpertGatedMatMul(const float* x, const ExpertMatrices& gate,
                                 const ExpertMatrices& up, Activation activation,
                                 const ExpertChoice& choice, float* out, float* up_out) override {
    ASSIGN_OR_RETURN(const ExpertStack gates, StackOf(gate, choice.experts));
    ASSIGN_OR_RETURN(const ExpertStack ups, StackOf(up, choice.experts));
    if (choice.slots() == 0 || gate.rows == 0) return absl::OkStatus();
    return Annotate(
        experts_.Gated(x, gates, ups, GateOf(activation), ChoiceOf(choice), out, up_out),
        "ExpertGatedMatMul");
  }

  absl::Status ExpertSum(const float* h, const ExpertMatrices& down, const ExpertChoice& choice,
                         float* out) override {
    ASSIGN_OR_RETURN(const ExpertStack downs, StackOf(down, choice.experts));
    if (choice.slots() == 0 || down.rows == 0) return absl::OkStatus();
    return Annotate(experts_.Sum(h, downs, ChoiceOf(choice), out), "ExpertSum");
  }

  absl::Status SigmoidScale(float* x, const float* gate, int64_t tokens, int64_t columns) override {
    if (tokens == 0 || columns == 0) return absl::OkStatus();
    return Launched(cuda::SigmoidScale(stream_, x, gate, tokens, columns), "SigmoidScale");
  }

  absl::Status HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                          int64_t tokens, int heads, const HeadVectors& out) override;

  absl::Status CopyHeads(const HeadVectors& x, int64_t tokens, int heads, int64_t count,
                         const HeadVectors& out) override {
    if (tokens == 0 || heads == 0 || count == 0) return absl::OkStatus();
    return Launched(cuda::CopyHeads(stream_, RowsOf(x), tokens, heads, count, RowsOf(out)),
                    "CopyHeads");
  }

  absl::Status GatedActivation(Activation activation, float* gate, const float* up,
                               int64_t count) override {
    if (count == 0) return absl::OkStatus();
    return Launched(cuda::GatedActivation(stream_, GateOf(activation), gate, up, count),
                    "GatedActivation");
  }

  absl::Status Add(float* x, const float* y, int64_t count) override {
    if (count == 0) return absl::OkStatus();
    return Launched(cuda::Add(stream_, x, y, count), "Add");
  }

  absl::Status AddBias(float* x, const float* bias, int64_t tokens, int64_t dim) override {
    if (tokens == 0 || dim == 0) return absl::OkStatus();
    return Launched(cuda::AddBias(stream_, x, bias, tokens, dim, dim), "AddBias");
  }

  absl::Status Softcap(float* x, int64_t count, float cap) override {
    if (count == 0) return absl::OkStatus();
    return Launched(cuda::Softcap(stream_, x, count, cap), "Softcap");
  }

  absl::Status ArgMax(const float* x, int64_t rows, int64_t columns, int32_t first_id,
                      BestLogit* best) override {
    if (rows == 0) return absl::OkStatus();
    return Launched(
        cuda::ArgMax(stream_, x, rows, columns, first_id, reinterpret_cast<Best*>(best)), "ArgMax");
  }

  absl::Status Sample(float* logits, const SampleRequest* requests, int64_t rows, int64_t vocab,
                      const uint32_t* seen, BestLogit* chosen) override {
    if (rows == 0) return absl::OkStatus();
    return Launched(
        cuda::Sample(stream_, logits, requests, rows, vocab, seen, reinterpret_cast<Best*>(chosen)),
        "Sample");
  }

  absl::Status MarkSeen(const int32_t* ids, const int32_t* sequences, int64_t tokens, int64_t vocab,
                        uint32_t* seen) override {
    if (tokens == 0) return absl::OkStatus();
    return Launched(cuda::MarkSeen(stream_, ids, sequences, tokens, vocab, seen), "MarkSeen");
  }

 private:
  char* memory() const { return static_cast<char*>(workspace_->data()); }

  static absl::Status Launched(cudaError_t error, absl::string_view op) {
    return Annotate(LaunchStatus(error), op);
  }

  absl::Status StoreRotated(float* q, int query_heads, const float* k, const float* v,
                            int64_t stride, const TokenBatch& batch, const RopeArguments& rope,
                            const KvCacheView& cache) {
    RETURN_IF_ERROR(CheckCache(cache, batch, /*has_pages=*/true));
    RETURN_IF_ERROR(CheckHasCacheOf(*cache.format));
    if (query_heads == 0) q = nullptr;
    if (batch.tokens == 0 || (cache.kv_heads == 0 && q == nullptr)) return absl::OkStatus();
    return Launched(cuda::RopeStoreKv(stream_, q, query_heads, k, v, stride, TokensOf(batch), rope,
                                      CacheOf(cache)),
                    "RopeStoreKv");
  }

  const Stream stream_;
  const std::string name_;
  const std::unique_ptr<Buffer> workspace_;
  Projections projections_;
  ExpertProducts experts_;
  std::set<const void*> row_scaled_;  // fp8 matrices with one scale for each row
};

absl::Status CudaKernels::CheckHasOpsFor(const LayerSpec& layer, BlockKind kind) const {
  const char* missing = MissingOnCuda(layer, kind);
  if (missing == nullptr) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("there are no CUDA kernels for ", missing,
                   "; place these blocks on CPU ranks (--devices=cpu)"));
}

absl::Status CudaKernels::RouteExperts(const float* logits, const float* choice_bias,
                                       int64_t tokens, const ExpertsSpec& experts, int32_t* ids,
                                       float* weights) {
  RETURN_IF_ERROR(CheckRouter(experts));
  if (experts.count > kMostExperts) {
    return absl::UnimplementedError(
        absl::StrCat("RouteExperts: ", experts.count, " experts; at most ", kMostExperts));
  }
  if (tokens == 0) return absl::OkStatus();
  const RouterArguments arguments = {.logits = logits,
                                     .choice_bias = choice_bias,
                                     .count = experts.count,
                                     .per_token = experts.per_token,
                                     .sigmoid = experts.score == RouterScore::kSigmoid,
                                     .normalize = experts.normalize,
                                     .scale = experts.scale,
                                     .groups = experts.groups,
                                     .groups_per_token = experts.groups_per_token,
                                     .ids = ids,
                                     .weights = weights};
  return Launched(cuda::RouteExperts(stream_, arguments, tokens), "RouteExperts");
}

// A matrix for each head: in one launch, as many tokens as a grid has blocks for.
absl::Status CudaKernels::HeadMatMul(const HeadVectors& x, const WeightMatrix& w, bool transposed,
                                     int64_t tokens, int heads, const HeadVectors& out) {
  RETURN_IF_ERROR(CheckWeights(w));
  if (heads == 0 || tokens == 0 || w.rows == 0 || w.columns == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const ExpertStack of_head, StackOf({w, w.rows / heads}, heads));
  if (transposed) {
    const Matrix all = {w.data, of_head.one.format, w.rows, w.columns};
    return Launched(TransposedHeads(stream_, all, RowsOf(x), tokens, heads, RowsOf(out)),
                    "HeadMatMul");
  }
  MatrixStack stack;
  stack.x_stride = x.token_stride;
  stack.heads = heads;
  stack.x_step = x.head_stride;
  stack.out_step = out.head_stride;
  constexpr int64_t kMostItems = 65535;
  const int64_t most = std::max<int64_t>(1, kMostItems / heads) * kMostMatVecTokens;
  for (int64_t first = 0; first < tokens; first += most) {
    stack.tokens = std::min(most, tokens - first);
    stack.items =
        static_cast<int>(heads * ((stack.tokens + kMostMatVecTokens - 1) / kMostMatVecTokens));
    RETURN_IF_ERROR(Annotate(
        MultiplyStack(stream_, stack, stack.tokens, x.data + first * x.token_stride, of_head,
                      nullptr, Gate::kNone, out.data + first * out.token_stride, out.token_stride),
        "HeadMatMul"));
  }
  return absl::OkStatus();
}

absl::Status CudaKernels::CheckHasCacheOf(const WeightFormat& format) const {
  if (HasCudaCacheOf(format)) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "there are no CUDA kernels for a KV cache of type ", format.name,
      "; choose --kv_type=f32, f16, bf16, fp8_e4m3 or q8_0, or CPU ranks (--devices=cpu)"));
}

absl::Status CudaKernels::Attention(const float* q, int64_t q_stride, const TokenBatch& batch,
                                    const KvCacheView& cache, const AttentionShape& shape,
                                    float* out) {
  RETURN_IF_ERROR(CheckAttention(cache, shape, batch, /*has_pages=*/true));
  RETURN_IF_ERROR(CheckHasCacheOf(*cache.format));
  if (batch.tokens == 0 || shape.query_heads == 0) return absl::OkStatus();
  if (cache.head_dim > kMostHeadDim) {
    return absl::UnimplementedError(absl::StrCat("Attention: heads of ", cache.head_dim,
                                                 " elements; the CUDA kernels take up to ",
                                                 kMostHeadDim));
  }
  AttentionArguments arguments;
  arguments.q = q;
  arguments.q_stride = q_stride;
  arguments.out = out;
  arguments.tokens = TokensOf(batch);
  arguments.cache = CacheOf(cache);
  arguments.query_heads = shape.query_heads;
  arguments.first_query_head = shape.first_query_head;
  arguments.first_kv_head = shape.first_kv_head;
  arguments.queries_per_kv_head = shape.queries_per_kv_head;
  arguments.scale = shape.scale;
  arguments.softcap = shape.logit_softcap;
  arguments.window = shape.window;
  arguments.sinks = shape.sinks;
  arguments.partial = reinterpret_cast<float*>(memory() + WorkspaceLayout::kAttention);
  arguments.tickets =
      reinterpret_cast<unsigned*>(memory() + WorkspaceLayout::kTickets) + kMatVecTickets;
  std::vector<Run> runs;
  for (const TokenRun& run : batch.runs) {
    runs.push_back({run.sequence, run.first_position, run.tokens});
  }
  return Launched(cuda::Attention(stream_, arguments, runs.data(), static_cast<int>(runs.size())),
                  "Attention");
}

// Groups of rows keep their place, so a part of them at a time goes through the workspace. The last
// to touch the matrix is a copy, for which every later kernel waits.
absl::Status CudaKernels::ArrangeWeights(const WeightFormat& format, void* data, int64_t rows,
                                         int64_t columns) {
  ASSIGN_OR_RETURN(const Matrix matrix, MatrixOf({data, &format, rows, columns}));
  if (!IsArranged(matrix.format) || rows == 0 || columns == 0) return absl::OkStatus();
  if (!CanTile(matrix)) {
    return absl::InvalidArgumentError(
        "ArrangeWeights: a matrix of quantised blocks must start at a multiple of 16 bytes");
  }
  constexpr int64_t kGroup = 8;  // rows, as in ArrangeBlocks
  const int64_t row_bytes = format.Bytes(columns);
  const int64_t part = WorkspaceLayout::kWeightBytes / row_bytes / kGroup * kGroup;
  if (part == 0) {
    return absl::UnimplementedError(
        absl::StrCat("ArrangeWeights: rows of ", columns, " elements are too long"));
  }
  void* arranged = memory() + WorkspaceLayout::kWeights;
  for (int64_t first = 0; first < rows; first += part) {
    const int64_t count = std::min(part, rows - first);
    char* at = static_cast<char*>(data) + first * row_bytes;
    RETURN_IF_ERROR(Launched(ArrangeBlocks(stream_, matrix.format, at, count, columns, arranged),
                             "ArrangeWeights"));
    RETURN_IF_ERROR(Launched(
        cudaMemcpyAsync(at, arranged, count * row_bytes, cudaMemcpyDeviceToDevice, stream_.stream),
        "ArrangeWeights"));
  }
  return matrix.format == Format::kFp8 && projections_.AsksForRowScales() ? FindRowScales(matrix)
                                                                          : absl::OkStatus();
}

absl::Status CudaKernels::FindRowScales(const Matrix& matrix) {
  auto* const unlike = reinterpret_cast<unsigned*>(memory() + WorkspaceLayout::kActivations);
  unsigned found = 0;
  RETURN_IF_ERROR(LaunchStatus(cudaMemsetAsync(unlike, 0, sizeof(found), stream_.stream)));
  RETURN_IF_ERROR(Launched(FindUnlikeScales(stream_, matrix, unlike), "ArrangeWeights"));
  RETURN_IF_ERROR(LaunchStatus(
      cudaMemcpyAsync(&found, unlike, sizeof(found), cudaMemcpyDeviceToHost, stream_.stream)));
  RETURN_IF_ERROR(LaunchStatus(cudaStreamSynchronize(stream_.stream)));
  row_scaled_.erase(matrix.data);
  if (found == 0) row_scaled_.insert(matrix.data);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Kernels>> MakeKernels(Device& device, const Stream& stream,
                                                     bool fp8_activations) {
  auto workspace = device.Allocate(kCudaKernelsWorkspaceBytes);
  RETURN_IF_ERROR(Annotate(workspace.status(), "workspace of the CUDA kernels"));
  char* memory = static_cast<char*>((*workspace)->data());
  RETURN_IF_ERROR(LaunchStatus(cudaMemsetAsync(memory + WorkspaceLayout::kTickets, 0,
                                               WorkspaceLayout::kTicketBytes, stream.stream)));
  ASSIGN_OR_RETURN(auto gemm, MakeGemm(stream, memory + WorkspaceLayout::kGemm));
  return std::make_unique<CudaKernels>(stream, *std::move(workspace), std::move(gemm),
                                       fp8_activations);
}

}  // namespace tprun::cuda
