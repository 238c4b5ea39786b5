#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// Query heads [head_begin, head_end), which read the same KV head, for tokens [token_begin,
// token_end) of the batch, all of one run; at most kAttentionQueries queries in all. Of the
// positions that they see, [key_begin, key_end).
inline constexpr int64_t kAttentionQueries = 256;
struct AttentionPart {
  int kv_head = 0;
  int head_begin = 0;
  int head_end = 0;
  int64_t token_begin = 0;
  int64_t token_end = 0;
  int sequence = 0;
  int64_t position = 0;  // of token_begin
  int64_t key_begin = 0;
  int64_t key_end = 0;
  // The first of its rows in the memory for partial results, one for each query: it is one of
  // several that share the queries, next to one another. -1: it sees all that there is.
  int64_t partial_row = -1;
  bool first_piece = true;  // it counts the sinks

  int heads() const { return head_end - head_begin; }
  int64_t queries() const { return heads() * (token_end - token_begin); }
};

// The work of attention over a batch, for some workers.
struct AttentionParts {
  std::vector<AttentionPart> parts;
  // Worker w has parts [first[w], first[w + 1]). All workers have about as much to do.
  std::vector<int64_t> first;
  int64_t partial_rows = 0;
  int64_t workers() const { return static_cast<int64_t>(first.size()) - 1; }
  // The pieces of each of those queries that have several.
  std::vector<absl::Span<const AttentionPart>> pieces() const;
};

// Cuts the work over KV heads and tokens and, where that leaves workers without, over positions.
// Few workers get anything where there is little to do.
AttentionParts CutAttention(const AttentionShape& shape, absl::Span<const TokenRun> runs,
                            int workers);

}  // namespace tprun::cpu
