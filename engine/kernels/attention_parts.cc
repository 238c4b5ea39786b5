#include "engine/kernels/attention_parts.h"

#include <algorithm>
#include <utility>

#include "engine/kernels/kernel_checks.h"

namespace tprun::cpu {
namespace {

// Positions are cut at multiples of this.
constexpr int64_t kKeys = 64;
// What reading a position costs beside its queries, in queries.
constexpr int64_t kReadCost = 4;
// What is worth a worker of its own, and what is not worth a cut: some microseconds.
constexpr int64_t kLeastCost = 1024;

int64_t CostOf(const AttentionPart& part) {
  return (part.key_end - part.key_begin) * (part.queries() + kReadCost);
}

void SetKeys(const AttentionShape& shape, AttentionPart& part) {
  const int64_t last = part.position + part.token_end - part.token_begin - 1;
  part.key_begin = FirstVisible(shape, part.position);
  part.key_end = last + 1;
}

// The query heads that read the same KV head, for blocks of tokens.
void AddRun(const AttentionShape& shape, const TokenRun& run, int64_t first_token,
            std::vector<AttentionPart>& items) {
  for (int begin = 0; begin < shape.query_heads;) {
    int end = begin + 1;
    while (end < shape.query_heads && end - begin < kAttentionQueries &&
           KvHeadOf(shape, end) == KvHeadOf(shape, begin)) {
      ++end;
    }
    const int64_t step = kAttentionQueries / (end - begin);
    for (int64_t t = 0; t < run.tokens; t += step) {
      AttentionPart part = {.kv_head = KvHeadOf(shape, begin),
                            .head_begin = begin,
                            .head_end = end,
                            .token_begin = first_token + t,
                            .token_end = first_token + std::min(run.tokens, t + step),
                            .sequence = run.sequence,
                            .position = run.first_position + t};
      SetKeys(shape, part);
      items.push_back(part);
    }
    begin = end;
  }
}

// Deals the items out in order, to one worker after the other as much as to the next.
class Dealer {
 public:
  Dealer(int64_t total, int64_t workers) : total_(total), workers_(workers) {}

  AttentionParts Deal(const std::vector<AttentionPart>& items) {
    result_.first.push_back(0);
    for (const AttentionPart& item : items) Deal(item);
    while (result_.workers() < workers_) EndWorker();
    return std::move(result_);
  }

 private:
  int64_t Goal() const { return total_ * (result_.workers() + 1) / workers_; }
  bool Last() const { return result_.workers() + 1 == workers_; }
  void EndWorker() { result_.first.push_back(static_cast<int64_t>(result_.parts.size())); }

  void Deal(AttentionPart item) {
    const size_t first_piece = result_.parts.size();
    while (!Last() && done_ + CostOf(item) > Goal()) {
      const int64_t keys = (Goal() - done_) / (item.queries() + kReadCost);
      AttentionPart piece = item;
      piece.key_end = std::min(item.key_end, item.key_begin + (keys + kKeys / 2) / kKeys * kKeys);
      AttentionPart rest = item;
      rest.key_begin = piece.key_end;
      if (CostOf(rest) < kLeastCost) break;  // the worker takes it too
      if (CostOf(piece) >= kLeastCost) {
        Put(piece);
        item = rest;
      }
      EndWorker();
    }
    Put(item);
    if (!Last() && done_ >= Goal()) EndWorker();
    if (result_.parts.size() == first_piece + 1) return;
    for (size_t i = first_piece; i < result_.parts.size(); ++i) {
      result_.parts[i].partial_row = result_.partial_rows;
      result_.parts[i].first_piece = i == first_piece;
      result_.partial_rows += item.queries();
    }
  }

  void Put(const AttentionPart& part) {
    result_.parts.push_back(part);
    done_ += CostOf(part);
  }

  int64_t total_, workers_;
  int64_t done_ = 0;
  AttentionParts result_;
};

}  // namespace

std::vector<absl::Span<const AttentionPart>> AttentionParts::pieces() const {
  std::vector<absl::Span<const AttentionPart>> result;
  for (size_t i = 0; i < parts.size();) {
    size_t end = i + 1;
    while (end < parts.size() && !parts[end].first_piece) ++end;
    if (end > i + 1) result.push_back(absl::MakeConstSpan(parts).subspan(i, end - i));
    i = end;
  }
  return result;
}

AttentionParts CutAttention(const AttentionShape& shape, absl::Span<const TokenRun> runs,
                            int workers) {
  std::vector<AttentionPart> items;
  int64_t first_token = 0, total = 0;
  for (const TokenRun& run : runs) {
    AddRun(shape, run, first_token, items);
    first_token += run.tokens;
  }
  for (const AttentionPart& item : items) total += CostOf(item);
  return Dealer(total, std::clamp<int64_t>(total / kLeastCost, 1, workers)).Deal(items);
}

}  // namespace tprun::cpu
