#include "launcher/usage_error.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace tprun {
namespace {

// Insertions, deletions and replacements from one to the other (Levenshtein).
int EditDistance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  for (int j = 0; j <= static_cast<int>(b.size()); ++j) row[j] = j;
  for (int i = 1; i <= static_cast<int>(a.size()); ++i) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= static_cast<int>(b.size()); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::vector<std::string> OptionNames(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> CommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  return names;
}

// "; did you mean NAME?", or nothing.
std::string Suggestion(const std::string& word, const std::vector<std::string>& names) {
  const std::string name = ClosestName(word, names);
  return name.empty() ? "" : absl::StrCat("; did you mean ", name, "?");
}

std::string UnknownWord(const CLI::App& app, const CLI::App* command) {
  const std::vector<std::string> unknown =
      command != nullptr ? command->remaining() : app.remaining();
  const std::string word = unknown.empty() ? "" : unknown[0];
  if (absl::StartsWith(word, "-")) {
    const std::string name = word.substr(0, word.find('='));
    return absl::StrCat("unknown option ", name,
                        Suggestion(name, OptionNames(command != nullptr ? *command : app)));
  }
  if (command != nullptr) {
    return absl::StrCat("unexpected argument \"", word, "\"; a value with spaces needs quotes");
  }
  return absl::StrCat("unknown command \"", word, "\"", Suggestion(word, CommandNames(app)));
}

}  // namespace

std::string ClosestName(const std::string& word, const std::vector<std::string>& names) {
  std::string closest;
  int least = 1 + static_cast<int>(word.size()) / 3;  // as many wrong letters are still a typo
  for (const std::string& name : names) {
    const int distance = EditDistance(absl::StrReplaceAll(word, {{"-", "_"}}),
                                      absl::StrReplaceAll(name, {{"-", "_"}}));
    if (distance > least || (distance == least && !closest.empty())) continue;
    closest = name;
    least = distance;
  }
  return closest;
}

std::string UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App* command = parsed.empty() ? nullptr : parsed[0];
  const std::string help = command == nullptr
                               ? "`tprun --help`"
                               : absl::StrCat("`tprun ", command->get_name(), " --help`");
  std::string problem = error.what();
  // A mistyped option may be why another thing is missing: it comes first.
  const int code = error.get_exit_code();
  const bool missing = code == static_cast<int>(CLI::ExitCodes::RequiredError);
  const bool unknown = code == static_cast<int>(CLI::ExitCodes::ExtrasError);
  const CLI::App& parser = command == nullptr ? app : *command;
  if (unknown || (missing && !parser.remaining().empty())) {
    problem = UnknownWord(app, command);
  } else if (command == nullptr) {
    problem = absl::StrCat("wanted a command: ", absl::StrJoin(CommandNames(app), ", "));
  }
  return absl::StrCat(problem, " (", help, " tells more)");
}

}  // namespace tprun
