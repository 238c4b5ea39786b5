#pragma once

#include <functional>
#include <string>

namespace tprun {

// Runs `rank_main` in a child process and returns its exit code. When the child dies by a signal
// (the kernel's out-of-memory killer, a crash), names the rank and the signal on standard error and
// returns kExitRankLost: so a lost rank is always told, whoever started it. The child dies with its
// supervisor.
int Supervise(const std::function<int()>& rank_main);

// In the child: the exit code to report, even if MPI ends the process with another one afterwards.
// False when another rank has already failed and tells why.
bool SetRankExitCode(int exit_code);

// In the child: another rank failed, and tells it and sets the exit code.
void LeaveExitCodeToOthers();

// "rank 2" from the environment of mpirun or srun; "a rank" where it does not say.
std::string RankFromEnvironment();

// Rank 0 by the environment, or no rank of a job.
bool IsFirstRank();

}  // namespace tprun
