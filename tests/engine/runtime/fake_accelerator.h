#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// What a rank of a test has beside the world and its threads. `exchange` may be null, as in
// EngineParts.
struct RankParts {
  std::unique_ptr<Device> device;
  std::unique_ptr<Kernels> kernels;
  std::unique_ptr<Communicator> exchange;
};
using MakeRankParts =
    std::function<absl::StatusOr<RankParts>(Communicator& world, ThreadPool& pool)>;

// What computes behind a fake accelerator.
struct FakeCompute {
  std::shared_ptr<Kernels> kernels;   // on memory of the host
  std::shared_ptr<std::mutex> mutex;  // held around each op; null: not needed
  // The kernels have an order of weights of their own; else the fake has one.
  bool arranges = false;
};
using MakeFakeCompute = std::function<FakeCompute(ThreadPool& pool)>;

struct FakeOptions {
  // Work can be captured and its exchange too; else the exchange goes through host memory
  // (comm/host_communicator.h).
  bool record = false;
  std::shared_ptr<std::atomic<int>> launches;  // of graphs, counted; or null
  // Groups have a Communicator::SumBuffer, and sums in it are counted; or null. With `record`.
  std::shared_ptr<std::atomic<int>> sums_in_buffers;
  MakeFakeCompute make_compute;  // else the CPU kernels
  absl::Status capture_error;    // how captures end, if not well
};

// An accelerator without one: its memory has addresses that fault when the host touches them and
// begins as NaN; its work waits in a stream that a thread of its own carries out. The kernels
// refuse addresses of the host, know a batch only by its arrays, and read matrices only in an order
// of their own (Kernels::ArrangeWeights).
MakeRankParts FakeAccelerators(const FakeOptions& options);

// Ranks of even number are on fake accelerators, the others on the CPU; they exchange through host
// memory.
MakeRankParts FakeAcceleratorsAndCpus(const FakeOptions& options);

}  // namespace tprun
