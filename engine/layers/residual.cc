#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "engine/layers/layers.h"

// The sums between blocks.

namespace tprun {
namespace {

// From which each rank adds up its share of the tokens for all, for one meeting more. Of more than
// two ranks each then reads less; of two each line is read by one of them alone, which where both
// read it costs each more than a line that the other has written (measured: 1.8 times in all).
constexpr int64_t kShareFromBytes = 32 << 10;
// Of which the sums are still in a cache when the others read them.
constexpr int64_t kPieceBytes = 512 << 10;

// All ranks of the group go from the sum to the same norm, in one step.
bool JoinsSumAndNorm(int64_t tokens, const StepContext& step) {
  return step.group != nullptr && step.next_norm != nullptr && step.all_norm &&
         step.group->FusesNorm(tokens, step.dim);
}

std::vector<const float*> At(absl::Span<float* const> parts, int64_t offset) {
  std::vector<const float*> at;
  for (const float* part : parts) at.push_back(part + offset);
  return at;
}

// Adds up this rank's share of tokens [begin, end) over its own part, meets the others who do the
// same, and calls add(part, offset, tokens) for each rank's share.
template <class Add>
absl::Status ForShares(int64_t begin, int64_t end, const StepContext& step, const Add& add) {
  SharedParts& shared = *step.parts;
  const auto ranks = static_cast<int64_t>(shared.all().size());
  const auto first = [&](int64_t rank) { return begin + (end - begin) * rank / ranks; };
  const auto count = [&](int64_t rank) { return first(rank + 1) - first(rank); };
  const int64_t own = first(shared.rank()) * step.dim;
  RETURN_IF_ERROR(step.kernels.SumParts(At(shared.all(), own), count(shared.rank()) * step.dim,
                                        shared.own() + own));
  RETURN_IF_ERROR(shared.Meet((end - begin) * step.dim));
  for (int64_t r = 0; r < ranks; ++r) {
    const int64_t offset = first(r) * step.dim;
    RETURN_IF_ERROR(add(At(shared.all().subspan(r, 1), offset), offset, count(r)));
  }
  return absl::OkStatus();
}

// Where all parts are written, calls add(parts, offset, tokens) for some tokens at a time, `offset`
// floats from the first: their sum is that of `parts`.
template <class Add>
absl::Status ForParts(int64_t tokens, const StepContext& step, const Add& add) {
  SharedParts& shared = *step.parts;
  const auto ranks = static_cast<int64_t>(shared.all().size());
  const int64_t token_bytes = step.dim * static_cast<int64_t>(sizeof(float));
  RETURN_IF_ERROR(shared.Meet(tokens * step.dim));
  if (tokens * token_bytes < kShareFromBytes || tokens < ranks) {
    RETURN_IF_ERROR(add(At(shared.all(), 0), 0, tokens));
  } else {
    const int64_t piece = std::max(kPieceBytes / token_bytes, ranks);
    for (int64_t begin = 0; begin < tokens; begin += piece) {
      RETURN_IF_ERROR(ForShares(begin, std::min(begin + piece, tokens), step, add));
    }
  }
  shared.Leave();
  return absl::OkStatus();
}

absl::Status SumPartsIntoResidual(int64_t tokens, const StepContext& step) {
  const InputNorm next = step.next_norm != nullptr ? *step.next_norm : InputNorm();
  const Workspace& work = step.workspace;
  return ForParts(
      tokens, step, [&](const std::vector<const float*>& parts, int64_t offset, int64_t count) {
        return step.kernels.SumPartsRmsNorm(parts, work.residual + offset, next.weight, count,
                                            step.dim, next.norm, work.normed + offset);
      });
}

}  // namespace

absl::Status NormInput(const InputNorm& norm, int64_t tokens, const StepContext& step) {
  if (step.normed) return absl::OkStatus();
  return step.kernels.RmsNorm(step.workspace.residual, norm.weight, tokens, step.dim, norm.norm,
                              step.workspace.normed);
}

absl::Status AwaitOutput(const StepContext& step) {
  return step.parts == nullptr ? absl::OkStatus() : step.parts->AwaitReaders();
}

absl::Status SumOfParts(int64_t tokens, float* out, const StepContext& step) {
  return ForParts(tokens, step,
                  [&](const std::vector<const float*>& parts, int64_t offset, int64_t count) {
                    return step.kernels.SumParts(parts, count * step.dim, out + offset);
                  });
}

absl::Status AddToResidual(int64_t tokens, const float* bias, const float* post_norm_weight,
                           const NormSpec& norm, const StepContext& step) {
  const bool plain = bias == nullptr && post_norm_weight == nullptr;
  if (step.in_parts && plain) return SumPartsIntoResidual(tokens, step);
  float* output = step.workspace.block_output;
  const int64_t count = tokens * step.dim;
  if (plain && JoinsSumAndNorm(tokens, step)) {
    const InputNorm& next = *step.next_norm;
    return step.group->AllReduceAddNorm({output, step.workspace.residual, next.weight,
                                         step.workspace.normed, tokens, step.dim, next.norm.eps,
                                         next.norm.unit_offset});
  }
  if (step.in_parts) {
    // Others read this rank's part still, and the block has used its input.
    output = step.workspace.normed;
    RETURN_IF_ERROR(SumOfParts(tokens, output, step));
  } else if (step.group != nullptr) {
    RETURN_IF_ERROR(step.group->AllReduceSum(output, output, count, DType::kF32));
  }
  if (bias != nullptr) {
    RETURN_IF_ERROR(step.kernels.AddBias(output, bias, tokens, step.dim));
  }
  if (post_norm_weight != nullptr) {
    RETURN_IF_ERROR(step.kernels.RmsNorm(output, post_norm_weight, tokens, step.dim, norm, output));
  }
  float* residual = step.workspace.residual;
  if (step.next_norm == nullptr) return step.kernels.Add(residual, output, count);
  return step.kernels.AddRmsNorm(residual, output, step.next_norm->weight, tokens, step.dim,
                                 step.next_norm->norm, step.workspace.normed);
}

}  // namespace tprun
