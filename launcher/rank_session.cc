#include "launcher/rank_session.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "launcher/progress.h"
#include "topology/topology.h"

namespace tprun {
namespace {

// "cuda:0" of "node1/cuda:0": the device on the rank's own host.
std::string LocalName(const std::string& device) {
  return device.substr(device.find('/') + 1);  // npos + 1 == 0
}

// The host's hardware threads go evenly to its ranks. Where mpirun has bound each rank to cores of
// its own, those are the rank's already.
int ThreadsPerRank(const ModelOptions& options, int local_size) {
  if (options.threads > 0) return options.threads;
  cpu_set_t cpus;
  const int bound = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 0;
  if (local_size > 1 && bound > 0 && bound < sysconf(_SC_NPROCESSORS_ONLN)) return bound;
  const absl::StatusOr<Topology> topology = DetectTopology();
  const int usable = topology.ok() ? topology->devices[0].threads : bound;
  return std::max(1, usable / std::max(1, local_size));
}

absl::Status CheckWorld(const Plan& plan, int world_size) {
  if (plan.world_size() == world_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the plan is for ", plan.world_size(), plan.world_size() == 1 ? " rank" : " ranks", ", but ",
      world_size, world_size == 1 ? " was" : " were", " started: use mpirun -n ", plan.world_size(),
      " or another plan"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<RankSession>> RankSession::Start(
    const ModelOptions& options, const RankPlace& place,
    absl::StatusOr<PreparedModel> model_of_rank_0) {
  auto session = std::unique_ptr<RankSession>(new RankSession());
  session->place_ = place;
  RETURN_IF_ERROR(session->SharePlan(options, std::move(model_of_rank_0)));
  RETURN_IF_ERROR(AgreeOnStatus(*place.world, session->OpenRankDevice()));
  RETURN_IF_ERROR(session->MakeEngine(options));
  RETURN_IF_ERROR(AgreeOnStatus(*place.world, session->Load()));
  return session;
}

absl::Status RankSession::SharePlan(const ModelOptions& options,
                                    absl::StatusOr<PreparedModel> model) {
  Communicator& world = *place_.world;
  absl::Status status;
  std::string json;
  if (first_rank()) {
    status = model.status();
    if (status.ok()) status = CheckFits(model->plan);
    if (status.ok()) status = CheckWorld(model->plan, world.size());
    if (status.ok()) {
      model_ = *std::move(model);
      json = PlanToJson(model_.plan, model_.spec);
    }
  }
  // Sent apart from AgreeOnStatus, which would name a rank for an error that is nobody's in
  // particular.
  const std::string code = absl::StrCat(static_cast<int>(status.code()));
  ASSIGN_OR_RETURN(const std::string agreed, BroadcastString(world, code, 0));
  ASSIGN_OR_RETURN(const std::string message,
                   BroadcastString(world, std::string(status.message()), 0));
  if (agreed != "0") {
    return absl::Status(static_cast<absl::StatusCode>(std::stoi(agreed)), message);
  }
  ASSIGN_OR_RETURN(json, BroadcastString(world, std::move(json), 0));
  status = absl::OkStatus();
  if (!first_rank()) {
    absl::StatusOr<PreparedModel> opened = PrepareForPlan(options, json);
    status = opened.status();
    if (status.ok()) model_ = *std::move(opened);
  }
  return AgreeOnStatus(world, status);
}

absl::Status RankSession::OpenRankDevice() {
  const RankPlan& rank = model_.plan.ranks[place_.world->rank()];
  ASSIGN_OR_RETURN(device_, OpenDevice(LocalName(rank.device)));
  return absl::OkStatus();
}

absl::Status RankSession::MakeEngine(const ModelOptions& options) {
  pool_ = std::make_unique<ThreadPool>(ThreadsPerRank(options, place_.local_size));
  kernels_ = options.kernels == "reference" ? MakeReferenceKernels() : MakeCpuKernels(pool_.get());
  const EngineParts parts = {place_.world, device_.get(), kernels_.get(), pool_.get()};
  ASSIGN_OR_RETURN(engine_,
                   Engine::Create(model_.spec, model_.plan.placements, model_.plan.options, parts));
  return absl::OkStatus();
}

absl::Status RankSession::Load() {
  const absl::Time start = absl::Now();
  ProgressBar bar("loading");
  LoadProgress progress;
  if (first_rank()) {
    progress = [&bar](int64_t done, int64_t total) { bar.Update(done, total); };
  }
  const absl::Status status = engine_->LoadWeights(*model_.checkpoint, progress);
  bar.Finish();
  load_seconds_ = absl::ToDoubleSeconds(absl::Now() - start);
  return status;
}

}  // namespace tprun
