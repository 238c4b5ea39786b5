#include "partition/fastest_shares.h"

#include <algorithm>
#include <numeric>

namespace tprun {
namespace {

// The largest share of member `i` that takes at most `limit`, or 0.
int64_t LargestWithin(int64_t units, int i, double limit,
                      const std::function<double(int, int64_t)>& seconds) {
  int64_t low = 0;
  int64_t high = units;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (seconds(i, middle) <= limit) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

std::vector<int64_t> SharesWithin(int64_t units, int count, double limit,
                                  const std::function<double(int, int64_t)>& seconds) {
  std::vector<int64_t> shares(count);
  for (int i = 0; i < count; ++i) shares[i] = LargestWithin(units, i, limit, seconds);
  return shares;
}

int64_t Sum(const std::vector<int64_t>& shares) {
  return std::accumulate(shares.begin(), shares.end(), int64_t{0});
}

}  // namespace

std::vector<int64_t> FastestShares(int64_t units, int count,
                                   const std::function<double(int, int64_t)>& seconds) {
  double high = seconds(0, units);  // enough: the first can take all
  for (int i = 1; i < count; ++i) high = std::min(high, seconds(i, units));
  double low = 0;
  constexpr int kHalvings = 64;  // beyond the precision of a double
  for (int step = 0; step < kHalvings; ++step) {
    const double middle = (low + high) / 2;
    const int64_t sum = Sum(SharesWithin(units, count, middle, seconds));
    if (sum >= units) {
      high = middle;
      if (sum == units) break;  // any less time loses a unit
    } else {
      low = middle;
    }
  }
  std::vector<int64_t> shares = SharesWithin(units, count, high, seconds);
  for (int64_t surplus = Sum(shares) - units; surplus > 0; --surplus) {
    int slowest = -1;
    for (int i = 0; i < count; ++i) {
      if (shares[i] == 0) continue;
      if (slowest < 0 || seconds(i, shares[i]) >= seconds(slowest, shares[slowest])) slowest = i;
    }
    --shares[slowest];
  }
  return shares;
}

}  // namespace tprun
