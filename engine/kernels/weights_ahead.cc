#include "engine/kernels/weights_ahead.h"

#include <algorithm>

#include "engine/kernels/arrange.h"

namespace tprun::cpu {
namespace {

// More are not remembered: mixtures of many experts, which are chosen anew for each token.
constexpr size_t kMostProducts = 4096;

int64_t TilesOf(const Projection& p) { return (p.weight.rows + kTileRows - 1) / kTileRows; }

const char* BytesOf(const Projection& p) { return static_cast<const char*>(p.weight.data); }

// Where tile `tile` of all is.
const char* AddressOf(absl::Span<const Projection> projections, int64_t tile) {
  for (const Projection& p : projections) {
    if (tile < TilesOf(p)) {
      return BytesOf(p) + tile * kTileRows * p.weight.format->Bytes(p.weight.columns);
    }
    tile -= TilesOf(p);
  }
  return nullptr;
}

}  // namespace

const std::vector<const char*>& WeightsAhead::Begin(absl::Span<const Projection> projections) {
  if (pool_->num_threads() == 1 || projections.empty()) return nothing_;
  int64_t tiles = 0;
  for (const Projection& p : projections) tiles += TilesOf(p);
  const auto workers = std::min<int64_t>(pool_->num_threads(), tiles);
  std::fill(starts_.begin(), starts_.end(), nullptr);
  for (int64_t w = 1; w < workers; ++w) {
    starts_[w] = AddressOf(projections, ThreadPool::FirstGrain(w, tiles, workers));
  }
  if (after_.size() < kMostProducts || after_.count(last_) > 0) {
    Next& after = after_[last_];
    after.steady = after.starts == starts_;
    after.starts = starts_;
  }
  last_ = BytesOf(projections[0]);
  const auto next = after_.find(last_);
  const bool known = next != after_.end() && next->second.steady;
  const std::vector<const char*>& from = known ? next->second.starts : nothing_;
  pool_->FetchAhead(from);
  return from;
}

}  // namespace tprun::cpu
