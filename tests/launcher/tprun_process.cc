#include "tests/launcher/tprun_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/file.h"

namespace tprun {
namespace {

constexpr char kMark[] = "TPRUN_TEST_JOB";

double Seconds() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

std::string Contents(const std::string& path) { return ReadFile(path).value_or(""); }

[[noreturn]] void Exec(const std::vector<std::string>& command, const ProcessOptions& options,
                       const TemporaryFolder& folder) {
  setpgid(0, 0);
  // The test runner may have these ignored; a shell would not.
  signal(SIGPIPE, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  const int in = open(folder.File("in").c_str(), O_RDONLY);
  const int out = open(folder.File("out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err = open(folder.File("err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
  setenv(kMark, folder.path().c_str(), 1);
  setenv("TMPDIR", folder.path().c_str(), 1);  // what a killed job leaves goes with the test
  // What other runs left must not change this one: its own, unless the test says otherwise.
  const std::string state = folder.File("state");
  bool has_state = false;
  for (const auto& [name, value] : options.environment) has_state |= name == "XDG_STATE_HOME";
  if (!has_state) setenv("XDG_STATE_HOME", state.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  _exit(127);
}

bool HasVariable(const std::vector<absl::string_view>& environment, const std::string& variable) {
  return std::find(environment.begin(), environment.end(), variable) != environment.end();
}

}  // namespace

TprunProcess::TprunProcess(const std::vector<std::string>& command, const ProcessOptions& options,
                           std::string program)
    : options_(options), folder_(TemporaryFolder::Make("tprun-test").value()) {
  if (!WriteFile(FilePath("in"), options.input).ok()) std::abort();
  std::vector<std::string> words = {program.empty() ? TprunPath() : program};
  words.insert(words.end(), command.begin(), command.end());
  started_ = Seconds();
  pid_ = fork();
  if (pid_ == 0) Exec(words, options_, folder_);
  setpgid(pid_, pid_);
}

TprunProcess::~TprunProcess() {
  for (pid_t process : Processes()) kill(process, SIGKILL);
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
}

std::string TprunProcess::FilePath(const std::string& name) const { return folder_.File(name); }

void TprunProcess::Signal(int signal) const { kill(pid_, signal); }

ProcessResult TprunProcess::Wait() {
  ProcessResult result;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (Seconds() - started_ > options_.timeout_s && !result.timed_out) {
      result.timed_out = true;
      for (pid_t process : Processes()) kill(process, SIGKILL);
    }
    usleep(5000);
  }
  pid_ = -1;
  result.seconds = Seconds() - started_;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = Out();
  result.err = Err();
  return result;
}

std::string TprunProcess::Out() const { return Contents(FilePath("out")); }
std::string TprunProcess::Err() const { return Contents(FilePath("err")); }

bool TprunProcess::WaitForOutput(size_t bytes) const {
  while (Out().size() < bytes) {
    if (Seconds() - started_ > options_.timeout_s) return false;
    usleep(20'000);
  }
  return true;
}

std::vector<pid_t> TprunProcess::Processes(int rank) const {
  std::vector<pid_t> processes;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const std::string text = Contents(entry.path() / "environ");
    const std::vector<absl::string_view> environment = absl::StrSplit(text, '\0');
    if (!HasVariable(environment, absl::StrCat(kMark, "=", folder_.path()))) continue;
    if (rank >= 0 && !HasVariable(environment, absl::StrCat("OMPI_COMM_WORLD_RANK=", rank)) &&
        !HasVariable(environment, absl::StrCat("PMI_RANK=", rank))) {
      continue;
    }
    processes.push_back(pid);
  }
  std::sort(processes.begin(), processes.end());
  return processes;
}

std::vector<pid_t> TprunProcess::ProcessesLeft() const {
  std::vector<pid_t> left = Processes();
  for (int i = 0; i < 40 && !left.empty(); ++i) {
    usleep(50'000);
    left = Processes();
  }
  return left;
}

std::string TprunPath() { return TPRUN_BINARY_DIR "/tprun"; }

ProcessResult RunTprun(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  return TprunProcess(arguments, options).Wait();
}

bool HaveMpirun() { return absl::string_view(TPRUN_MPI_LAUNCHER) != ""; }

ProcessResult RunUnderMpirun(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> launcher = absl::StrSplit(TPRUN_MPI_LAUNCHER, ' ');
  std::vector<std::string> command(launcher.begin() + 1, launcher.end());
  for (const std::string& word : {std::string("-n"), absl::StrCat(ranks), TprunPath()}) {
    command.push_back(word);
  }
  command.insert(command.end(), arguments.begin(), arguments.end());
  return TprunProcess(command, {}, launcher[0]).Wait();
}

std::vector<std::string> TprunLines(const std::string& text) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "tprun: ")) lines.emplace_back(line);
  }
  return lines;
}

}  // namespace tprun
