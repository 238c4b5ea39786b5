#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/temporary_folder.h"

namespace tprun {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal when one ended it
  bool timed_out = false;
  double seconds = 0;
  std::string out;
  std::string err;
};

struct ProcessOptions {
  std::vector<std::pair<std::string, std::string>> environment;  // beside this process's own
  std::string input;                                             // standard input
  int timeout_s = 60;                                            // then it is killed
};

// A running program with all processes that it starts, which are known by a mark in their
// environment.
//
//   TprunProcess job({"run", model, "--devices=cpu,cpu"});
//   job.Signal(SIGINT);
//   ProcessResult result = job.Wait();
class TprunProcess {
 public:
  // `command`: the arguments of tprun; of another program if `program` is given.
  explicit TprunProcess(const std::vector<std::string>& command, const ProcessOptions& options = {},
                        std::string program = "");
  ~TprunProcess();  // kills what is left
  TprunProcess(const TprunProcess&) = delete;
  TprunProcess& operator=(const TprunProcess&) = delete;

  void Signal(int signal) const;
  ProcessResult Wait();

  std::string Out() const;  // written so far
  std::string Err() const;
  // Waits until so many bytes of standard output have come; false when that takes too long.
  bool WaitForOutput(size_t bytes) const;
  // Live processes of the job: all, or those of one rank (the supervisor first, then the rank).
  std::vector<pid_t> Processes(int rank = -1) const;
  // The processes left when up to two seconds have passed.
  std::vector<pid_t> ProcessesLeft() const;

 private:
  std::string FilePath(const std::string& name) const;

  ProcessOptions options_;
  TemporaryFolder folder_;  // its path is the mark
  pid_t pid_ = -1;
  double started_ = 0;
};

// The built program.
std::string TprunPath();

ProcessResult RunTprun(const std::vector<std::string>& arguments,
                       const ProcessOptions& options = {});

// `mpirun -n ranks tprun arguments...` as a user would type it; HaveMpirun tells whether one is
// there.
bool HaveMpirun();
ProcessResult RunUnderMpirun(int ranks, const std::vector<std::string>& arguments);

#define TPRUN_NEEDS_MPI() \
  if (!::tprun::HaveMpirun()) GTEST_SKIP() << "no mpirun of the MPI that tprun was built with"

// The lines of `text` that start with "tprun: ".
std::vector<std::string> TprunLines(const std::string& text);

}  // namespace tprun
