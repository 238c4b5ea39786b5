#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tprun {

// The mpirun of the MPI that this program was built with; "" when there is none on this machine.
// TPRUN_MPIRUN overrides it.
std::string FindMpirun();

// Runs `mpirun -n ranks PROGRAM` with what a user should not have to know: works as root, in
// containers, with more ranks than cores. PROGRAM is this one. Ctrl-C and termination go
// on to mpirun, which ends the ranks, but for Ctrl-C while the first rank takes it as an event (see
// Interrupts). Returns the job's exit code, that of the first rank to fail.
// `arguments` and `plan_json` reach the ranks as files (see below): a command line has no room for
// a long prompt, and mpirun would take some for its own.
// `takes_input`: the first rank reads this process's standard input (see InputRelay); else it gets
// nothing there.
absl::StatusOr<int> SpawnRanks(int ranks, const std::vector<std::string>& arguments,
                               const std::string& plan_json, bool takes_input);

// True in a rank started by SpawnRanks.
bool StartedByLauncher();
// In such a rank: the arguments, and the path of the plan to carry out (else "").
absl::StatusOr<std::vector<std::string>> ArgumentsFromLauncher();
std::string PlanFromLauncher();

// In a rank or its supervisor: leaves the exit code for SpawnRanks. The first one counts; false
// when this is a later one, so that another rank tells what happened.
bool LeaveExitCode(int exit_code);

}  // namespace tprun
