#include <csignal>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "comm/mpi_communicator.h"
#include "launcher/arguments.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/help.h"
#include "launcher/spawn.h"
#include "launcher/supervise.h"
#include "launcher/usage_error.h"

namespace {

constexpr char kAbout[] =
    "tprun runs a language model over whatever devices there are: it sees the machine, plans\n"
    "which rank holds which part of the model, and generates text.\n";

constexpr char kFooter[] =
    "\nExit codes: 0 done, 1 failed while running, 2 bad arguments or bad input file,\n"
    "3 the plan does not fit, 4 a rank was lost, 130 interrupted.\n"
    "`tprun help COMMAND` tells the options of a command, with examples.";

// Those of the command line, or in a rank that this program started, what it was told.
absl::StatusOr<std::vector<std::string>> Arguments(int argc, char** argv) {
  if (tprun::StartedByLauncher()) return tprun::ArgumentsFromLauncher();
  return tprun::WithEmptyValues({argv + 1, argv + argc});
}

// "help" and "help COMMAND" as options.
std::vector<std::string> WithoutHelp(const CLI::App& app, std::vector<std::string> arguments) {
  if (arguments.empty() || arguments[0] != "help") return arguments;
  arguments.erase(arguments.begin());
  const auto is_named = [&](const CLI::App* command) {
    return command->get_name() == arguments[0];
  };
  if (arguments.empty() || !app.get_subcommands(is_named).empty()) arguments.push_back("--help");
  return arguments;
}

int Main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe shows as a failed write
  std::signal(SIGXFSZ, SIG_IGN);  // and so does a limit of file sizes
  const absl::StatusOr<std::vector<std::string>> given = Arguments(argc, argv);
  if (!given.ok()) return tprun::ReportStatus(given.status());
  const std::vector<std::string>& arguments = *given;
  CLI::App app(kAbout, "tprun");
  app.footer(kFooter);
  app.formatter(tprun::MakeHelpFormatter());
  app.set_version_flag("--version",
                       absl::StrCat("tprun " TPRUN_VERSION ", MPI: ", tprun::MpiVersion()));
  app.require_subcommand(1);
  const std::vector<tprun::Command> commands = {tprun::MakeTopoCommand(app),
                                                tprun::MakeDoctorCommand(app),
                                                tprun::MakePlanCommand(app),
                                                tprun::MakeRunCommand(app, arguments),
                                                tprun::MakePerplexityCommand(app, arguments),
                                                tprun::MakeBenchCommand(app, arguments),
                                                tprun::MakeConvertCommand(app)};
  tprun::AddExamples(app);
  try {
    const std::vector<std::string> parsed = WithoutHelp(app, arguments);
    app.parse(std::vector<std::string>(parsed.rbegin(), parsed.rend()));
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
