#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"
#include "engine/runtime/engine.h"
#include "launcher/model_options.h"
#include "launcher/prepare.h"

namespace tprun {

// How far a rank has come with its weights.
struct LoadCounters {
  std::atomic<int64_t> done_bytes{0};
  std::atomic<int64_t> total_bytes{0};
};

// One rank with its model loaded, ready to generate.
class RankSession {
 public:
  // Every rank calls it. Rank 0 brings the model with its plan (or the error that it met), which
  // the others get from it; then each loads its part. All ranks get the same status as long as they
  // can talk to each other; `agreed` (may be null) tells whether they did.
  static absl::StatusOr<std::unique_ptr<RankSession>> Start(
      const ModelOptions& options, Communicator& world,
      absl::StatusOr<PreparedModel> model_of_rank_0, bool* agreed);

  Communicator& world() { return world_; }
  bool first_rank() const { return world_.rank() == 0; }
  const PreparedModel& model() const { return model_; }
  Engine& engine() { return *engine_; }
  Kernels& kernels() { return *kernels_; }
  int threads() const { return pool_->num_threads(); }
  double load_seconds() const { return load_seconds_; }

 private:
  explicit RankSession(Communicator& world) : world_(world) {}
  // Rank 0's model, or the error that it met, on every rank.
  absl::Status SharePlan(const ModelOptions& options, absl::StatusOr<PreparedModel> model,
                         bool* agreed);
  absl::Status OpenRankDevice();
  absl::Status MakeEngine(const ModelOptions& options);
  absl::Status Load();
  // Returns once `loading` has ended on all ranks.
  absl::Status AwaitLoading(const std::future<absl::Status>& loading, const LoadCounters& counters);

  Communicator& world_;
  PreparedModel model_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Engine> engine_;
  double load_seconds_ = 0;
};

}  // namespace tprun
