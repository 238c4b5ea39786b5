#include <numeric>

#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {
namespace {

int64_t Count(absl::Span<const TokenRange> ranges) {
  int64_t count = 0;
  for (const TokenRange& range : ranges) count += range.end - range.begin;
  return count;
}

// This rank's part of the logits, [tokens, its rows], at `out`.
absl::Status LogitsShard(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                         const StepContext& step, float* out) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  float* normed = work.normed;
  for (const TokenRange& range : tokens) {
    if (step.normed) break;
    const int64_t count = range.end - range.begin;
    RETURN_IF_ERROR(kernels.RmsNorm(work.residual + range.begin * step.dim, block.norm.weight,
                                    count, step.dim, block.norm.norm, normed));
    normed += count * step.dim;
  }
  const int64_t count = Count(tokens);
  const int64_t rows = block.weight.rows;
  RETURN_IF_ERROR(kernels.MatMul(work.normed, block.weight, nullptr, count, out, rows));
  if (block.logit_softcap <= 0) return absl::OkStatus();
  return kernels.Softcap(out, count * rows, block.logit_softcap);
}

}  // namespace

absl::Status RunHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                     const StepContext& step) {
  const Workspace& work = step.workspace;
  if (step.group == nullptr) return LogitsShard(block, tokens, step, work.logits);
  RETURN_IF_ERROR(LogitsShard(block, tokens, step, work.logits_shard));
  std::vector<int64_t> counts = block.row_counts;
  for (int64_t& count : counts) count *= Count(tokens);
  return step.group->AllGather(work.logits_shard, work.logits, counts, DType::kF32);
}

absl::Status RunGreedyHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                           const StepContext& step) {
  const Workspace& work = step.workspace;
  const int64_t count = Count(tokens);
  BestLogit* best = step.group == nullptr ? work.best : work.best_shard;
  RETURN_IF_ERROR(LogitsShard(block, tokens, step, work.logits_shard));
  RETURN_IF_ERROR(step.kernels.ArgMax(work.logits_shard, count, block.weight.rows,
                                      static_cast<int32_t>(block.first_row), best));
  if (step.group == nullptr) return absl::OkStatus();
  // As 32-bit elements, which every back end moves unchanged.
  const int64_t elements = count * static_cast<int64_t>(sizeof(BestLogit) / sizeof(float));
  const std::vector<int64_t> counts(step.group->size(), elements);
  return step.group->AllGather(best, work.best, counts, DType::kF32);
}

absl::Status RunSampledHead(const HeadBlock& block, absl::Span<const TokenRange> tokens,
                            const StepContext& step) {
  const Workspace& work = step.workspace;
  const int64_t count = Count(tokens), rows = block.weight.rows;
  const int64_t vocab =
      std::accumulate(block.row_counts.begin(), block.row_counts.end(), int64_t{0});
  float* own = step.group == nullptr ? work.logits : work.logits_shard;
  RETURN_IF_ERROR(LogitsShard(block, tokens, step, own));
  for (int64_t t = 0; step.group != nullptr && t < count; ++t) {  // each token's in one piece
    RETURN_IF_ERROR(step.group->AllGather(own + t * rows, work.logits + t * vocab, block.row_counts,
                                          DType::kF32));
  }
  return step.kernels.Sample(work.logits, work.sampling, count, vocab, work.seen, work.best);
}

}  // namespace tprun
