#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/temporary_folder.h"
#include "base/units.h"
#include "comm/all_reduce_benchmark.h"
#include "comm/local_communicator.h"
#include "comm/mpi_communicator.h"
#include "launcher/measure.h"
#include "launcher/spawn.h"

namespace tprun {
namespace {

constexpr int kRanks = 2;
constexpr absl::Duration kTimeout = absl::Seconds(30);

absl::StatusOr<RankExchange> MeasureOverMpi() {
  ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make("tprun-measure"));
  const std::string file = folder.File("result.json");
  ASSIGN_OR_RETURN(const int exit_code, SpawnRanks(kRanks, {"topo", "--measured_rank=" + file}, "",
                                                   /*takes_input=*/false));
  if (exit_code != 0) {
    return absl::InternalError(absl::StrCat("two MPI ranks ended with exit code ", exit_code));
  }
  ASSIGN_OR_RETURN(const Json json, ReadJsonFile(file));
  RankExchange result;
  ASSIGN_OR_RETURN(result.latency_s, GetDouble(json, "latency_s"));
  ASSIGN_OR_RETURN(result.bandwidth_bytes_per_s, GetDouble(json, "bandwidth_bytes_per_s"));
  return result;
}

absl::StatusOr<RankExchange> MeasureOverThreads() {
  RankExchange result;
  RETURN_IF_ERROR(RunLocalRanks(kRanks, kTimeout, [&](Communicator& world) -> absl::Status {
    ASSIGN_OR_RETURN(const RankExchange measured, MeasureExchange(world));
    if (world.rank() == 0) result = measured;
    return absl::OkStatus();
  }));
  return result;
}

}  // namespace

absl::StatusOr<RankExchange> MeasureExchange(Communicator& world) {
  constexpr int64_t kLarge = 4 * kMiB;
  RankExchange result;
  ASSIGN_OR_RETURN(const AllReduceTimings small, MeasureAllReduce(world, 4 * kKiB, 1000));
  ASSIGN_OR_RETURN(const AllReduceTimings large, MeasureAllReduce(world, kLarge, 50));
  result.latency_s = small.p50_s;
  if (large.p50_s > 0) result.bandwidth_bytes_per_s = static_cast<double>(kLarge) / large.p50_s;
  return result;
}

absl::StatusOr<RankExchange> MeasureRanks() {
  return FindMpirun().empty() ? MeasureOverThreads() : MeasureOverMpi();
}

absl::Status RunMeasuredRank(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<MpiSession> session, MpiSession::Start(kTimeout));
  ASSIGN_OR_RETURN(const RankExchange result, MeasureExchange(session->world()));
  if (session->world().rank() != 0) return absl::OkStatus();
  const Json json = {{"latency_s", result.latency_s},
                     {"bandwidth_bytes_per_s", result.bandwidth_bytes_per_s}};
  return WriteFile(path, json.dump());
}

}  // namespace tprun
