#pragma once

#include <memory>

#include "CLI/CLI.hpp"

namespace tprun {

// How `--help` prints: lines broken at a terminal's usual width, and of an option what to give and
// what counts when it is left out, in brackets: "--threads N   Threads per rank [cores / ranks]".
std::shared_ptr<CLI::Formatter> MakeHelpFormatter();

// Gives every command lines to copy at the end of its `--help`.
void AddExamples(CLI::App& app);

}  // namespace tprun
