#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "comm/deadline.h"
#include "comm/rank_meeting.h"

namespace tprun {

// Memory in which the ranks of a host form the parts of their sums, so that each reads the others'
// where they were written and nothing is copied. All ranks of a group make the same calls.
//
//   RETURN_IF_ERROR(parts->AwaitReaders());
//   ... write my part to parts->own(), `count` floats ...
//   RETURN_IF_ERROR(parts->Meet(count));
//   ... add up parts->all(), in their order: the same bits on every rank ...
//   parts->Leave();
//
// Between two meetings of one sum a rank may write its share of the sum over its own part, for all
// to read.
class SharedParts {
 public:
  // Tells why a wait that began with `deadline` must end, or OK.
  using CheckWait = std::function<absl::Status(const Deadline& deadline)>;

  // The memory that ranks with parts of `floats` floats share, zeroed at first; of it rank r's part
  // is [PartBegin(r), PartBegin(r + 1)).
  static int64_t Bytes(int ranks, int64_t floats) { return PartBegin(ranks, ranks, floats); }
  static int64_t PartBegin(int rank, int ranks, int64_t floats);

  // `memory` is kept as long as this lives.
  SharedParts(std::shared_ptr<void> memory, int rank, int ranks, int64_t floats,
              absl::Duration timeout, CheckWait check);

  float* own() const { return all_[rank_]; }
  absl::Span<float* const> all() const { return all_; }
  int rank() const { return rank_; }
  int64_t floats() const { return floats_; }

  // Called after every meeting with its bytes and how long it took. For the rank's own thread.
  void Watch(std::function<void(int64_t bytes, double seconds)> watch) {
    watch_ = std::move(watch);
  }

  // Waits until all ranks have come, with the same count.
  absl::Status Meet(int64_t count);
  // This rank has read what it wanted of the parts.
  void Leave() { meeting_.Leave(); }
  // Waits until all have: before own() is written again.
  absl::Status AwaitReaders();

 private:
  absl::Status Check(std::optional<Deadline>& deadline) const;

  const std::shared_ptr<void> memory_;
  RankMeeting meeting_;
  const int rank_;
  const int64_t floats_;
  const absl::Duration timeout_;
  const CheckWait check_;
  std::function<void(int64_t, double)> watch_;  // or none
  std::vector<float*> all_;
};

}  // namespace tprun
