#include "launcher/arguments.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

bool IsOptionWithoutValue(absl::string_view argument) {
  if (!absl::StartsWith(argument, "--") || !absl::EndsWith(argument, "=")) return false;
  const absl::string_view name = argument.substr(2, argument.size() - 3);
  for (char c : name) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '-') return false;
  }
  return !name.empty();
}

}  // namespace

std::vector<std::string> WithEmptyValues(const std::vector<std::string>& arguments) {
  std::vector<std::string> result;
  for (const std::string& argument : arguments) {
    if (IsOptionWithoutValue(argument)) {
      result.push_back(argument.substr(0, argument.size() - 1));
      result.push_back("");
    } else {
      result.push_back(argument);
    }
  }
  return result;
}

std::string PackArguments(const std::vector<std::string>& arguments) {
  std::string bytes;
  for (const std::string& argument : arguments) {
    absl::StrAppend(&bytes, argument.size(), "\n", argument);
  }
  return bytes;
}

absl::StatusOr<std::vector<std::string>> UnpackArguments(absl::string_view bytes) {
  std::vector<std::string> arguments;
  while (!bytes.empty()) {
    const size_t line_end = bytes.find('\n');
    uint64_t size = 0;
    if (line_end == bytes.npos || !absl::SimpleAtoi(bytes.substr(0, line_end), &size) ||
        size > bytes.size() - line_end - 1) {
      return absl::InternalError(absl::StrCat("the launcher's arguments end within number ",
                                              arguments.size() + 1,
                                              "; are all ranks of the same build?"));
    }
    arguments.emplace_back(bytes.substr(line_end + 1, size));
    bytes.remove_prefix(line_end + 1 + size);
  }
  return arguments;
}

}  // namespace tprun
