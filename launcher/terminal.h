#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Whether the user sees this stream on a terminal; under our own mpirun the streams are pipes, and
// the process that started it says so through the environment (see spawn.cc).
bool StdinIsTerminal();
bool StdoutIsTerminal();
bool StderrIsTerminal();

// Colour on standard output: a terminal, and NO_COLOR (no-color.org) not set.
bool UseColor();

// The width of the terminal that standard output is on; 0 if it is none.
int StdoutColumns();

// Writes all of it to standard output and flushes; false when nobody reads it any more.
bool WriteStdout(absl::string_view text);

// For the user's standard error, in its place among what goes to standard output.
void WriteLogText(absl::string_view text);

// To the process that started the ranks, if there is one: this rank's input takes Ctrl-C or not.
void TellTakesInterrupts(bool takes);

// After WriteStdout has failed: why. OK when the reader has left (`| head`): it has what it wanted.
absl::Status StdoutFailure();

// A command's whole result on standard output.
absl::Status WriteResult(absl::string_view text);

// One line of progress, as WriteLogText.
void WriteLog(absl::string_view line);

// One line straight to standard error, whatever becomes of standard output: why the program ends.
void WriteError(absl::string_view line);

}  // namespace tprun
