#include "engine/runtime/engine.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "engine/runtime/load_weights.h"

namespace tprun {

Engine::Engine(ModelSpec spec, std::vector<Placement> placements, const EngineOptions& options,
               const EngineParts& parts)
    : spec_(std::move(spec)),
      placements_(std::move(placements)),
      options_(options),
      parts_(parts),
      rank_(parts.world->rank()),
      reached_(std::max(options.batch, 0)) {
  for (const Placement& placement : placements_) {
    runs_.push_back(IndexInGroup(placement, rank_) >= 0);
  }
  for (const TensorSpec& tensor : spec_.tensors) {
    if (tensor.role == TensorRole::kEmbedding) stream_rows_.push_back(tensor.shape[0]);
    if (tensor.role == TensorRole::kDepthEmbedding) depth_rows_.push_back(tensor.shape[0]);
  }
}

Engine::~Engine() {
  (void)parts_.device->Synchronize();
}  // its error has been told where it counts

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(ModelSpec spec,
                                                       std::vector<Placement> placements,
                                                       const EngineOptions& options,
                                                       const EngineParts& parts) {
  RETURN_IF_ERROR(CheckRunnable(spec));
  RETURN_IF_ERROR(CheckRunnable(options));
  RETURN_IF_ERROR(CheckKvType(spec, options));
  RETURN_IF_ERROR(ValidatePlacements(spec, placements, parts.world->size()));
  auto engine =
      std::unique_ptr<Engine>(new Engine(std::move(spec), std::move(placements), options, parts));
  RETURN_IF_ERROR(AgreeOnStatus(*parts.world, engine->CheckHasOps()));
  engine->layout_ =
      LayOutMemory(engine->spec_, engine->placements_, engine->rank_, engine->options_);
  // Before the groups are made, which takes all ranks: one without memory must not keep the others.
  RETURN_IF_ERROR(AgreeOnStatus(*parts.world, engine->Allocate()));
  RETURN_IF_ERROR(engine->MakeGroups());
  RETURN_IF_ERROR(engine->AgreeOnRecording());
  engine->BindWorkspace();
  RETURN_IF_ERROR(engine->MakeRopeFrequencies());
  engine->BindBlocks();
  return engine;
}

absl::Status Engine::CheckHasOps() const {
  for (int block = 1; block < spec_.head_block(); ++block) {
    if (!Runs(block)) continue;
    const Block& what = spec_.blocks[block];
    absl::Status status = parts_.kernels->CheckHasOpsFor(spec_.layers[what.layer], what.kind);
    if (status.ok() && what.kind == BlockKind::kAttention) {
      status = parts_.kernels->CheckHasCacheOf(*options_.kv_type);
    }
    if (!status.ok()) return Annotate(status, BlockName(spec_, block));
  }
  return absl::OkStatus();
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
    ASSIGN_OR_RETURN(groups_[placement.ranks], exchange().Split(placement.ranks));
    RETURN_IF_ERROR(ShareOutputs(placement.ranks));
  }
  return absl::OkStatus();
}

// The memory is in place of what is laid out for block_output, which is then never touched. So that
// no rank has it twice, it does this for one of its groups.
absl::Status Engine::ShareOutputs(const std::vector<int>& ranks) {
  if (SharingGroup(placements_, rank_) != ranks) return absl::OkStatus();
  const int64_t floats = ChunkTokens(options_) * spec_.dim;
  if (!parts_.device->host_accessible()) {
    const int64_t bytes = floats * static_cast<int64_t>(sizeof(float));
    sum_buffer_ = static_cast<float*>(groups_[ranks]->SumBuffer(bytes));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(shared_parts_, groups_[ranks]->ShareParts(floats));
  if (shared_parts_ != nullptr) sharing_ranks_ = ranks;
  return absl::OkStatus();
}

bool Engine::CanRecord() const {
  if (spec_.streams > 1) return false;
  if (!parts_.record_decode || !parts_.device->can_capture()) return false;
  for (const auto& [ranks, group] : groups_) {
    if (!group->capturable()) return false;
  }
  for (size_t block = 1; block < placements_.size(); ++block) {  // hops go over the exchange
    if (placements_[block].ranks != placements_[block - 1].ranks) return exchange().capturable();
  }
  const bool head_is_with_rank_0 = IndexInGroup(placements_.back(), 0) >= 0;
  return head_is_with_rank_0 || exchange().capturable();
}

// Ranks that exchange in a step all record it, or none does.
absl::Status Engine::AgreeOnRecording() {
  const float own = CanRecord() ? 1 : 0;
  float able = 0;
  RETURN_IF_ERROR(parts_.world->AllReduceSum(&own, &able, 1, DType::kF32));
  record_decode_ = able == static_cast<float>(parts_.world->size());
  return absl::OkStatus();
}

void* Engine::Address(const Region& region) const {
  Buffer* buffer = region.kind == RegionKind::kWeights   ? weights_.get()
                   : region.kind == RegionKind::kKvCache ? kv_cache_.get()
                                                         : workspace_buffer_.get();
  return static_cast<char*>(buffer->data()) + region.offset;
}

absl::Status Engine::LoadWeights(const Checkpoint& checkpoint, const LoadProgress& progress) {
  RETURN_IF_ERROR(ReadWeights(checkpoint, progress));
  return ArrangeWeights();
}

absl::Status Engine::ReadWeights(const Checkpoint& checkpoint, const LoadProgress& progress) {
  char* base = static_cast<char*>(weights_->data());
  const PieceArranger arranger = {
      .step = parts_.kernels->arranged_rows(),
      .matrix_rows = [this](const Region& region) { return MatrixRows(region); },
      .arrange = [this](const Region& region, int64_t begin,
                        int64_t end) { return ArrangePiece(region, begin, end); }};
  return LoadShards(checkpoint, spec_, layout_, base, *parts_.device, *parts_.pool, progress,
                    parts_.load_threads, ArrangesAsRead() ? &arranger : nullptr);
}

bool Engine::ArrangesAsRead() const {
  return parts_.device->host_accessible() && parts_.kernels->arranged_rows() > 0;
}

bool Engine::IsArranged(const TensorSpec& tensor) {
  return tensor.shape.size() >= 2 && tensor.role != TensorRole::kKeyUp;  // by its columns
}

// Experts' and heads' are matrices of their own.
int64_t Engine::MatrixRows(const Region& region) const {
  const TensorSpec& tensor = spec_.tensors[region.tensor];
  return tensor.experts > 0 ? tensor.shape[0] / tensor.experts : region.shard.rows.size();
}

absl::Status Engine::ArrangePiece(const Region& region, int64_t begin, int64_t end) {
  const TensorSpec& tensor = spec_.tensors[region.tensor];
  if (!IsArranged(tensor)) return absl::OkStatus();
  const WeightMatrix w = MatrixIn(region);
  const int64_t rows = MatrixRows(region), first = begin / rows * rows;
  char* const matrix = static_cast<char*>(Address(region)) + first * w.format->Bytes(w.columns);
  return Annotate(
      parts_.kernels->ArrangeRows(*w.format, matrix, rows, w.columns, begin - first, end - first),
      tensor.name);
}

absl::Status Engine::ArrangeWeights() {
  if (ArrangesAsRead()) return absl::OkStatus();
  int64_t end_of_last = 0;
  for (const Region& region : layout_.regions) {
    if (region.use != RegionUse::kTensor || region.bytes == 0) continue;
    const TensorSpec& tensor = spec_.tensors[region.tensor];
    // A tied head shares the embedding's region.
    if (!IsArranged(tensor) || region.offset < end_of_last) continue;
    end_of_last = region.offset + region.bytes;
    const WeightMatrix w = MatrixIn(region);
    const int64_t rows = MatrixRows(region), row_bytes = w.format->Bytes(w.columns);
    for (int64_t row = 0; row < w.rows; row += rows) {
      char* at = static_cast<char*>(Address(region)) + row * row_bytes;
      const absl::Status status = parts_.kernels->ArrangeWeights(*w.format, at, rows, w.columns);
      if (!status.ok()) return Annotate(status, tensor.name);
    }
  }
  return parts_.device->Synchronize();
}

}  // namespace tprun
