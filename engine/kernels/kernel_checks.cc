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

absl::Status CheckRouter(const ExpertsSpec& experts) {
  const bool sound = experts.count > 0 && experts.per_token > 0 && experts.groups > 0 &&
                     experts.count % experts.groups == 0 && experts.groups_per_token > 0 &&
                     experts.groups_per_token <= experts.groups &&
                     experts.per_token <= experts.count / experts.groups * experts.groups_per_token;
  if (sound) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a router that picks ", experts.per_token, " of ", experts.count, " experts in ",
                   experts.groups_per_token, " of ", experts.groups, " groups"));
}

absl::Status CheckBatch(const TokenBatch& batch) {
  int64_t tokens = 0;
  for (const TokenRun& run : batch.runs) {
    if (run.tokens < 0 || run.first_position < 0 || run.sequence < 0) {
      return absl::OutOfRangeError(absl::StrCat(run.tokens, " tokens at position ",
                                                run.first_position, " of sequence ", run.sequence));
    }
    tokens += run.tokens;
  }
  if (tokens == batch.tokens) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a batch of ", batch.tokens, " tokens whose runs have ", tokens));
}

absl::Status CheckCache(const KvCacheView& cache, const TokenBatch& batch, bool has_pages) {
  if (absl::Status status = CheckBatch(batch); !status.ok()) return status;
  if (cache.pages != nullptr && (!has_pages || cache.is_ring())) {
    return absl::InvalidArgumentError(
        has_pages ? "a KV cache that is a ring has no pages"
                  : "a KV cache in pages; these kernels have one of whole sequences only");
  }
  const int64_t positions = cache.is_ring() ? cache.positions : cache.capacity;
  for (const TokenRun& run : batch.runs) {
    if (run.first_position > positions - run.tokens) {
      return absl::OutOfRangeError(
          absl::StrCat("positions ", run.first_position, " to ", run.first_position + run.tokens,
                       " in a KV cache of ", positions, "; start with a longer context"));
    }
    if (run.tokens > cache.capacity) {
      return absl::InvalidArgumentError(
          absl::StrCat(run.tokens, " tokens at once in a KV cache that keeps ", cache.capacity));
    }
    if (run.sequence >= cache.sequences) {
      return absl::OutOfRangeError(absl::StrCat("sequence ", run.sequence, " in a KV cache of ",
                                                cache.sequences, "; start with a larger batch"));
    }
  }
  if (cache.kv_heads < 0 || cache.head_dim <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache of ", cache.kv_heads, " heads of ", cache.head_dim, " elements"));
  }
  if (cache.format == nullptr || !cache.format->decodable() ||
      cache.head_dim % cache.format->block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV cache of heads of ", cache.head_dim, " elements as ",
                     cache.format == nullptr ? "no format" : cache.format->name));
  }
  if ((cache.keys == nullptr || cache.values == nullptr) && cache.kv_heads > 0) {
    return absl::InvalidArgumentError("KV cache without memory");
  }
  return absl::OkStatus();
}

absl::Status CheckAttention(const KvCacheView& cache, const AttentionShape& shape,
                            const TokenBatch& batch, bool has_pages) {
  if (absl::Status status = CheckCache(cache, batch, has_pages); !status.ok()) return status;
  if (shape.query_heads < 0 || shape.first_query_head < 0 || shape.queries_per_kv_head < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("attention of ", shape.query_heads, " query heads from ",
                     shape.first_query_head, ", ", shape.queries_per_kv_head, " per KV head"));
  }
  if (shape.query_heads == 0) return absl::OkStatus();
  for (const TokenRun& run : batch.runs) {
    if (!cache.is_ring() || run.tokens == 0) continue;
    if (shape.window > 0 && shape.window - 1 + run.tokens <= cache.capacity) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("attention of ", run.tokens, " tokens over windows of ", shape.window,
                     " positions in a KV cache that keeps ", cache.capacity));
  }
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
