#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/runtime/engine.h"

// The part of Engine that runs a second stack of layers (Moshi's depth transformer, arXiv
// 2410.00037, section 3.4): a few steps per position of the first, with weights of their own.

namespace tprun {
namespace {

// The matrix of one step of those that stand one below the other.
WeightMatrix AtStep(WeightMatrix all, int steps, int step) {
  all.rows /= steps;
  const int64_t bytes = all.rows * all.format->Bytes(all.columns);
  all.data = static_cast<const char*>(all.data) + step * bytes;
  return all;
}

AttentionBlock AtStep(AttentionBlock block, int steps, int step) {
  for (WeightMatrix* w : {&block.query, &block.key, &block.value, &block.out}) {
    *w = AtStep(*w, steps, step);
  }
  return block;
}

MlpBlock AtStep(MlpBlock block, int steps, int step) {
  for (WeightMatrix* w : {&block.gate, &block.up, &block.down}) *w = AtStep(*w, steps, step);
  return block;
}

}  // namespace

int Engine::last_main_block() const {
  const int end =
      spec_.depth.steps > 0 ? spec_.attention_block(spec_.depth.first_layer) : spec_.head_block();
  return end - 1;
}

absl::Status Engine::KeepHidden(const Step& step) {
  const int head = spec_.head_block(), depth = last_main_block() + 1;
  float* hidden = workspace_.depth_hidden;
  if (hidden != nullptr) hidden += step.first_ended * spec_.dim;
  if (Runs(head)) {
    RETURN_IF_ERROR(parts_.kernels->CopyHeads({workspace_.normed, spec_.dim, 0}, step.ended, 1,
                                              spec_.dim, {hidden, spec_.dim, 0}));
  }
  return Hop(placements_[head].ranks, placements_[depth].ranks, hidden, step.ended * spec_.dim);
}

absl::StatusOr<Step> Engine::MakeDepthStep(int step, absl::Span<const int32_t> tokens) const {
  if (spec_.depth.steps == 0) {
    return absl::InvalidArgumentError(absl::StrCat(spec_.name, " has no second stack of layers"));
  }
  if (step < 0 || step > depth_steps_done_ || step >= spec_.depth.steps) {
    return absl::InvalidArgumentError(absl::StrCat("step ", step, " of ", spec_.depth.steps,
                                                   " after ", depth_steps_done_, " are done"));
  }
  if (tokens.empty() || tokens.size() != ended_sequences_.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        tokens.size(), " tokens for the ", ended_sequences_.size(), " sequences of the last pass"));
  }
  const int64_t rows = depth_rows_[step];
  Step result;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= rows) {
      return absl::InvalidArgumentError(absl::StrCat("token id ", tokens[i], " of step ", step,
                                                     " is outside its ", rows, " rows"));
    }
    result.runs.push_back({ended_sequences_[i], step, 1});
    result.inputs.push_back(tokens[i]);
  }
  for (int sequence : ended_sequences_) result.inputs.push_back(sequence);
  result.inputs.resize(result.inputs.size() + tokens.size(), step);
  result.ended = static_cast<int64_t>(tokens.size());
  return result;
}

absl::Status Engine::ForwardDepth(int step, absl::Span<const int32_t> tokens) {
  ASSIGN_OR_RETURN(const Step inputs, MakeDepthStep(step, tokens));
  ASSIGN_OR_RETURN(const StepTokens on_device, UploadInputs(inputs));
  const int64_t count = inputs.tokens();
  const int first = last_main_block() + 1, head = spec_.head_block();
  if (Runs(first)) RETURN_IF_ERROR(RunDepthInput(step, on_device));
  for (int block = first; block < head; ++block) {
    if (block > first) {
      RETURN_IF_ERROR(Hop(placements_[block - 1].ranks, placements_[block].ranks,
                          workspace_.residual, count * spec_.depth.dim));
    }
    if (!Runs(block)) continue;
    StepContext context = StepOf(block);
    context.dim = spec_.depth.dim;
    const int layer = spec_.blocks[block].layer;
    const absl::Status status =
        spec_.blocks[block].kind == BlockKind::kAttention
            ? RunAttention(AtStep(attention_[layer], spec_.depth.steps, step), on_device.batch,
                           context)
            : RunMlp(AtStep(mlp_[layer], spec_.depth.steps, step), count, context);
    if (!status.ok()) return Annotate(status, BlockName(spec_, block));
  }
  RETURN_IF_ERROR(Hop(placements_[head - 1].ranks, placements_[head].ranks, workspace_.residual,
                      count * spec_.depth.dim));
  const std::vector<int64_t> rows = DepthLogitRows(step);
  if (Runs(head)) RETURN_IF_ERROR(RunDepthHead(step, rows, count));
  RETURN_IF_ERROR(Hop(placements_[head].ranks, {0}, workspace_.logits, count * spec_.depth.vocab));
  depth_steps_done_ = std::max(depth_steps_done_, step + 1);
  logits_.clear();
  chosen_ids_.clear();
  if (rank_ != 0) return absl::OkStatus();
  logits_.resize(count * spec_.depth.vocab);
  return FetchLogits(0, count, rows);
}

// residual = the first stack's output through this step's projection, plus the token's embedding;
// one rank of the group has both.
absl::Status Engine::RunDepthInput(int step, const StepTokens& tokens) {
  const int block = last_main_block() + 1;
  const int64_t count = tokens.batch.tokens, dim = spec_.depth.dim;
  Kernels& kernels = *parts_.kernels;
  const WeightMatrix all = Matrix(block, TensorRole::kDepthInput);
  const bool here = all.rows > 0;
  const WeightMatrix input =
      here ? AtStep(all, spec_.depth.steps, step) : WeightMatrix{nullptr, &kF32Format, dim, 0};
  RETURN_IF_ERROR(
      kernels.MatMul(workspace_.depth_hidden, input, nullptr, count, workspace_.residual, dim));
  if (here) {
    const EmbeddingTable table = Tables(block, TensorRole::kDepthEmbedding)[step];
    RETURN_IF_ERROR(
        kernels.Embedding(table.rows, tokens.ids, count, table.first_row, 1, workspace_.normed));
    RETURN_IF_ERROR(kernels.Add(workspace_.residual, workspace_.normed, count * dim));
  }
  const StepContext context = StepOf(block);
  if (context.group == nullptr) return absl::OkStatus();
  return context.group->AllReduceSum(workspace_.residual, workspace_.residual, count * dim,
                                     DType::kF32);
}

absl::Status Engine::RunDepthHead(int step, std::vector<int64_t> rows, int64_t count) {
  const int head = spec_.head_block();
  const WeightMatrix weight = Tables(head, TensorRole::kDepthHead)[step].rows;
  const StepContext context = StepOf(head);
  float* out = context.group == nullptr ? workspace_.logits : workspace_.logits_shard;
  RETURN_IF_ERROR(
      parts_.kernels->MatMul(workspace_.residual, weight, nullptr, count, out, weight.rows));
  if (context.group == nullptr) return absl::OkStatus();
  for (int64_t& share : rows) share *= count;
  return context.group->AllGather(workspace_.logits_shard, workspace_.logits, rows, DType::kF32);
}

std::vector<int64_t> Engine::DepthLogitRows(int step) const {
  const int head = spec_.head_block();
  const Placement& placement = placements_[head];
  std::vector<int64_t> rows;
  for (const TensorSpec& tensor : spec_.tensors) {
    if (tensor.block != head || tensor.role != TensorRole::kDepthHead || step-- != 0) continue;
    for (int index = 0; index < static_cast<int>(placement.ranks.size()); ++index) {
      rows.push_back(ShardOf(spec_, tensor, placement, index).rows.size());
    }
  }
  return rows;
}

}  // namespace tprun
