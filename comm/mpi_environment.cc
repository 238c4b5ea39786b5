#include "comm/mpi_environment.h"

#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "comm/mpi_communicator.h"

namespace tprun {
namespace {

bool IsSet(const GetEnvironment& environment, const char* name) {
  const char* value = environment(name);
  return value != nullptr && *value != '\0';
}

// srun sets these for each task of a step. An interactive shell in an allocation has SLURM_JOB_ID
// and may have SLURM_PROCID, but it is no step of several tasks, or (salloc with an interactive
// step) has a terminal of its own: SLURM_STEP_ID is then one of the reserved ids at the top.
bool IsSlurmTask(const GetEnvironment& environment) {
  for (const char* name : {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}) {
    if (!IsSet(environment, name)) return false;
  }
  constexpr int64_t kFirstReservedStep = 0xfffffff0;  // slurm.h: interactive, batch, extern, ...
  int64_t step;
  return absl::SimpleAtoi(environment("SLURM_STEP_ID"), &step) && step < kFirstReservedStep;
}

}  // namespace

bool StartedByMpi(const GetEnvironment& environment) {
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS"}) {
    if (IsSet(environment, name)) return true;
  }
  return IsSlurmTask(environment);
}

bool StartedByMpi() {
  return StartedByMpi([](const char* name) { return std::getenv(name); });
}

std::vector<std::pair<std::string, std::string>> SingleHostTransports(
    absl::string_view library, const GetEnvironment& environment) {
  if (!absl::ConsumePrefix(&library, "Open MPI v")) return {};
  for (const char* name : {"OMPI_MCA_pml", "OMPI_MCA_btl", "OMPI_MCA_mtl"}) {
    if (IsSet(environment, name)) return {};
  }
  const char* local = environment("OMPI_COMM_WORLD_LOCAL_SIZE");
  const char* world = environment("OMPI_COMM_WORLD_SIZE");
  if (local == nullptr || world == nullptr || absl::string_view(local) != world) return {};
  const bool before_5 = !library.empty() && library[0] < '5';
  return {{"OMPI_MCA_pml", "ob1"}, {"OMPI_MCA_btl", before_5 ? "self,vader" : "self,sm"}};
}

}  // namespace tprun
