#include "launcher/supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "launcher/exit_code.h"
#include "launcher/spawn.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

constexpr int kNotSet = -1;
constexpr int kLeftToOthers = -2;

// One int shared by supervisor and child; the child's exit code. A process has one rank at most.
volatile int* shared_exit_code = nullptr;

int Wait(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// What the child's end means for the job.
int ExitCodeFrom(int status) {
  if (*shared_exit_code != kNotSet) return *shared_exit_code;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const int signal = WTERMSIG(status);
  if (signal == SIGINT || signal == SIGTERM) return 128 + signal;
  WriteError(absl::StrCat("tprun: ", RankFromEnvironment(), " was lost: killed by signal ", signal,
                          " (", strsignal(signal), ")",
                          signal == SIGKILL ? "; was the machine out of memory?" : ""));
  return kExitRankLost;
}

}  // namespace

int Supervise(const std::function<int()>& rank_main) {
  void* memory =
      mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return rank_main();
  shared_exit_code = static_cast<int*>(memory);
  *shared_exit_code = kNotSet;
  const pid_t supervisor = getpid();
  const pid_t child = fork();
  if (child < 0) return rank_main();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor) _exit(kExitRankLost);  // it died before the line above
    const int exit_code = rank_main();
    std::fflush(nullptr);
    _exit(exit_code);
  }
  const int ended = Wait(child);
  if (*shared_exit_code == kLeftToOthers) return kExitRankLost;
  const int exit_code = ExitCodeFrom(ended);
  if (exit_code != kExitOk) LeaveExitCode(exit_code);
  return exit_code;
}

bool SetRankExitCode(int exit_code) {
  if (shared_exit_code != nullptr) *shared_exit_code = exit_code;
  // Now, since the end of one rank may end the supervisor of another before it comes to this.
  return exit_code == kExitOk || LeaveExitCode(exit_code);
}

void LeaveExitCodeToOthers() {
  if (shared_exit_code != nullptr) *shared_exit_code = kLeftToOthers;
}

std::string RankFromEnvironment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return absl::StrCat("rank ", rank);
  }
  return "a rank";
}

bool IsFirstRank() {
  const std::string rank = RankFromEnvironment();
  return rank == "rank 0" || rank == "a rank";
}

}  // namespace tprun
