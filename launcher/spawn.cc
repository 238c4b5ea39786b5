#include "launcher/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/temporary_folder.h"
#include "comm/mpi_communicator.h"
#include "launcher/arguments.h"
#include "launcher/exit_code.h"
#include "launcher/input_relay.h"
#include "launcher/output_relay.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

constexpr char kArgumentsVariable[] = "TPRUN_ARGUMENTS_FILE";
constexpr char kPlanVariable[] = "TPRUN_PLAN_FILE";
constexpr char kExitCodeVariable[] = "TPRUN_EXIT_CODE_FILE";

// The child whose group gets the signals that this process gets; set while SpawnRanks waits.
volatile sig_atomic_t job_group = 0;
volatile sig_atomic_t interrupted_by = 0;
volatile sig_atomic_t signals_passed = 0;

// What passes on standard input meanwhile, if anything does.
InputRelay* volatile job_input = nullptr;

void ForwardSignal(int signal) {
  if (signal == SIGINT && job_input != nullptr && job_input->TakeInterrupt()) return;
  interrupted_by = signal;
  if (job_group > 0) kill(-job_group, signal == SIGHUP ? SIGTERM : signal);
  signals_passed = signals_passed + 1;
  if (signals_passed < 3) return;
  // Whoever insists gets out, though nobody reads what the job still has to say.
  struct sigaction usual = {};
  usual.sa_handler = SIG_DFL;
  sigaction(signal, &usual, nullptr);
  raise(signal);
}

// Signals go to the job while this lives.
class SignalForwarding {
 public:
  SignalForwarding() {
    struct sigaction action = {};
    action.sa_handler = ForwardSignal;
    action.sa_flags = SA_RESTART;  // a write that waits for its reader has not failed
    signals_passed = 0;
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~SignalForwarding() {
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &before_[i], nullptr);
    job_group = 0;
  }

 private:
  static constexpr int kSignals[3] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction before_[3];
};

std::string FindInPath(absl::string_view program) {
  const char* path = std::getenv("PATH");
  if (path == nullptr) return "";
  for (absl::string_view directory : absl::StrSplit(path, ':', absl::SkipEmpty())) {
    const std::string candidate = JoinPath(directory, program);
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

std::vector<std::string> MpirunArguments(const std::string& mpirun, int ranks) {
  std::vector<std::string> arguments = {mpirun, "-n", absl::StrCat(ranks)};
  if (absl::StrContains(MpiVersion(), "Open MPI")) {
    // The ranks share the host's cores: mpirun's own binding would give each rank a single one. Its
    // account of a failed rank adds nothing to ours.
    for (const char* flag : {"--oversubscribe", "--bind-to", "none", "--quiet"}) {
      arguments.push_back(flag);
    }
    if (geteuid() == 0) arguments.push_back("--allow-run-as-root");
  }
  return arguments;
}

// A pipe for each stream.
struct JobPipes {
  int input[2] = {-1, -1};
  int output[2] = {-1, -1};

  bool Make() { return pipe2(output, O_CLOEXEC) == 0 && pipe2(input, O_CLOEXEC) == 0; }
};

[[noreturn]] void ExecJob(const std::vector<std::string>& arguments, const JobPipes& pipes) {
  setpgid(0, 0);
  dup2(pipes.output[1], STDOUT_FILENO);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  dup2(pipes.input[0], STDIN_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  WriteLog(absl::StrCat("tprun: cannot run ", arguments[0], ": ", std::strerror(errno)));
  _exit(kExitFailed);
}

// Waits for the job and passes on its output, and Ctrl-C by `input` once the job takes it. Gives it
// two seconds to end once it has to: after an interruption, or when nobody reads its output any
// more.
int WaitForJob(pid_t job, OutputRelay& output, InputRelay& input) {
  int status = 0;
  absl::Time kill_at = absl::InfiniteFuture();
  while (true) {
    const pid_t ended = waitpid(job, &status, WNOHANG);
    if (ended == job || (ended < 0 && errno != EINTR)) break;
    output.Pass(output.open() ? 100 : 10);
    job_input = output.takes_interrupts() ? &input : nullptr;
    const bool has_to_end = interrupted_by != 0 || output.stopped();
    if (has_to_end && kill_at == absl::InfiniteFuture()) {
      kill_at = absl::Now() + absl::Seconds(2);
      if (output.stopped()) kill(-job, SIGTERM);
    }
    if (absl::Now() > kill_at) kill(-job, SIGKILL);
  }
  job_input = nullptr;
  while (output.Pass(0)) {
  }
  return status;
}

int JobExitCode(int status, const std::string& exit_code_file) {
  const absl::StatusOr<std::string> left = ReadFile(exit_code_file, 16);
  if (left.ok() && !left->empty()) return std::atoi(left->c_str());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return kExitOk;
  if (WIFEXITED(status) && WEXITSTATUS(status) <= 128) {
    WriteLog(absl::StrCat("tprun: mpirun ended with exit code ", WEXITSTATUS(status),
                          ", and no rank told why"));
    return WEXITSTATUS(status);
  }
  if (WIFEXITED(status)) {
    // A supervisor was killed, so none is left that would tell which rank it was.
    const int signal = WEXITSTATUS(status) - 128;
    WriteLog(absl::StrCat("tprun: a rank was lost: killed by signal ", signal, " (",
                          strsignal(signal), ")"));
    return kExitRankLost;
  }
  WriteLog(absl::StrCat("tprun: mpirun was killed by signal ", WTERMSIG(status), " (",
                        strsignal(WTERMSIG(status)), ")"));
  return kExitRankLost;
}

void TellRanks(const TemporaryFolder& directory) {
  setenv(kArgumentsVariable, directory.File("arguments").c_str(), 1);
  setenv(kPlanVariable, directory.File("plan.json").c_str(), 1);
  setenv(kExitCodeVariable, directory.File("exit_code").c_str(), 1);
  setenv("TPRUN_STDIN_TERMINAL", StdinIsTerminal() ? "1" : "0", 1);
  setenv("TPRUN_STDOUT_TERMINAL", StdoutIsTerminal() ? "1" : "0", 1);
  setenv("TPRUN_STDERR_TERMINAL", StderrIsTerminal() ? "1" : "0", 1);
}

}  // namespace

std::string FindMpirun() {
  if (const char* given = std::getenv("TPRUN_MPIRUN")) return given;
  if (!MpiBuilt()) return "";
  // Where both are installed, the plain name may be the other MPI's.
  const bool open_mpi = absl::StrContains(MpiVersion(), "Open MPI");
  const std::string own = FindInPath(open_mpi ? "mpirun.openmpi" : "mpirun.mpich");
  return own.empty() ? FindInPath("mpirun") : own;
}

absl::StatusOr<int> SpawnRanks(int ranks, const std::vector<std::string>& arguments,
                               const std::string& plan_json, bool takes_input) {
  const std::string mpirun = FindMpirun();
  if (mpirun.empty()) return absl::NotFoundError("mpirun is not in the PATH");
  ASSIGN_OR_RETURN(const TemporaryFolder directory, TemporaryFolder::Make("tprun"));
  RETURN_IF_ERROR(WriteFile(directory.File("arguments"), PackArguments(arguments)));
  RETURN_IF_ERROR(WriteFile(directory.File("plan.json"), plan_json));
  TellRanks(directory);
  std::vector<std::string> command = MpirunArguments(mpirun, ranks);
  std::error_code error;
  command.push_back(std::filesystem::read_symlink("/proc/self/exe", error).string());
  const SignalForwarding forwarding;
  JobPipes pipes;
  const pid_t job = pipes.Make() ? fork() : -1;
  if (job < 0) {
    return absl::InternalError(absl::StrCat("cannot start a process: ", std::strerror(errno)));
  }
  if (job == 0) ExecJob(command, pipes);
  close(pipes.output[1]);
  close(pipes.input[0]);
  setpgid(job, job);
  job_group = job;
  OutputRelay output(pipes.output[0]);
  InputRelay input(pipes.input[1], takes_input);
  const int status = WaitForJob(job, output, input);
  if (interrupted_by != 0) {
    WriteLog("\ntprun: interrupted; all ranks have been ended");
    return 128 + interrupted_by;
  }
  if (output.stopped()) {
    RETURN_IF_ERROR(output.failure());
    return kExitOk;
  }
  return JobExitCode(status, directory.File("exit_code"));
}

bool StartedByLauncher() { return std::getenv(kArgumentsVariable) != nullptr && StartedByMpi(); }

absl::StatusOr<std::vector<std::string>> ArgumentsFromLauncher() {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(std::getenv(kArgumentsVariable)));
  return UnpackArguments(bytes);
}

std::string PlanFromLauncher() {
  const char* path = std::getenv(kPlanVariable);
  return path == nullptr ? "" : path;
}

bool LeaveExitCode(int exit_code) {
  const char* path = std::getenv(kExitCodeVariable);
  if (path == nullptr) return true;
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd < 0) return errno != EEXIST;
  const std::string text = absl::StrCat(exit_code);
  [[maybe_unused]] const ssize_t written = write(fd, text.data(), text.size());
  close(fd);
  return true;
}

}  // namespace tprun
