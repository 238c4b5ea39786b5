#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// What every back end checks before it touches memory: OK, or InvalidArgument saying what is wrong;
// OutOfRange for a sequence or position that the cache does not have.
absl::Status CheckWeights(const WeightMatrix& w);
absl::Status CheckRope(const RopeSpec& rope, int head_dim);
absl::Status CheckRouter(const ExpertsSpec& experts);
absl::Status CheckBatch(const TokenBatch& batch);
absl::Status CheckCache(const KvCacheView& cache, const TokenBatch& batch, bool has_pages = false);
absl::Status CheckAttention(const KvCacheView& cache, const AttentionShape& shape,
                            const TokenBatch& batch, bool has_pages = false);

// The keys of `sequence` where `data` is the cache's keys; likewise for values.
inline uint8_t* OfSequence(const KvCacheView& cache, void* data, int sequence) {
  return static_cast<uint8_t*>(data) + sequence * cache.sequence_stride;
}

// Its row of a KV head and position.
inline uint8_t* CacheRow(const KvCacheView& cache, void* data, int sequence, int64_t kv_head,
                         int64_t position) {
  return OfSequence(cache, data, sequence) +
         (kv_head * cache.capacity + position % cache.capacity) * cache.row_bytes();
}

// The KV head, counted on this rank, that the rank's query head `head` reads.
inline int KvHeadOf(const AttentionShape& shape, int head) {
  return (shape.first_query_head + head) / shape.queries_per_kv_head - shape.first_kv_head;
}

// The first position that a query at `position` sees.
inline int64_t FirstVisible(const AttentionShape& shape, int64_t position) {
  return shape.window > 0 && position >= shape.window ? position - shape.window + 1 : 0;
}

}  // namespace tprun
