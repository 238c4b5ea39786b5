#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/thread_pool.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"
#include "engine/runtime/engine.h"
#include "launcher/model_options.h"
#include "launcher/op_profile.h"
#include "launcher/prepare.h"

namespace tprun {

// The device's name on its own host: "cuda:0" of "node1/cuda:0".
std::string LocalName(const std::string& device);
// Whether it is, on its host, the CPU.
bool IsCpu(const std::string& device);

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
  Device& device() { return *device_; }
  ThreadPool& pool() { return *pool_; }
  int threads() const { return pool_->num_threads(); }
  double load_seconds() const { return load_seconds_; }
  int64_t weight_bytes() const { return engine_->layout().weight_bytes; }
  // Of this rank, where ModelOptions::profile asks for it; else nullptr.
  OpProfile* profile() { return profile_.get(); }
  // Among the memories of the ranks' devices; the world itself where they are all the host's.
  Communicator& exchange() { return exchange_ != nullptr ? *exchange_ : world_; }
  // Bytes in use: of this process on the CPU; on a GPU what has become less there since the start,
  // by all ranks that share it, 0 if that is unknown.
  int64_t MemoryInUse() const;

 private:
  explicit RankSession(Communicator& world) : world_(world) {}
  // Rank 0's model, or the error that it met, on every rank.
  absl::Status SharePlan(const ModelOptions& options, absl::StatusOr<PreparedModel> model,
                         bool* agreed);
  absl::Status OpenRankDevice(const ModelOptions& options);
  absl::Status Profile(const ModelOptions& options, Activations activations);
  // Among the memories of the ranks' devices, where they are not all the host's.
  absl::Status MakeExchange(const ModelOptions& options);
  absl::Status MakeEngine(const ModelOptions& options);
  absl::Status Load();
  // Returns once `loading` has ended on all ranks.
  absl::Status AwaitLoading(const std::future<absl::Status>& loading, const LoadCounters& counters);

  Communicator& world_;
  PreparedModel model_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<OpProfile> profile_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<Communicator> profiled_world_;
  std::unique_ptr<Communicator> exchange_;  // null: all of them are the host's memory
  std::unique_ptr<Engine> engine_;
  int64_t free_at_start_ = 0;  // of the rank's GPU
  double load_seconds_ = 0;
};

}  // namespace tprun
