#include "launcher/ranks.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "comm/communicator_checks.h"
#include "comm/cuda_module.h"
#include "comm/local_communicator.h"
#include "comm/mpi_communicator.h"
#include "launcher/exit_code.h"
#include "launcher/spawn.h"
#include "launcher/supervise.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

// The devices that a run takes when none are named: this host's GPUs, as far as there are ranks for
// them; else CPU ranks. `ranks`: how many were started; 0: as many as there are GPUs, or one CPU
// rank per NUMA node.
std::vector<std::string> DefaultDevices(int ranks, bool quiet) {
  const absl::StatusOr<Topology> topology = DetectTopology();
  const bool known = topology.ok() && !topology->hosts.empty();
  std::vector<std::string> gpus;
  if (known) gpus = AllDevices(*topology);
  if (!gpus.empty() && gpus[0] == "cpu") gpus.clear();
  if (!gpus.empty() && ranks <= static_cast<int>(gpus.size())) {
    const absl::StatusOr<const CudaModule*> module = LoadCudaModule();
    if (module.ok()) {
      if (ranks > 0) gpus.resize(ranks);
      return gpus;
    }
    if (!quiet) WriteLog(absl::StrCat("no GPU is used: ", module.status().message()));
  }
  if (ranks == 0) ranks = known ? std::max<int>(1, topology->hosts[0].numa_nodes.size()) : 1;
  return std::vector<std::string>(ranks, "cpu");
}

// What the user should know before it runs.
void TellOfPlan(const ModelOptions& options, const PreparedModel& model) {
  if (!model.note.empty()) WriteLog(model.note);
  const double speed = model.plan.decode.expected / model.plan.options.batch;
  if (!model.plan.fits() || !(speed > 0 && speed < options.min_speed)) return;
  WriteLog(
      absl::StrFormat("the plan expects %.1f tokens/s of each sequence, less than --min_speed=%g: "
                      "`tprun plan` with these options "
                      "tells what would help",
                      speed, options.min_speed));
}

absl::StatusOr<PreparedModel> PrepareChecked(const ModelOptions& options,
                                             const RanksCommand& command, int started_ranks) {
  absl::StatusOr<PreparedModel> model = absl::InternalError("not prepared");
  if (const std::string path = PlanFromLauncher(); !path.empty()) {
    ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
    model = PrepareForPlan(options, json);
  } else {
    const bool named = !options.devices.empty() || !options.plan.empty();
    model = PrepareModel(
        options, named ? std::vector<std::string>() : DefaultDevices(started_ranks, command.quiet));
    if (model.ok() && !command.quiet) TellOfPlan(options, *model);
  }
  if (!model.ok()) return model;
  RETURN_IF_ERROR(CheckRunnable(model->spec));
  if (!command.takes_streams) RETURN_IF_ERROR(CheckGeneratesText(model->spec));
  RETURN_IF_ERROR(Annotate(CheckRunnable(model->plan.options),
                           options.plan.empty() ? "--kv_type" : options.plan));
  RETURN_IF_ERROR(CheckFits(model->plan));
  if (command.check) RETURN_IF_ERROR(command.check(*model));
  return model;
}

absl::Status RunRank(const ModelOptions& options, const RanksCommand& command, Communicator& world,
                     absl::StatusOr<PreparedModel> model, bool* agreed = nullptr) {
  ASSIGN_OR_RETURN(const auto session,
                   RankSession::Start(options, world, std::move(model), agreed));
  if (agreed != nullptr) *agreed = false;
  const absl::Status status = command.run(*session);
  const absl::Status& problem = session->engine().recording_problem();
  if (status.ok() && !problem.ok() && session->first_rank() && !command.quiet) {
    WriteLog(absl::StrCat("tprun: decode went on without a recorded step: ",
                          absl::string_view(problem.message())));
  }
  return status;
}

// Tells the error of this rank, unless another rank does, and returns the exit code. `agreed`: all
// ranks have this error.
int ConcludeRank(Communicator& world, const absl::Status& status, bool agreed) {
  const int exit_code = ExitCodeOf(status);
  if (IsAbortedByRank(status)) {
    LeaveExitCodeToOthers();  // that rank tells
    return exit_code;
  }
  const bool first = SetRankExitCode(exit_code);
  if (status.ok() || absl::IsCancelled(status)) return exit_code;  // the others end as well
  if (agreed) {
    if (world.rank() == 0) ReportStatus(status);
    return exit_code;
  }
  if (first) ReportStatus(world.rank() == 0 ? status : NameRank(world.rank(), status));
  world.Abort(std::string(status.message()));  // the others may be waiting for this rank
  return exit_code;
}

// This process is one rank of a job.
int RunAsMpiRank(const ModelOptions& options, const RanksCommand& command) {
  auto session = MpiSession::Start(absl::Seconds(options.timeout_s));
  if (!session.ok()) return ReportStatus(session.status());
  Communicator& world = (*session)->world();
  absl::StatusOr<PreparedModel> model = PreparedModel();
  if (world.rank() == 0) model = PrepareChecked(options, command, world.size());
  bool agreed = false;
  const absl::Status status = RunRank(options, command, world, std::move(model), &agreed);
  return ConcludeRank(world, status, agreed);
}

int RunAsThreads(const ModelOptions& options, const RanksCommand& command, PreparedModel model) {
  const int ranks = model.plan.world_size();
  const absl::Duration timeout = absl::Seconds(options.timeout_s);
  absl::Status of_first_rank;  // has the errors that all ranks share, without a rank's name
  const absl::Status status = RunLocalRanks(ranks, timeout, [&](Communicator& world) {
    if (world.rank() > 0) {
      return RunRank(options, command, world, PreparedModel());
    }
    of_first_rank = RunRank(options, command, world, std::move(model));
    return of_first_rank;
  });
  const bool shared =
      ExitCodeOf(of_first_rank) == ExitCodeOf(status) && ExitCodeOf(status) != kExitRankLost;
  return ReportStatus(shared ? of_first_rank : status);
}

// With which back end: "mpi" if asked for, or possible; else "local".
absl::StatusOr<std::string> ChooseBackend(const ModelOptions& options, int ranks) {
  if (options.backend == "local") return "local";
  const bool possible = !FindMpirun().empty();
  if (options.backend == "mpi" && !possible) {
    return absl::UnimplementedError(
        MpiBuilt() ? "--backend=mpi: mpirun is not in the PATH"
                   : "--backend=mpi: this tprun was built without MPI; use --backend=local");
  }
  return possible && (ranks > 1 || options.backend == "mpi") ? "mpi" : "local";
}

}  // namespace

int RunOnRanks(const ModelOptions& options, const RanksCommand& command) {
  if (MpiBuilt() && StartedByMpi()) {
    return Supervise([&] { return RunAsMpiRank(options, command); });
  }
  absl::StatusOr<PreparedModel> model = PrepareChecked(options, command, /*started_ranks=*/0);
  if (!model.ok()) return ReportStatus(model.status());
  const int ranks = model->plan.world_size();
  const absl::StatusOr<std::string> backend = ChooseBackend(options, ranks);
  if (!backend.ok()) return ReportStatus(backend.status());
  if (*backend == "local") return RunAsThreads(options, command, *std::move(model));
  const absl::StatusOr<int> exit_code = SpawnRanks(
      ranks, command.arguments, PlanToJson(model->plan, model->spec), command.takes_input);
  return exit_code.ok() ? *exit_code : ReportStatus(exit_code.status());
}

}  // namespace tprun
