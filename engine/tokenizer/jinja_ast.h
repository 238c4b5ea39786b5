#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/jinja_value.h"

namespace tprun {

struct JinjaExpression {
  enum class Kind {
    kLiteral,    // value
    kName,       // name
    kList,       // operands; name "tuple": a tuple
    kDict,       // operands: key, value, key, value
    kAttribute,  // operands[0].name
    kItem,       // operands[0][operands[1]]
    kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], none where left out
    kCall,       // operands[0](operands[1], ...)
    kSpread,     // among arguments: *operands[0]
    kFilter,     // operands[0] | name(operands[1], ...)
    kTest,       // operands[0] is name(operands[1], ...)
    kNot,        // of operands[0]
    kNegative,   // -operands[0]
    kBinary,     // operands[0] name operands[1]
    kCompare,    // operands[0] names[0] operands[1] names[1] operands[2]
    kAnd,
    kOr,
    kConditional,  // operands[0] if operands[1] else operands[2], which may be missing
  };
  Kind kind = Kind::kLiteral;
  size_t position = 0;
  int height = 1;  // of the tree below it, itself included
  std::string name;
  JinjaValue value;
  std::vector<JinjaExpression> operands;
  // Of calls, filters and tests: the names of the last operands, which are named arguments; "**"
  // for a dict of them.
  std::vector<std::string> names;
};

struct JinjaStatement {
  enum class Kind {
    kText,      // name: the text
    kOutput,    // expressions[0]
    kIf,        // expressions[0], body, otherwise
    kFor,       // names in expressions[0] if expressions[1]: body, else otherwise
    kSet,       // names = expressions[0], or names[0].name = expressions[0]
    kSetBlock,  // names[0] = what body writes, or expressions[0] of it
    kFilter,    // expressions[0] of what body writes
    kMacro,     // name(names, the last of them with expressions as defaults): body
    kGroup,     // body
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  size_t position = 0;
  std::string name;
  std::vector<std::string> names;
  std::vector<JinjaExpression> expressions;
  std::vector<JinjaStatement> body, otherwise;
};

// The name of a kList that is a tuple.
inline constexpr char kJinjaTuple[] = "tuple";

// The name that what a block writes has in its expression; no template can spell it.
inline constexpr char kJinjaWritten[] = "";

// The statements of a normalized template (see NormalizeJinja). InvalidArgument tells line, column
// and what is wrong or not supported there.
absl::StatusOr<std::vector<JinjaStatement>> ParseJinja(absl::string_view source);

}  // namespace tprun
