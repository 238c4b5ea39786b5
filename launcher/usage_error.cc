#include "launcher/usage_error.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

// Insertions, deletions, replacements and swaps of neighbours from one to the other (optimal string
// alignment).
int EditDistance(const std::string& a, const std::string& b) {
  std::vector<std::vector<int>> cost(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({replaced, cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

// How the letters of a name are compared: "--max-tokens" and "max_tokens" are the same.
std::string Letters(absl::string_view name) {
  absl::ConsumePrefix(&name, "--");
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"-", "_"}}));
}

// So many wrong letters in a word are still a typo.
int MostWrong(size_t letters) { return letters < 3 ? 0 : letters < 6 ? 1 : letters < 10 ? 2 : 3; }

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

// "0.010000" and "1.000000" as people write them.
std::string Number(absl::string_view text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) && absl::StrContains(text, ".") ? absl::StrCat(value)
                                                                        : std::string(text);
}

// What CLI11 found wrong with an option's value, in the words of our other messages.
std::string Reworded(const std::string& text) {
  absl::string_view pair = text;
  if (absl::ConsumePrefix(&pair, "Could not convert: ")) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(pair, absl::MaxSplits(" = ", 1));
    return absl::StrCat(parts.first, ": wanted a number, found ", parts.second);
  }
  const size_t end = text.find(": ");
  if (end == std::string::npos) return text;
  const std::string option = text.substr(0, end + 2);
  absl::string_view rest = absl::string_view(text).substr(end + 2);
  if (absl::EndsWith(rest, " missing")) return option + "wanted a value, found nothing";
  const std::pair<absl::string_view, absl::string_view> listed = absl::StrSplit(rest, " not in {");
  if (absl::ConsumeSuffix(&rest, "}") && listed.second.size() > 1) {
    return absl::StrCat(option, "wanted one of ", listed.second.substr(0, listed.second.size() - 1),
                        ", found ", listed.first);
  }
  const std::pair<absl::string_view, absl::string_view> ranged =
      absl::StrSplit(rest, " not in range ");
  const std::pair<absl::string_view, absl::string_view> range =
      absl::StrSplit(ranged.second, " to ");
  absl::string_view value = ranged.first;
  if (range.second.empty() || !absl::ConsumePrefix(&value, "Value ")) return text;
  return absl::StrCat(option, "wanted ", Number(range.first), " to ", Number(range.second),
                      ", found ", value);
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
    return absl::StrCat("unexpected argument \"", word, "\"; ",
                        command->get_option_no_throw("--from") != nullptr
                            ? "a file to read is given by --from=FILE"
                            : "a value with spaces needs quotes");
  }
  return absl::StrCat("unknown command \"", word, "\"", Suggestion(word, CommandNames(app)));
}

}  // namespace

std::string ClosestName(const std::string& word, const std::vector<std::string>& names) {
  const std::string letters = Letters(word);
  std::string closest, beginning;
  int least = MostWrong(letters.size()) + 1;
  int begin_so = 0;
  for (const std::string& name : names) {
    const std::string other = Letters(name);
    if (letters.size() >= 3 && absl::StartsWith(other, letters) && ++begin_so == 1) {
      beginning = name;
    }
    const int distance = EditDistance(letters, other);
    if (distance >= least) continue;
    closest = name;
    least = distance;
  }
  return closest.empty() && begin_so == 1 ? beginning : closest;
}

std::string UsageError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App* command = parsed.empty() ? nullptr : parsed[0];
  const std::string help = command == nullptr
                               ? "`tprun --help`"
                               : absl::StrCat("`tprun ", command->get_name(), " --help`");
  std::string problem = Reworded(error.what());
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
