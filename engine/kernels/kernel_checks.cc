#include "engine/kernels/kernel_checks.h"

#include "absl/strings/str_cat.h"

namespace tprun {

absl::Status CheckWeights(const WeightMatrix& w) {
  if (w.format == nullptr) return absl::InvalidArgumentError("weight matrix without a format");
  if (w.rows < 0 || w.columns < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("weight matrix of ", w.rows, " x ", w.columns, " elements"));
  }
  if (w.columns % w.format->block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rows of ", w.columns, " elements are not a whole number of ", w.format->name,
        " blocks of ", w.format->block_elements, "; cut the tensor at block boundaries"));
  }
  if (w.data == nullptr && w.rows > 0 && w.columns > 0) {
    return absl::InvalidArgumentError("weight matrix without data");
  }
  return absl::OkStatus();
}

absl::Status CheckRope(const RopeSpec& rope, int head_dim) {
  if (rope.layout == RopeLayout::kNone) return absl::OkStatus();
  if (rope.dims < 0 || rope.dims % 2 != 0 || rope.dims > head_dim) {
    return absl::InvalidArgumentError(absl::StrCat("RoPE over ", rope.dims,
                                                   " elements of heads of ", head_dim,
                                                   "; it takes an even number, at most the head"));
  }
  return absl::OkStatus();
}

absl::Status CheckCache(const KvCacheView& cache, int64_t first_position, int64_t tokens) {
  if (first_position < 0 || first_position > cache.capacity - tokens) {
    return absl::OutOfRangeError(absl::StrCat("positions ", first_position, " to ",
                                              first_position + tokens, " in a KV cache of ",
                                              cache.capacity, "; start with a longer context"));
  }
  if (cache.kv_heads < 0 || cache.head_dim <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache of ", cache.kv_heads, " heads of ", cache.head_dim, " elements"));
  }
  if ((cache.keys == nullptr || cache.values == nullptr) && cache.kv_heads > 0) {
    return absl::InvalidArgumentError("KV cache without memory");
  }
  return absl::OkStatus();
}

absl::Status CheckAttention(const KvCacheView& cache, const AttentionShape& shape,
                            int64_t first_position, int64_t tokens) {
  if (absl::Status status = CheckCache(cache, first_position, tokens); !status.ok()) return status;
  if (shape.query_heads < 0 || shape.first_query_head < 0 || shape.queries_per_kv_head < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention of ", shape.query_heads, " query heads from ",
                     shape.first_query_head, ", ", shape.queries_per_kv_head, " per KV head"));
  }
  if (shape.query_heads == 0) return absl::OkStatus();
  const int first = KvHeadOf(shape, 0);
  const int last = KvHeadOf(shape, shape.query_heads - 1);
  if (shape.first_query_head / shape.queries_per_kv_head < shape.first_kv_head ||
      last >= cache.kv_heads) {
    return absl::InvalidArgumentError(absl::StrCat("query heads read KV heads ", first, " to ",
                                                   last, " of this rank, which has ",
                                                   cache.kv_heads));
  }
  return absl::OkStatus();
}

}  // namespace tprun
