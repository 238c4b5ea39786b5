#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/optional.h"

namespace tprun {

// Shares of two kinds of blocks over the members of a group, both as fast as memory allows: the
// units of the first (attention: few and large) and of the second (MLP: many and small) compete for
// each member's capacity.
//
//   minimise  max_i first_seconds[i](a_i) + max_i second_seconds[i](m_i)
//   where     sum_i a_i = first_units, sum_i m_i = second_units,
//             first_bytes(a_i) + second_bytes(m_i) <= capacity[i]
//
// Seconds and bytes must not fall with the share. With by_offset what a_i costs depends on the
// units before it too (replicated KV heads): cells are offset * (first_units + 1) + share.
struct ShareProblem {
  int64_t first_units = 0;
  int64_t second_units = 0;
  bool by_offset = false;
  std::vector<std::vector<double>> first_seconds;   // [member][cell]
  std::vector<int64_t> first_bytes;                 // [cell]
  std::vector<std::vector<double>> second_seconds;  // [member][share]
  std::vector<int64_t> second_bytes;                // [share]
  std::vector<int64_t> capacity;                    // [member]
};

struct ShareSolution {
  double seconds = 0;
  std::vector<int64_t> first;
  std::vector<int64_t> second;
};

// The optimum, or nothing where no shares fit or all take `limit` or longer. For each bound on the
// first kind's time in turn, the least time of the second by bisection over the times that there
// are; whether a pair of bounds can be kept is a dynamic programme over members and first units.
// Adds to *work, where given, about how many steps it took.
absl::optional<ShareSolution> SolveShares(const ShareProblem& problem,
                                          double limit = std::numeric_limits<double>::infinity(),
                                          int64_t* work = nullptr);

}  // namespace tprun
