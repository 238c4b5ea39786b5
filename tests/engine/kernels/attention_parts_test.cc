#include "engine/kernels/attention_parts.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "engine/kernels/kernel_checks.h"
#include "gtest/gtest.h"

namespace tprun::cpu {
namespace {

// Every query meets every position that it sees exactly once, in pieces that belong together.
void CheckCovers(const AttentionShape& shape, const std::vector<TokenRun>& runs, int workers) {
  const AttentionParts work = CutAttention(shape, runs, workers);
  ASSERT_LE(work.workers(), workers);
  ASSERT_EQ(work.first.back(), static_cast<int64_t>(work.parts.size()));
  std::map<std::pair<int64_t, int>, int64_t> next;  // position, of [token, head]
  std::set<int64_t> rows;
  for (const AttentionPart& part : work.parts) {
    EXPECT_LE(part.queries(), kAttentionQueries);
    EXPECT_LT(part.key_begin, part.key_end);
    EXPECT_EQ(part.kv_head, KvHeadOf(shape, part.head_begin));
    EXPECT_EQ(part.kv_head, KvHeadOf(shape, part.head_end - 1));
    for (int64_t i = 0; part.partial_row >= 0 && i < part.queries(); ++i) {
      EXPECT_TRUE(rows.insert(part.partial_row + i).second);
    }
    for (int64_t t = part.token_begin; t < part.token_end; ++t) {
      for (int h = part.head_begin; h < part.head_end; ++h) {
        const auto [at, is_new] = next.try_emplace({t, h}, part.key_begin);
        EXPECT_EQ(is_new, part.first_piece);
        EXPECT_EQ(at->second, part.key_begin) << "token " << t << " head " << h;
        at->second = part.key_end;
      }
    }
  }
  EXPECT_EQ(static_cast<int64_t>(rows.size()), work.partial_rows);
  int64_t first_token = 0;
  for (const TokenRun& run : runs) {
    for (int64_t t = 0; t < run.tokens; ++t) {
      for (int h = 0; h < shape.query_heads; ++h) {
        const auto end = next.find({first_token + t, h});
        ASSERT_NE(end, next.end()) << "token " << first_token + t << " head " << h;
        EXPECT_GE(end->second, run.first_position + t + 1);
      }
    }
    first_token += run.tokens;
  }
  for (const AttentionPart& part : work.parts) {
    EXPECT_TRUE(!part.first_piece || part.key_begin <= FirstVisible(shape, part.position));
  }
  EXPECT_EQ(static_cast<int64_t>(next.size()), first_token * shape.query_heads);
}

TEST(AttentionParts, CoverEveryQueryAndPosition) {
  for (int workers : {1, 2, 3, 16}) {
    for (int64_t window : {0, 1, 100, 5000}) {
      const AttentionShape grouped = {
          .query_heads = 32, .queries_per_kv_head = 8, .window = window};
      CheckCovers(grouped, {{0, 8191, 1}}, workers);
      CheckCovers(grouped, {{0, 0, 512}}, workers);
      CheckCovers(grouped, {{3, 7, 1}, {1, 4000, 1}, {0, 100, 0}, {2, 900, 33}}, workers);
      const AttentionShape latent = {
          .query_heads = 130, .queries_per_kv_head = 130, .window = window};
      CheckCovers(latent, {{0, 3000, 2}}, workers);
      const AttentionShape crossing = {
          .query_heads = 5, .first_query_head = 3, .queries_per_kv_head = 4, .window = window};
      CheckCovers(crossing, {{0, 2000, 3}}, workers);
      CheckCovers({.query_heads = 0}, {{0, 2000, 3}}, workers);
    }
  }
}

int64_t Cost(const AttentionParts& work, int64_t worker) {
  int64_t cost = 0;
  for (int64_t i = work.first[worker]; i < work.first[worker + 1]; ++i) {
    const AttentionPart& part = work.parts[i];
    cost += (part.key_end - part.key_begin) * part.queries();
  }
  return cost;
}

// One KV head, or three of them, or sequences of unlike depth: all workers do as much.
TEST(AttentionParts, ShareTheWork) {
  for (int kv_heads : {1, 3, 4}) {
    for (int workers : {2, 5, 8}) {
      const AttentionShape shape = {.query_heads = kv_heads * 8, .queries_per_kv_head = 8};
      for (const std::vector<TokenRun>& runs :
           {std::vector<TokenRun>{{0, 8191, 1}}, std::vector<TokenRun>{{0, 9000, 1}, {1, 3000, 1}},
            std::vector<TokenRun>{{0, 0, 512}}}) {
        const AttentionParts work = CutAttention(shape, runs, workers);
        ASSERT_EQ(work.workers(), workers);
        int64_t total = 0, most = 0;
        for (int64_t w = 0; w < workers; ++w) {
          total += Cost(work, w);
          most = std::max(most, Cost(work, w));
        }
        EXPECT_LT(most, 1.1 * static_cast<double>(total) / workers)
            << kv_heads << " KV heads, " << workers << " workers, " << runs.size() << " runs";
      }
    }
  }
}

TEST(AttentionParts, LittleWorkStaysTogether) {
  const AttentionShape shape = {.query_heads = 32, .queries_per_kv_head = 8};
  EXPECT_EQ(CutAttention(shape, {{0, 0, 1}}, 16).workers(), 1);
  EXPECT_EQ(CutAttention(shape, {{0, 63, 1}}, 16).workers(), 3);
  EXPECT_EQ(CutAttention(shape, {{0, 63, 1}}, 16).partial_rows, 0);
}

}  // namespace
}  // namespace tprun::cpu
