#pragma once

#include <string>

#include "CLI/CLI.hpp"

namespace tprun {

// What is wrong with the arguments, in one line: `unknown option --promt; did you mean --prompt?`.
// `app` is the program with its commands, as it was when it parsed them.
std::string UsageError(const CLI::App& app, const CLI::ParseError& error);

// The name closest to `word` of those that differ from it in few letters, else the only one that
// begins so; "" when there is none.
std::string ClosestName(const std::string& word, const std::vector<std::string>& names);

}  // namespace tprun
