#include "engine/runtime/engine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/runtime/load_weights.h"

namespace tprun {

Engine::Engine(ModelSpec spec, std::vector<Placement> placements, const EngineOptions& options,
               const EngineParts& parts)
    : spec_(std::move(spec)),
      placements_(std::move(placements)),
      options_(options),
      parts_(parts),
      rank_(parts.world->rank()) {}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(ModelSpec spec,
                                                       std::vector<Placement> placements,
                                                       const EngineOptions& options,
                                                       const EngineParts& parts) {
  RETURN_IF_ERROR(ValidatePlacements(spec, placements, parts.world->size()));
  auto engine =
      std::unique_ptr<Engine>(new Engine(std::move(spec), std::move(placements), options, parts));
  engine->layout_ =
      LayOutMemory(engine->spec_, engine->placements_, engine->rank_, engine->options_);
  // Before the groups are made, which takes all ranks: one without memory must not keep the others.
  RETURN_IF_ERROR(AgreeOnStatus(*parts.world, engine->Allocate()));
  RETURN_IF_ERROR(engine->MakeGroups());
  engine->BindWorkspace();
  RETURN_IF_ERROR(engine->MakeRopeFrequencies());
  engine->BindBlocks();
  return engine;
}

absl::Status Engine::Allocate() {
  ASSIGN_OR_RETURN(weights_, parts_.device->Allocate(layout_.weight_bytes));
  ASSIGN_OR_RETURN(kv_cache_, parts_.device->Allocate(layout_.kv_bytes));
  ASSIGN_OR_RETURN(workspace_buffer_, parts_.device->Allocate(layout_.workspace_bytes));
  return absl::OkStatus();
}

// Every rank goes through the blocks in the same order, so groups are made in one order everywhere.
absl::Status Engine::MakeGroups() {
  for (const Placement& placement : placements_) {
    if (placement.ranks.size() < 2 || IndexInGroup(placement, rank_) < 0) continue;
    if (groups_.contains(placement.ranks)) continue;
    ASSIGN_OR_RETURN(groups_[placement.ranks], parts_.world->Split(placement.ranks));
  }
  return absl::OkStatus();
}

void* Engine::Address(const Region& region) const {
  Buffer* buffer = region.kind == RegionKind::kWeights   ? weights_.get()
                   : region.kind == RegionKind::kKvCache ? kv_cache_.get()
                                                         : workspace_buffer_.get();
  return static_cast<char*>(buffer->data()) + region.offset;
}

absl::Status Engine::LoadWeights(const Checkpoint& checkpoint, const LoadProgress& progress) {
  char* base = static_cast<char*>(weights_->data());
  return LoadShards(checkpoint, spec_, layout_, base, *parts_.device, *parts_.pool, progress);
}

absl::Status Engine::Forward(absl::Span<const int32_t> tokens, int64_t first_position,
                             int sequence) {
  if (sequence < 0 || sequence >= options_.batch) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence ", sequence, " is not one of the batch of ", options_.batch));
  }
  const int64_t end = first_position + static_cast<int64_t>(tokens.size());
  if (tokens.empty() || first_position < 0 || end > options_.context) {
    return absl::InvalidArgumentError(absl::StrCat("positions ", first_position, " to ", end,
                                                   " do not fit the context of ",
                                                   options_.context));
  }
  for (int32_t id : tokens) {
    if (id >= 0 && id < spec_.vocab) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", id, " is outside the vocabulary of ", spec_.vocab));
  }
  const size_t chunk = std::max<int64_t>(1, std::min(options_.prefill_chunk, options_.context));
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const auto part = tokens.subspan(begin, chunk);
    const bool last = begin + part.size() == tokens.size();
    RETURN_IF_ERROR(ForwardChunk(part, first_position + begin, sequence, last));
  }
  return absl::OkStatus();
}

absl::Status Engine::ForwardChunk(absl::Span<const int32_t> tokens, int64_t first_position,
                                  int sequence, bool want_logits) {
  const int64_t count = tokens.size();
  if (IndexInGroup(placements_[spec_.embed_block()], rank_) >= 0) {
    RETURN_IF_ERROR(
        parts_.device->CopyFromHost(workspace_.token_ids, tokens.data(), count * sizeof(int32_t)));
  }
  for (int block = 0; block < spec_.head_block(); ++block) {
    if (block > 0) {
      RETURN_IF_ERROR(Hop(placements_[block - 1].ranks, placements_[block].ranks,
                          workspace_.residual, count * spec_.dim));
    }
    if (IndexInGroup(placements_[block], rank_) < 0) continue;
    absl::Status status = RunBlock(block, count, first_position, sequence);
    if (!status.ok()) return Annotate(status, BlockName(spec_, block));
  }
  if (!want_logits) return absl::OkStatus();
  const int head = spec_.head_block();
  float* last = workspace_.residual + (count - 1) * spec_.dim;
  RETURN_IF_ERROR(Hop(placements_[head - 1].ranks, placements_[head].ranks, last, spec_.dim));
  if (IndexInGroup(placements_[head], rank_) >= 0) {
    RETURN_IF_ERROR(RunHead(head_, last, StepOf(head)));
  }
  return FetchLogits();
}

StepContext Engine::StepOf(int block) const {
  const auto group = groups_.find(placements_[block].ranks);
  return {*parts_.kernels, group == groups_.end() ? nullptr : group->second.get(), workspace_,
          spec_.dim};
}

absl::Status Engine::RunBlock(int block, int64_t tokens, int64_t first_position, int sequence) {
  const StepContext step = StepOf(block);
  const Block& what = spec_.blocks[block];
  switch (what.kind) {
    case BlockKind::kEmbed:
      return RunEmbedding(embedding_, tokens, step);
    case BlockKind::kAttention:
      return RunAttention(attention_[what.layer], tokens, first_position, sequence, step);
    case BlockKind::kMlp:
      return RunMlp(mlp_[what.layer], tokens, step);
    case BlockKind::kHead:
      break;
  }
  return absl::InternalError("the head is not run as a layer");
}

absl::Status Engine::Hop(const std::vector<int>& from, const std::vector<int>& to, float* data,
                         int64_t count) {
  if (from == to) return absl::OkStatus();
  const auto holds = [&](int rank) {
    return std::find(from.begin(), from.end(), rank) != from.end();
  };
  size_t next_sender = 0;  // receivers are spread over the senders
  for (int receiver : to) {
    if (holds(receiver)) continue;
    const int sender = from[next_sender++ % from.size()];
    const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
    if (rank_ == sender) RETURN_IF_ERROR(parts_.world->Send(data, bytes, receiver));
    if (rank_ == receiver) RETURN_IF_ERROR(parts_.world->Receive(data, bytes, sender));
  }
  return absl::OkStatus();
}

absl::Status Engine::FetchLogits() {
  RETURN_IF_ERROR(Hop(placements_[spec_.head_block()].ranks, {0}, workspace_.logits, spec_.vocab));
  if (rank_ != 0) return absl::OkStatus();
  logits_.resize(spec_.vocab);
  return parts_.device->CopyToHost(logits_.data(), workspace_.logits,
                                   spec_.vocab * static_cast<int64_t>(sizeof(float)));
}

}  // namespace tprun
