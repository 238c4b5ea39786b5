#include <csignal>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "comm/mpi_communicator.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/supervise.h"
#include "launcher/usage_error.h"

namespace {

constexpr char kAbout[] =
    "tprun runs a language model over whatever devices there are: it sees the machine, plans\n"
    "which rank holds which part of the model, and generates text.\n";

constexpr char kFooter[] =
    "\nExit codes: 0 done, 1 failed while running, 2 bad arguments or bad input file,\n"
    "3 the plan does not fit, 4 a rank was lost.\n"
    "`tprun COMMAND --help` tells the options of a command.";

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe shows as a failed write
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  CLI::App app(kAbout, "tprun");
  app.footer(kFooter);
  app.set_version_flag("--version",
                       absl::StrCat("tprun " TPRUN_VERSION ", MPI: ", tprun::MpiVersion()));
  app.require_subcommand(1);
  const std::vector<tprun::Command> commands = {
      tprun::MakeTopoCommand(app), tprun::MakePlanCommand(app),
      tprun::MakeRunCommand(app, arguments), tprun::MakeBenchCommand(app, arguments)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    // Every rank has the same arguments: one tells.
    if (!tprun::IsFirstRank()) return tprun::kExitBadInput;
    return tprun::ReportStatus(absl::InvalidArgumentError(tprun::UsageError(app, error)));
  }
  for (const tprun::Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  return tprun::kExitBadInput;
}

}  // namespace

int main(int argc, char** argv) { return Main(argc, argv); }
