#pragma once

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

// Where a rank stands among the others.
struct RankPlace {
  Communicator* world = nullptr;
  int local_size = 1;  // ranks of this host, which share its cores
};

// One rank with its model loaded, ready to generate.
class RankSession {
 public:
  // Every rank calls it. Rank 0 brings the model with its plan (or the error that it met), which
  // the others get from it; then each loads its part. All ranks get the same status.
  static absl::StatusOr<std::unique_ptr<RankSession>> Start(
      const ModelOptions& options, const RankPlace& place,
      absl::StatusOr<PreparedModel> model_of_rank_0);

  Communicator& world() { return *place_.world; }
  const RankPlace& place() const { return place_; }
  bool first_rank() const { return place_.world->rank() == 0; }
  const PreparedModel& model() const { return model_; }
  Engine& engine() { return *engine_; }
  Kernels& kernels() { return *kernels_; }
  int threads() const { return pool_->num_threads(); }
  double load_seconds() const { return load_seconds_; }

 private:
  RankSession() = default;
  absl::Status SharePlan(const ModelOptions& options, absl::StatusOr<PreparedModel> model);
  absl::Status OpenRankDevice();
  // Together with the other ranks, which get the same status.
  absl::Status MakeEngine(const ModelOptions& options);
  absl::Status Load();

  RankPlace place_;
  PreparedModel model_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Engine> engine_;
  double load_seconds_ = 0;
};

}  // namespace tprun
