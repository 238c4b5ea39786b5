#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

struct JinjaToken {
  enum class Kind { kName, kString, kInteger, kFloat, kOperator, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;  // of a string: what it stands for
  size_t position = 0;
};

// A stretch of a template: text as it is, {{ tokens }} or {% tokens %}; comments are gone.
struct JinjaPiece {
  enum class Kind { kText, kOutput, kStatement };
  Kind kind = Kind::kText;
  std::string text;
  std::vector<JinjaToken> tokens;  // the last is kEnd
  size_t position = 0;
};

// Line ends as \n alone, the last one gone, as Jinja reads a template.
std::string NormalizeJinja(absl::string_view source);

// The pieces of a normalized template with trim_blocks and lstrip_blocks, as transformers reads
// chat templates: the newline after a block goes, and the blanks in front of one that begins its
// line; "-" at a bracket takes all white space, "+" leaves it.
absl::StatusOr<std::vector<JinjaPiece>> SplitJinja(absl::string_view source);

// InvalidArgument with line and column of `position`.
absl::Status JinjaError(absl::string_view source, size_t position, absl::string_view message);

}  // namespace tprun
