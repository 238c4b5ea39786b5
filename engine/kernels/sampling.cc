#include "engine/kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "engine/kernels/kernels.h"

// Drawing tokens where the host reads the device's memory.

namespace tprun {
namespace {

// Tokens in order, taken one by one: most draws look at few.
class InOrder {
 public:
  explicit InOrder(std::vector<uint64_t> keys) : keys_(std::move(keys)), end_(keys_.end()) {
    std::make_heap(keys_.begin(), end_, std::greater<>());
  }
  bool empty() const { return end_ == keys_.begin(); }
  uint64_t Next() {
    std::pop_heap(keys_.begin(), end_, std::greater<>());
    return *--end_;
  }

 private:
  std::vector<uint64_t> keys_;
  std::vector<uint64_t>::iterator end_;
};

uint64_t SumOfWeights(const std::vector<uint64_t>& keys) {
  uint64_t sum = 0;
  for (uint64_t key : keys) sum += WeightOf(DistanceOfKey(key));
  return sum;
}

int32_t DrawKey(std::vector<uint64_t> keys, const SampleRequest& request) {
  if (request.top_k > 0 && keys.size() > static_cast<size_t>(request.top_k)) {
    std::nth_element(keys.begin(), keys.begin() + request.top_k, keys.end());
    keys.resize(request.top_k);
  }
  const uint64_t wanted = PartOf(SumOfWeights(keys), request.top_p);
  struct Kept {
    int32_t id;
    uint64_t end;  // of its part of the weight
  };
  std::vector<Kept> kept;
  InOrder tokens(std::move(keys));
  while (!tokens.empty() && (kept.empty() || kept.back().end < wanted)) {
    const uint64_t key = tokens.Next();
    if (!kept.empty() && DistanceOfKey(key) > request.reach) break;
    const uint64_t before = kept.empty() ? 0 : kept.back().end;
    kept.push_back({IdOfKey(key), before + WeightOf(DistanceOfKey(key))});
  }
  const uint64_t draw = Below(request.random, kept.back().end);
  const auto drawn = std::upper_bound(kept.begin(), kept.end(), draw,
                                      [](uint64_t at, const Kept& k) { return at < k.end; });
  return drawn->id;
}

BestLogit Draw(float* logits, int64_t vocab, const SampleRequest& request, const uint32_t* seen) {
  BestLogit best;
  for (int64_t id = 0; id < vocab; ++id) {
    if (!std::isfinite(logits[id])) continue;
    const bool penalised = request.penalty != 1 && (seen[id / 32] >> (id % 32) & 1) != 0;
    if (penalised) logits[id] = Penalised(logits[id], request.penalty);
    if (!std::isfinite(logits[id])) continue;
    if (best.id < 0 || logits[id] > best.logit) best = {logits[id], static_cast<int32_t>(id)};
  }
  if (best.id < 0 || request.scale == 0) return best;
  std::vector<uint64_t> keys;
  for (int64_t id = 0; id < vocab; ++id) {
    if (!std::isfinite(logits[id])) continue;
    const uint32_t distance = DistanceOf(best.logit, logits[id], request.scale);
    if (distance != kTooFar) keys.push_back(SampleKey(distance, id));
  }
  best.id = DrawKey(std::move(keys), request);
  return best;
}

}  // namespace

absl::Status Kernels::Sample(float* logits, const SampleRequest* requests, int64_t rows,
                             int64_t vocab, const uint32_t* seen, BestLogit* chosen) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint32_t* of_sequence = seen + requests[r].sequence * SeenWords(vocab);
    chosen[r] = Draw(logits + r * vocab, vocab, requests[r], of_sequence);
  }
  return absl::OkStatus();
}

absl::Status Kernels::MarkSeen(const int32_t* ids, const int32_t* sequences, int64_t tokens,
                               int64_t vocab, uint32_t* seen) {
  for (int64_t t = 0; t < tokens; ++t) {
    seen[sequences[t] * SeenWords(vocab) + ids[t] / 32] |= 1u << (ids[t] % 32);
  }
  return absl::OkStatus();
}

}  // namespace tprun
