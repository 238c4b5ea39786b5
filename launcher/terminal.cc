#include "launcher/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "launcher/job_stream.h"

namespace tprun {
namespace {

bool IsTerminal(int fd, const char* variable) {
  const char* told = std::getenv(variable);
  if (told != nullptr) return absl::string_view(told) == "1";
  return isatty(fd) != 0;
}

bool Write(absl::string_view text, std::FILE* stream) {
  return std::fwrite(text.data(), 1, text.size(), stream) == text.size() &&
         std::fflush(stream) == 0;
}

}  // namespace

bool StdinIsTerminal() { return IsTerminal(STDIN_FILENO, "TPRUN_STDIN_TERMINAL"); }

bool StdoutIsTerminal() { return IsTerminal(STDOUT_FILENO, "TPRUN_STDOUT_TERMINAL"); }

bool StderrIsTerminal() { return IsTerminal(STDERR_FILENO, "TPRUN_STDERR_TERMINAL"); }

bool UseColor() { return StdoutIsTerminal() && std::getenv("NO_COLOR") == nullptr; }

int StdoutColumns() {
  winsize size = {};
  if (!StdoutIsTerminal() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

bool WriteStdout(absl::string_view text) {
  return WritesJobStream() ? Write(StreamText(text), stdout) : Write(text, stdout);
}

void WriteLogText(absl::string_view text) {
  WritesJobStream() ? Write(StreamLog(text), stdout) : Write(text, stderr);
}

void TellTakesInterrupts(bool takes) {
  if (WritesJobStream()) Write(StreamTakesInterrupts(takes), stdout);
}

absl::Status StdoutFailure() {
  if (errno == EPIPE) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cannot write to standard output: ", std::strerror(errno)));
}

absl::Status WriteResult(absl::string_view text) {
  return WriteStdout(text) ? absl::OkStatus() : StdoutFailure();
}

void WriteLog(absl::string_view line) { WriteLogText(absl::StrCat(line, "\n")); }

void WriteError(absl::string_view line) { Write(absl::StrCat(line, "\n"), stderr); }

}  // namespace tprun
