#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/format/weight_format.h"
#include "engine/model/model_spec.h"
#include "engine/model/placement.h"

namespace tprun {

// What a run asks of an engine beside the model and its placement.
struct EngineOptions {
  int64_t context = 0;                        // positions per sequence, at least 1
  int batch = 1;                              // sequences with a KV cache of their own
  const WeightFormat* kv_type = &kF16Format;  // one that SetKvType knows
  int64_t prefill_chunk = 512;  // tokens of a prompt that go through the model at once
  // Tokens whose logits Engine::ForwardAll gives at a time; 0: it is not called.
  int64_t logit_rows = 0;
};

// The type of the KV cache by name: "f16", "q8_0", "fp8_e4m3" (or "fp8"), ... InvalidArgument lists
// them.
absl::string_view KvTypeName(const EngineOptions& options);
absl::Status SetKvType(absl::string_view name, EngineOptions& options);

// All names that SetKvType knows.
std::vector<std::string> AllKvTypes();

// Bytes of a row of `elements` in the KV cache, the keys or values of a head at a position: whole
// blocks of its type.
int64_t KvRowBytes(const EngineOptions& options, int64_t elements);

// Positions of a sequence that the KV cache of a layer keeps: a layer with a sliding window those
// that the tokens of a chunk see, others the whole context, those of a second stack, whose cache
// lives for one token, one for each of its steps.
int64_t KvPositions(const LayerSpec& layer, const EngineOptions& options);

// Tokens of a prompt that go through the model at once.
int64_t ChunkTokens(const EngineOptions& options);

// InvalidArgument if heads of the model are no whole number of blocks of the KV cache's type.
absl::Status CheckKvType(const ModelSpec& spec, const EngineOptions& options);

// InvalidArgument if the engine does not have what the options ask for.
absl::Status CheckRunnable(const EngineOptions& options);

enum class RegionKind { kWeights, kKvCache, kWorkspace };

// What a region holds.
enum class RegionUse {
  kTensor,  // a shard of ModelSpec::tensors[tensor]
  kKeys,    // of `layer`: [sequence, kv_head, position, head_dim]
  kValues,
  kLatents,  // of `layer`, latent attention only: [sequence, 1, position, kv_rank + rope_dim]
  // Workspaces; `ends` is the most tokens whose logits are made at once.
  kResidual,     // [chunk, dim]
  kNormed,       // [chunk, dim]
  kBlockOutput,  // [chunk, dim]: partial sums, then the sum
  kQkv,          // [chunk, (query_heads + 2 kv_heads) * head_dim], the widest of the rank's layers
  kAttention,    // [chunk, query_heads * head_dim]; latent attention: see latent_attention.cc
  kGate,         // [chunk, ffn columns]
  kUp,           // [chunk, ffn columns]
  kRouting,      // [chunk, experts + 2 per_token + 1], only where there are experts
  kLogitsShard,  // [ends, vocabulary rows], of a second stack's too
  kLogits,       // of each rank of the head's group: [ends, its rows]
  kBestShard,    // BestLogit [ends]
  kBest,         // of each rank of the head's group: BestLogit [ends]
  kSampling,     // SampleRequest [ends]
  kSeen,         // uint32 [batch, SeenWords(vocab)]: a bit for each token of a sequence so far
  kStepInputs,   // int32 [streams + 2, tokens]: ids, sequences and positions of a chunk's tokens
  kDepthHidden,  // [batch, dim], only where there is a second stack
  kRopeFrequencies,  // of `layer`: [rope.dims / 2]
};

struct Region {
  RegionKind kind = RegionKind::kWeights;
  RegionUse use = RegionUse::kTensor;
  int tensor = -1;
  int layer = -1;
  Shard shard;         // kTensor
  int64_t bytes = 0;   // in use
  int64_t offset = 0;  // in the allocation of its kind, a multiple of kRegionAlignment
};

inline constexpr int64_t kRegionAlignment = 64;

// Sums and products of bytes stop here, so that an absurd request is one that does not fit.
inline constexpr int64_t kMostBytes = int64_t{1} << 61;

// Everything that one rank allocates on its device: one allocation per kind, cut into regions.
struct MemoryLayout {
  std::vector<Region> regions;
  int64_t weight_bytes = 0;  // sizes of the three allocations
  int64_t kv_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t total_bytes() const { return weight_bytes + kv_bytes + workspace_bytes; }
};

// The layout of `rank`. The planner asks it for bytes, the engine allocates by it, so what a plan
// says is what is used. Formats of all tensors must be set, placements valid. A tied head whose
// shard equals the embedding's on this rank shares its region.
MemoryLayout LayOutMemory(const ModelSpec& spec, const std::vector<Placement>& placements, int rank,
                          const EngineOptions& options);

// Bytes of weights that group member `index` reads for one token of `block`: all its matrices and
// vectors, but of the embedding only one row, and of experts as many as a token goes through on
// average.
int64_t BlockBytesPerToken(const ModelSpec& spec, int block, const Placement& placement, int index);

}  // namespace tprun
