#pragma once

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"

namespace tprun {

// Each adds its subcommand to `app` and returns what runs it, as an exit code, once the arguments
// are parsed. To add a command: one file, one line here, one in main.cc. `arguments`: the program's
// own, without its name.
struct Command {
  CLI::App* app;
  std::function<int()> run;
};

Command MakeTopoCommand(CLI::App& app);
Command MakeDoctorCommand(CLI::App& app);
Command MakePlanCommand(CLI::App& app);
Command MakeRunCommand(CLI::App& app, const std::vector<std::string>& arguments);
Command MakePerplexityCommand(CLI::App& app, const std::vector<std::string>& arguments);
Command MakeBenchCommand(CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace tprun
