#pragma once

#include "absl/status/status.h"

namespace tprun {

// What the program's exit code says (stable: scripts rely on it).
enum ExitCode {
  kExitOk = 0,
  kExitFailed = 1,      // failed while running
  kExitBadInput = 2,    // bad arguments or a bad input file
  kExitDoesNotFit = 3,  // the plan does not fit its devices
  kExitRankLost = 4,    // a rank died or no longer answers
  kExitInterrupted = 130,
};

int ExitCodeOf(const absl::Status& status);

// Prints "tprun: message" on standard error, unless the status is OK or has no message (the user
// has been told), and returns its exit code.
int ReportStatus(const absl::Status& status);

}  // namespace tprun
