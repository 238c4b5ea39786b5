#include "engine/kernels/cuda/projections.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cuda/matvec.h"
#include "engine/kernels/cuda/status.h"
#include "engine/kernels/cuda/workspace.h"

namespace tprun::cuda {
namespace {

// What x is rounded to for the weights of a format.
Element ElementFor(Format format) {
  if (format == Format::kF32) return Element::kF32;
  return format == Format::kBF16 ? Element::kBF16 : Element::kF16;
}

CudaProjection FromToken(CudaProjection p, int64_t token) {
  p.out += token * p.out_stride;
  return p;
}

}  // namespace

absl::Status Projections::Run(const float* x, absl::Span<const CudaProjection> projections,
                              int64_t tokens) {
  std::vector<CudaProjection> some;  // those with rows
  for (const CudaProjection& p : projections) {
    if (p.weight.rows == 0 || tokens == 0) continue;
    if (IsArranged(p.weight.format) && p.weight.columns > 0 && !CanTile(p.weight)) {
      return absl::InvalidArgumentError(
          "a matrix of quantised blocks must start at a multiple of 16 bytes");
    }
    some.push_back(p);
  }
  if (some.empty()) return absl::OkStatus();
  if (tokens <= kMostMatVecTokens) return RunFew(x, some, static_cast<int>(tokens));
  const int64_t columns = some[0].weight.columns;
  int64_t tile = std::min(tokens, WorkspaceLayout::kMostTokens);
  if (columns > 0) tile = std::min(tile, WorkspaceLayout::kActivationBytes / (2 * columns));
  if (tile < kMostMatVecTokens) {
    return absl::UnimplementedError(absl::StrCat("rows of ", columns, " elements are too long"));
  }
  for (int64_t first = 0; first < tokens; first += tile) {
    std::vector<CudaProjection> part = some;
    for (CudaProjection& p : part) p = FromToken(p, first);
    RETURN_IF_ERROR(RunMany(x + first * columns, part, std::min(tile, tokens - first)));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> Projections::RunGated(const float* x, const Matrix& gate, const Matrix& up,
                                           Gate kind, int64_t tokens, float* out) {
  if (tokens == 0 || tokens > kMostMatVecTokens || gate.rows == 0) return false;
  if (gate.format != up.format || gate.rows != up.rows || gate.columns != up.columns) return false;
  if (!CanTile(gate) || !CanTile(up)) return false;
  ASSIGN_OR_RETURN(x, Aligned(x, tokens * gate.columns));
  MatVecArguments a = ArgumentsFor(x, gate.columns, static_cast<int>(tokens));
  a.targets[0] = {gate.data, nullptr, out, gate.rows, gate.rows};
  a.targets[1] = {up.data, nullptr, nullptr, up.rows, up.rows};
  a.count = 2;
  a.gate = kind;
  RETURN_IF_ERROR(LaunchStatus(TileMatVec(stream_, gate.format, a)));
  return true;
}

// x, or a copy where it does not start at 16 bytes.
absl::StatusOr<const float*> Projections::Aligned(const float* x, int64_t floats) {
  if (reinterpret_cast<uintptr_t>(x) % 16 == 0) return x;
  void* aligned = workspace_ + WorkspaceLayout::kActivations;
  RETURN_IF_ERROR(LaunchStatus(
      cudaMemcpyAsync(aligned, x, floats * 4, cudaMemcpyDeviceToDevice, stream_.stream)));
  return static_cast<const float*>(aligned);
}

MatVecArguments Projections::ArgumentsFor(const float* x, int64_t columns, int tokens) const {
  MatVecArguments a;
  a.x = x;
  a.columns = columns;
  a.tokens = tokens;
  a.work = {reinterpret_cast<float*>(workspace_ + WorkspaceLayout::kMatVec),
            reinterpret_cast<unsigned*>(workspace_ + WorkspaceLayout::kTickets)};
  return a;
}

// Runs of matrices of one format in a launch.
absl::Status Projections::RunFew(const float* x, absl::Span<const CudaProjection> projections,
                                 int tokens) {
  ASSIGN_OR_RETURN(x, Aligned(x, tokens * projections[0].weight.columns));
  for (size_t i = 0; i < projections.size();) {
    const CudaProjection& p = projections[i];
    if (!CanTile(p.weight)) {
      RETURN_IF_ERROR(RunPlain(x, p, tokens));
      ++i;
      continue;
    }
    MatVecArguments a = ArgumentsFor(x, p.weight.columns, tokens);
    for (; i < projections.size() && a.count < kMostProjections; ++i) {
      const CudaProjection& next = projections[i];
      if (next.weight.format != p.weight.format || !CanTile(next.weight)) break;
      a.targets[a.count++] = {next.weight.data, next.bias, next.out, next.weight.rows,
                              next.out_stride};
    }
    RETURN_IF_ERROR(LaunchStatus(TileMatVec(stream_, p.weight.format, a)));
  }
  return absl::OkStatus();
}

// In f32, a few tokens at a time: for what neither the tiles nor cuBLASLt take.
absl::Status Projections::RunPlain(const float* x, const CudaProjection& p, int64_t tokens) {
  Matrix w = p.weight;
  if (w.columns == 0) w.format = Format::kF32;  // zeros, or the bias
  for (int64_t first = 0; first < tokens; first += kMostMatVecTokens) {
    const int count = static_cast<int>(std::min<int64_t>(kMostMatVecTokens, tokens - first));
    MatVecArguments a = ArgumentsFor(x + first * w.columns, w.columns, count);
    a.targets[0] = {w.data, p.bias, p.out + first * p.out_stride, w.rows, p.out_stride};
    a.count = 1;
    RETURN_IF_ERROR(LaunchStatus(RowMatVec(stream_, w.format, a)));
  }
  return absl::OkStatus();
}

absl::Status Projections::RunMany(const float* x, absl::Span<const CudaProjection> projections,
                                  int64_t tokens) {
  Element cast = Element::kF32;  // what the workspace holds of x, if not f32
  for (const CudaProjection& p : projections) {
    if (p.weight.columns == 0) {
      RETURN_IF_ERROR(RunPlain(x, p, tokens));
      continue;
    }
    if (const Fp8Choice choice = InFp8(p, tokens); choice.tokens > 0) {
      const absl::Status status = MultiplyFp8(x, p, tokens, choice, &cast);
      if (status.ok()) continue;
      if (!absl::IsUnimplemented(status)) return status;
      fp8_ = false;
      cast = Element::kF32;
    }
    absl::Status status = MultiplyTile(x, p, tokens, &cast);
    if (absl::IsUnimplemented(status) && IsPlain(p.weight.format)) {
      status = RunPlain(x, p, tokens);  // rows that are not aligned for cuBLASLt
    }
    RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

absl::Status Projections::MultiplyTile(const float* x, const CudaProjection& p, int64_t tokens,
                                       Element* cast) {
  const Matrix& w = p.weight;
  const Element element = ElementFor(w.format);
  void* activations = workspace_ + WorkspaceLayout::kActivations;
  float* scales = reinterpret_cast<float*>(workspace_ + WorkspaceLayout::kScales);
  if (element == Element::kF32) {
    RETURN_IF_ERROR(
        gemm_->Multiply(element, x, w.data, tokens, w.rows, w.columns, p.out, p.out_stride));
    if (p.bias == nullptr) return absl::OkStatus();
    return LaunchStatus(FinishRows(stream_, p.out, nullptr, p.bias, tokens, w.rows, p.out_stride));
  }
  if (*cast != element) {
    RETURN_IF_ERROR(
        LaunchStatus(element == Element::kBF16
                         ? CastToBf16(stream_, x, tokens * w.columns, activations)
                         : CastRowsToF16(stream_, x, tokens, w.columns, activations, scales)));
    *cast = element;
  }
  if (!IsPlain(w.format)) {
    RETURN_IF_ERROR(MultiplyDecoded(p, tokens));
  } else {
    RETURN_IF_ERROR(gemm_->Multiply(element, activations, w.data, tokens, w.rows, w.columns, p.out,
                                    p.out_stride));
  }
  if (element == Element::kBF16 && p.bias == nullptr) return absl::OkStatus();
  return LaunchStatus(FinishRows(stream_, p.out, element == Element::kF16 ? scales : nullptr,
                                 p.bias, tokens, w.rows, p.out_stride));
}

// As many rows at a time as the workspace holds decoded.
absl::Status Projections::MultiplyDecoded(const CudaProjection& p, int64_t tokens) {
  const Matrix& w = p.weight;
  void* decoded = workspace_ + WorkspaceLayout::kWeights;
  // Whole lines of out, where there are any: cuBLASLt likes aligned tiles.
  const int64_t most = WorkspaceLayout::kWeightBytes / (2 * w.columns);
  const int64_t tile = most >= 64 ? most / 64 * 64 : most;
  for (int64_t first = 0; first < w.rows; first += tile) {
    const int64_t rows = std::min(tile, w.rows - first);
    RETURN_IF_ERROR(LaunchStatus(DecodeToF16(stream_, w, first, rows, decoded)));
    RETURN_IF_ERROR(gemm_->Multiply(Element::kF16, workspace_ + WorkspaceLayout::kActivations,
                                    decoded, tokens, rows, w.columns, p.out + first, p.out_stride));
  }
  return absl::OkStatus();
}

Fp8Choice Projections::InFp8(const CudaProjection& p, int64_t tokens) const {
  if (p.weight.format != Format::kFp8) return {};
  return ChooseFp8({.rounded = fp8_,
                    .row_scaled = p.row_scaled,
                    .compute_capability = stream_.compute_capability,
                    .cublaslt_version = gemm_->cublaslt_version(),
                    .tokens = tokens,
                    .rows = p.weight.rows,
                    .columns = p.weight.columns,
                    .out_stride = p.out_stride,
                    .out_aligned = reinterpret_cast<uintptr_t>(p.out) % 16 == 0});
}

bool Projections::AsksForRowScales() const {
  return fp8_ && ChooseFp8({.rounded = true,
                            .row_scaled = true,
                            .compute_capability = stream_.compute_capability,
                            .cublaslt_version = gemm_->cublaslt_version(),
                            .tokens = 2 * kMostMatVecTokens,
                            .rows = 16,
                            .columns = kFp8Group})
                         .way == Fp8Way::kRows;
}

// Rows [first, first + rows) of the weights; x is in the workspace.
absl::Status Projections::MultiplyFp8Part(const CudaProjection& p, const Fp8Choice& choice,
                                          int64_t first, int64_t rows) {
  const int64_t columns = p.weight.columns, tokens = choice.tokens;
  const char* activations = workspace_ + WorkspaceLayout::kActivations;
  const float* x_scales = reinterpret_cast<const float*>(activations + tokens * columns);
  char* weights = workspace_ + WorkspaceLayout::kWeights;
  float* w_scales = reinterpret_cast<float*>(weights + rows * columns);
  float* out = p.out + first;
  RETURN_IF_ERROR(
      LaunchStatus(UnpackFp8(stream_, p.weight, first, rows, choice.way, weights, w_scales)));
  if (choice.way == Fp8Way::kGroups) {
    return gemm_->MultiplyFp8({activations, x_scales}, {weights, w_scales}, tokens, rows, columns,
                              out, p.out_stride);
  }
  RETURN_IF_ERROR(
      gemm_->MultiplyFp8({activations}, {weights}, tokens, rows, columns, out, p.out_stride));
  return LaunchStatus(FinishFp8(stream_, out, x_scales, w_scales,
                                p.bias == nullptr ? nullptr : p.bias + first, tokens, rows,
                                p.out_stride));
}

// As many rows at a time as the workspace holds with their scales. Tokens that are left go through
// the kernels for few.
absl::Status Projections::MultiplyFp8(const float* x, const CudaProjection& p, int64_t tokens,
                                      const Fp8Choice& choice, Element* cast) {
  const Matrix& w = p.weight;
  const int64_t columns = w.columns, in_fp8 = choice.tokens;
  char* activations = workspace_ + WorkspaceLayout::kActivations;
  float* x_scales = reinterpret_cast<float*>(activations + in_fp8 * columns);
  if (*cast != Element::kE4M3) {
    const auto quantize = choice.way == Fp8Way::kRows ? QuantizeRowsToFp8 : QuantizeToFp8;
    RETURN_IF_ERROR(LaunchStatus(quantize(stream_, x, in_fp8, columns, activations, x_scales)));
    *cast = Element::kE4M3;
  }
  const int64_t tile = Fp8RowsThatFit(WorkspaceLayout::kWeightBytes, columns);
  if (tile == 0) return absl::UnimplementedError("rows are too long");
  for (int64_t first = 0; first < w.rows; first += tile) {
    RETURN_IF_ERROR(MultiplyFp8Part(p, choice, first, std::min(tile, w.rows - first)));
  }
  if (p.bias != nullptr && choice.way == Fp8Way::kGroups) {
    RETURN_IF_ERROR(
        LaunchStatus(FinishRows(stream_, p.out, nullptr, p.bias, in_fp8, w.rows, p.out_stride)));
  }
  if (in_fp8 == tokens) return absl::OkStatus();
  *cast = Element::kF32;  // x may be copied over the activations
  return RunFew(x + in_fp8 * columns, {FromToken(p, in_fp8)}, static_cast<int>(tokens - in_fp8));
}

}  // namespace tprun::cuda
