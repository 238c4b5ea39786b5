#include "comm/all_reduce_benchmark.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
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

absl::Status CheckArguments(int64_t bytes, int rounds) {
  if (bytes >= 0 && bytes <= kMostBytes && rounds >= 1 && rounds <= kMostRounds) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("MeasureAllReduce: wanted 0 to ", kMostBytes,
                                                 " bytes and 1 to ", kMostRounds, " rounds, found ",
                                                 bytes, " and ", rounds));
}

// The times of `rounds` calls of `round` after some that warm up.
absl::StatusOr<AllReduceTimings> TimeRounds(int rounds,
                                            const std::function<absl::Status()>& round) {
  std::vector<double> seconds;
  seconds.reserve(rounds);
  const int warm_up = std::min(rounds / 10 + 1, 20);
  for (int i = 0; i < warm_up + rounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(round());
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    if (i >= warm_up) seconds.push_back(took.count());
  }
  std::sort(seconds.begin(), seconds.end());
  return AllReduceTimings{Quantile(seconds, 0.5), Quantile(seconds, 0.99)};
}

}  // namespace

absl::StatusOr<AllReduceTimings> MeasureAllReduce(Communicator& comm, int64_t bytes, int rounds) {
  RETURN_IF_ERROR(CheckArguments(bytes, rounds));
  std::vector<float> values(bytes / sizeof(float), 0.0f);
  const auto count = static_cast<int64_t>(values.size());
  RETURN_IF_ERROR(comm.Barrier());
  ASSIGN_OR_RETURN(AllReduceTimings timings, TimeRounds(rounds, [&] {
                     return comm.AllReduceSum(values.data(), values.data(), count, DType::kF32);
                   }));
  RETURN_IF_ERROR(comm.Broadcast(&timings, sizeof(timings), /*root=*/0));
  return timings;
}

absl::StatusOr<AllReduceTimings> MeasureDeviceAllReduce(Communicator& comm, Device& device,
                                                        int64_t bytes, int rounds) {
  RETURN_IF_ERROR(CheckArguments(bytes, rounds));
  ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> buffer, device.Allocate(bytes));
  const int64_t count = bytes / static_cast<int64_t>(sizeof(float));
  const auto all_reduce = [&] {
    return comm.AllReduceSum(buffer->data(), buffer->data(), count, DType::kF32);
  };
  RETURN_IF_ERROR(comm.Barrier());
  ASSIGN_OR_RETURN(AllReduceTimings timings, TimeRounds(rounds, [&]() -> absl::Status {
                     RETURN_IF_ERROR(all_reduce());
                     return device.Synchronize();
                   }));
  if (!comm.capturable() || !device.can_capture()) return timings;
  constexpr int kPerGraph = 100;
  const auto many = [&]() -> absl::Status {
    for (int i = 0; i < kPerGraph; ++i) RETURN_IF_ERROR(all_reduce());
    return absl::OkStatus();
  };
  ASSIGN_OR_RETURN(const std::unique_ptr<DeviceGraph> graph, device.Capture(many));
  RETURN_IF_ERROR(comm.Barrier());
  ASSIGN_OR_RETURN(const AllReduceTimings of_graph, TimeRounds(5, [&]() -> absl::Status {
                     RETURN_IF_ERROR(graph->Launch());
                     return device.Synchronize();
                   }));
  timings.in_graph_s = of_graph.p50_s / kPerGraph;
  return timings;
}

}  // namespace tprun
