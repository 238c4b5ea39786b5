#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// Every `--name=` as the two arguments `--name` and ``: the parser would take the argument that
// comes next for the value.
std::vector<std::string> WithEmptyValues(const std::vector<std::string>& arguments);

// Arguments as bytes and back, whatever they hold (NULs, broken UTF-8): each as its length in
// decimal, a newline, and its bytes.
std::string PackArguments(const std::vector<std::string>& arguments);
absl::StatusOr<std::vector<std::string>> UnpackArguments(absl::string_view bytes);

}  // namespace tprun
