#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// The mpirun of the MPI that this program was built with; "" when there is none on this machine.
// TPRUN_MPIRUN overrides it.
std::string FindMpirun();

// Runs `mpirun -n ranks PROGRAM arguments...` with what a user should not have to know: works as
// root, in containers, with more ranks than cores. PROGRAM is this one. Ctrl-C and termination go
// on to mpirun, which ends the ranks. Returns the job's exit code, that of the first rank to fail.
// `plan_json` reaches the ranks as a file (see PlanFromLauncher).
absl::StatusOr<int> SpawnRanks(int ranks, const std::vector<std::string>& arguments,
                               const std::string& plan_json);

// In a rank started by SpawnRanks: the path of the plan to carry out, else "".
std::string PlanFromLauncher();

// In a rank's supervisor: leaves the exit code for SpawnRanks; the first one counts.
void LeaveExitCode(int exit_code);

}  // namespace tprun
