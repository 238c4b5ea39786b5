#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/layers.h"
#include "engine/runtime/memory_layout.h"

namespace tprun {

// Bytes of this rank's weights read so far, and in all.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

// The parts an engine works with; all outlive it.
struct EngineParts {
  Communicator* world = nullptr;
  Device* device = nullptr;
  Kernels* kernels = nullptr;
  ThreadPool* pool = nullptr;  // reads weights in parallel
};

// One rank of a running model: carries out its part of a placement, decides nothing. Every rank
// makes the same calls. Not thread-safe.
//
//   ASSIGN_OR_RETURN(auto engine, Engine::Create(spec, placements, options, parts));
//   RETURN_IF_ERROR(engine->LoadWeights(checkpoint, progress));
//   RETURN_IF_ERROR(engine->Forward(prompt, 0, 0));
//   if (world->rank() == 0) Sample(engine->logits());
class Engine {
 public:
  // Allocates everything the layout says and sets up the groups. `spec` and `placements` are
  // copied. InvalidArgument for unsound placements, ResourceExhausted when the device is too small.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(ModelSpec spec,
                                                        std::vector<Placement> placements,
                                                        const EngineOptions& options,
                                                        const EngineParts& parts);

  // Reads this rank's byte ranges of `checkpoint`; for a checkpoint without tensors fills them with
  // random weights that depend on the tensor alone, scaled so that activations keep their size.
  absl::Status LoadWeights(const Checkpoint& checkpoint, const LoadProgress& progress);

  // Puts `tokens` at positions first_position... of `sequence` through the model, in chunks, and
  // leaves the logits of the last one on rank 0. InvalidArgument when they do not fit the context
  // or an id is outside the vocabulary.
  absl::Status Forward(absl::Span<const int32_t> tokens, int64_t first_position, int sequence);

  // [vocab], of the last Forward; meaningful on rank 0.
  absl::Span<const float> logits() const { return logits_; }

  const ModelSpec& spec() const { return spec_; }
  const EngineOptions& options() const { return options_; }
  const MemoryLayout& layout() const { return layout_; }
  const std::vector<Placement>& placements() const { return placements_; }

 private:
  Engine(ModelSpec spec, std::vector<Placement> placements, const EngineOptions& options,
         const EngineParts& parts);

  absl::Status Allocate();
  absl::Status MakeGroups();
  absl::Status MakeRopeFrequencies();
  void BindWorkspace();
  void BindBlocks();
  void BindAttention(int layer);
  void BindMlp(int layer);
  void BindEmbedding();
  void BindHead();

  const Region* FindRegion(RegionUse use, int layer) const;
  void* Address(const Region& region) const;
  // This rank's shard of the tensor of `role` in `block`; data is null where there is none.
  WeightMatrix Matrix(int block, TensorRole role) const;
  const float* Vector(int block, TensorRole role) const;

  absl::Status ForwardChunk(absl::Span<const int32_t> tokens, int64_t first_position, int sequence,
                            bool want_logits);
  StepContext StepOf(int block) const;
  absl::Status RunBlock(int block, int64_t tokens, int64_t first_position, int sequence);
  // `count` floats at `data`, which all ranks of `from` hold, to those ranks of `to` that do not.
  absl::Status Hop(const std::vector<int>& from, const std::vector<int>& to, float* data,
                   int64_t count);
  absl::Status FetchLogits();

  ModelSpec spec_;
  std::vector<Placement> placements_;
  EngineOptions options_;
  EngineParts parts_;
  int rank_;
  MemoryLayout layout_;
  std::unique_ptr<Buffer> weights_, kv_cache_, workspace_buffer_;
  std::map<std::vector<int>, std::unique_ptr<Communicator>> groups_;  // of several ranks
  Workspace workspace_;
  EmbeddingBlock embedding_;
  std::vector<AttentionBlock> attention_;
  std::vector<MlpBlock> mlp_;
  HeadBlock head_;
  std::vector<float> logits_;
};

}  // namespace tprun
