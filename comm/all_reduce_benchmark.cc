#include "comm/all_reduce_benchmark.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"

namespace tprun {
namespace {

constexpr int kMostRounds = 1000000;
constexpr int64_t kMostBytes = kGiB;

double Quantile(const std::vector<double>& sorted, double quantile) {
  const size_t index = static_cast<size_t>(quantile * static_cast<double>(sorted.size() - 1) + 0.5);
  return sorted[index];
}

}  // namespace

absl::StatusOr<AllReduceTimings> MeasureAllReduce(Communicator& comm, int64_t bytes, int rounds) {
  if (bytes < 0 || bytes > kMostBytes || rounds < 1 || rounds > kMostRounds) {
    return absl::InvalidArgumentError(absl::StrCat("MeasureAllReduce: wanted 0 to ", kMostBytes,
                                                   " bytes and 1 to ", kMostRounds,
                                                   " rounds, found ", bytes, " and ", rounds));
  }
  std::vector<float> values(bytes / sizeof(float), 0.0f);
  std::vector<double> seconds;
  seconds.reserve(rounds);
  const int warm_up = std::min(rounds / 10 + 1, 20);
  RETURN_IF_ERROR(comm.Barrier());
  for (int i = 0; i < warm_up + rounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(comm.AllReduceSum(values.data(), values.data(),
                                      static_cast<int64_t>(values.size()), DType::kF32));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (i >= warm_up) seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  AllReduceTimings timings = {Quantile(seconds, 0.5), Quantile(seconds, 0.99)};
  RETURN_IF_ERROR(comm.Broadcast(&timings, sizeof(timings), /*root=*/0));
  return timings;
}

}  // namespace tprun
