#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <cstdint>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cuda/gemm.h"

namespace tprun::cuda {
namespace {

absl::Status CublasStatus(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  // What cuBLASLt cannot do, in the heuristic or in the product, the plain kernels can.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) {
    return absl::UnimplementedError(absl::StrCat(what, ": ", cublasLtGetStatusString(status)));
  }
  return absl::InternalError(absl::StrCat(what, ": ", cublasLtGetStatusString(status)));
}

#define CUBLAS_RETURN_IF_ERROR(expr) RETURN_IF_ERROR(CublasStatus((expr), #expr))

// Owns one of cuBLASLt's descriptors.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  ~Owned() {
    if (handle != nullptr) kDestroy(handle);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Handle handle = nullptr;
};
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t DataType(Element element) {
  switch (element) {
    case Element::kF32:
      return CUDA_R_32F;
    case Element::kF16:
      return CUDA_R_16F;
    case Element::kBF16:
      return CUDA_R_16BF;
    case Element::kE4M3:
      return CUDA_R_8F_E4M3;
    case Element::kQ8_0:
      break;  // no matrix has this
  }
  return CUDA_R_32F;
}

// The largest power of two that divides each address, at most 256, which is what cuBLASLt assumes
// where nobody tells it.
struct Alignments {
  uint32_t w, x, out;
  auto operator<=>(const Alignments&) const = default;
};
uint32_t AlignmentOf(const void* address) {
  const uintptr_t bits = reinterpret_cast<uintptr_t>(address);
  return static_cast<uint32_t>(std::min<uintptr_t>(256, bits & (~bits + 1)));
}

// A product's descriptors and the algorithm that cuBLASLt's heuristic puts first. It counts in
// columns: out' [rows, tokens] = w'^T [columns, rows] x' [columns, tokens].
struct Plan {
  bool scaled = false;  // by groups of both factors
  Operation operation;
  Layout w, x, out;
  cublasLtMatmulAlgo_t algorithm;

  absl::Status Prepare(cublasLtHandle_t handle, Element element, int64_t tokens, int64_t rows,
                       int64_t columns, int64_t out_stride, const Alignments& alignments);
};

absl::Status Tell(cublasLtMatmulPreference_t preference,
                  cublasLtMatmulPreferenceAttributes_t attribute, uint32_t bytes) {
  CUBLAS_RETURN_IF_ERROR(
      cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof(bytes)));
  return absl::OkStatus();
}

// By number: the names are in the headers of 12.9 and newer.
constexpr auto kScaleModeOfW = static_cast<cublasLtMatmulDescAttributes_t>(31);
constexpr auto kScaleModeOfX = static_cast<cublasLtMatmulDescAttributes_t>(32);
constexpr int32_t kScalePer128 = 4;  // CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F

absl::Status SetScales(cublasLtMatmulDesc_t operation, const float* w, const float* x) {
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
      operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w, sizeof(w)));
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
      operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x, sizeof(x)));
  return absl::OkStatus();
}

// Sums of fp8 are by default added up in f32 (CUBLASLT_MATMUL_DESC_FAST_ACCUM is off).
absl::Status SetScaleModes(cublasLtMatmulDesc_t operation) {
  for (const auto attribute : {kScaleModeOfW, kScaleModeOfX}) {
    CUBLAS_RETURN_IF_ERROR(
        cublasLtMatmulDescSetAttribute(operation, attribute, &kScalePer128, sizeof(kScalePer128)));
  }
  return absl::OkStatus();
}

absl::Status Plan::Prepare(cublasLtHandle_t handle, Element element, int64_t tokens, int64_t rows,
                           int64_t columns, int64_t out_stride, const Alignments& alignments) {
  const cudaDataType_t type = DataType(element);
  CUBLAS_RETURN_IF_ERROR(
      cublasLtMatmulDescCreate(&operation.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulDescSetAttribute(
      operation.handle, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)));
  if (scaled) RETURN_IF_ERROR(SetScaleModes(operation.handle));
  CUBLAS_RETURN_IF_ERROR(cublasLtMatrixLayoutCreate(&w.handle, type, columns, rows, columns));
  CUBLAS_RETURN_IF_ERROR(cublasLtMatrixLayoutCreate(&x.handle, type, columns, tokens, columns));
  CUBLAS_RETURN_IF_ERROR(
      cublasLtMatrixLayoutCreate(&out.handle, CUDA_R_32F, rows, tokens, out_stride));
  Preference preference;
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulPreferenceCreate(&preference.handle));
  const size_t bytes = kGemmWorkspaceBytes;
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulPreferenceSetAttribute(
      preference.handle, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes)));
  RETURN_IF_ERROR(
      Tell(preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments.w));
  RETURN_IF_ERROR(
      Tell(preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments.x));
  RETURN_IF_ERROR(
      Tell(preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments.out));
  RETURN_IF_ERROR(
      Tell(preference.handle, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments.out));
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  CUBLAS_RETURN_IF_ERROR(cublasLtMatmulAlgoGetHeuristic(handle, operation.handle, w.handle,
                                                        x.handle, out.handle, out.handle,
                                                        preference.handle, 1, &result, &found));
  if (found == 0) {
    return absl::UnimplementedError(absl::StrCat("cuBLASLt has no algorithm for ", rows, " x ",
                                                 columns, " by ", tokens, " tokens"));
  }
  algorithm = result.algo;
  return absl::OkStatus();
}

class CublasLtGemm final : public Gemm {
 public:
  CublasLtGemm(const Stream& stream, void* workspace) : stream_(stream), workspace_(workspace) {}
  ~CublasLtGemm() override {
    if (handle_ != nullptr) cublasLtDestroy(handle_);
  }
  absl::Status Initialize() {
    CUBLAS_RETURN_IF_ERROR(cublasLtCreate(&handle_));
    return absl::OkStatus();
  }

  absl::Status Multiply(Element element, const void* x, const void* w, int64_t tokens, int64_t rows,
                        int64_t columns, float* out, int64_t out_stride) override {
    const Alignments alignments = {AlignmentOf(w), AlignmentOf(x), AlignmentOf(out)};
    ASSIGN_OR_RETURN(const Plan* plan,
                     PlanFor(element, false, tokens, rows, columns, out_stride, alignments));
    return Run(*plan, x, w, out);
  }

  absl::Status MultiplyFp8(const Fp8Factor& x, const Fp8Factor& w, int64_t tokens, int64_t rows,
                           int64_t columns, float* out, int64_t out_stride) override {
    const Alignments alignments = {AlignmentOf(w.values), AlignmentOf(x.values), AlignmentOf(out)};
    const bool scaled = w.scales != nullptr;
    ASSIGN_OR_RETURN(const Plan* plan, PlanFor(Element::kE4M3, scaled, tokens, rows, columns,
                                               out_stride, alignments));
    if (scaled) RETURN_IF_ERROR(SetScales(plan->operation.handle, w.scales, x.scales));
    return Run(*plan, x.values, w.values, out);
  }

  size_t cublaslt_version() const override { return cublasLtGetVersion(); }

 private:
  using Key = std::tuple<Element, bool, int64_t, int64_t, int64_t, int64_t, Alignments>;
  // A model has a few shapes; prompts of all lengths make more, so they are dropped when there are
  // many.
  static constexpr size_t kMostPlans = 256;

  absl::Status Run(const Plan& plan, const void* x, const void* w, float* out) {
    const float one = 1, zero = 0;
    CUBLAS_RETURN_IF_ERROR(cublasLtMatmul(handle_, plan.operation.handle, &one, w, plan.w.handle, x,
                                          plan.x.handle, &zero, out, plan.out.handle, out,
                                          plan.out.handle, &plan.algorithm, workspace_,
                                          kGemmWorkspaceBytes, stream_.stream));
    return absl::OkStatus();
  }

  absl::StatusOr<const Plan*> PlanFor(Element element, bool scaled, int64_t tokens, int64_t rows,
                                      int64_t columns, int64_t out_stride,
                                      const Alignments& alignments) {
    const Key key = {element, scaled, tokens, rows, columns, out_stride, alignments};
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second.get();
    if (plans_.size() >= kMostPlans) plans_.clear();
    auto plan = std::make_unique<Plan>();
    plan->scaled = scaled;
    RETURN_IF_ERROR(plan->Prepare(handle_, element, tokens, rows, columns, out_stride, alignments));
    return plans_.emplace(key, std::move(plan)).first->second.get();
  }

  const Stream stream_;
  void* const workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm(const Stream& stream, void* workspace) {
  auto gemm = std::make_unique<CublasLtGemm>(stream, workspace);
  RETURN_IF_ERROR(gemm->Initialize());
  return gemm;
}

}  // namespace tprun::cuda
