#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/model_options.h"
#include "launcher/prepare.h"
#include "launcher/rank_session.h"

namespace tprun {

// What a command does with a model over ranks.
struct RanksCommand {
  // The program's own arguments, to start it again as ranks.
  std::vector<std::string> arguments;
  // Looks at the model before any rank is started (is the prompt too long?); may be empty.
  std::function<absl::Status(const PreparedModel&)> check;
  // Every rank's part.
  std::function<absl::Status(RankSession&)> run;
  bool takes_streams = false;  // models of several streams of tokens too
  bool quiet = false;          // nothing on standard error but errors
  bool takes_input = false;    // rank 0 reads standard input
};

// Runs a command on the ranks that the plan wants and returns the exit code; errors are told on
// standard error, once. Under mpirun or srun this process is one of the ranks. Started by hand it
// makes the plan, and with more than one rank runs mpirun on itself, or threads (--backend).
int RunOnRanks(const ModelOptions& options, const RanksCommand& command);

}  // namespace tprun
