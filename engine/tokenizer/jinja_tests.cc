#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"

// As in Jinja's tests.py.

namespace tprun {
namespace {

using Result = absl::StatusOr<bool>;

// With one argument: == and its like, in, divisibleby.
Result TestWith(absl::string_view name, const JinjaValue& value, const JinjaValue& argument) {
  if (name == "eq" || name == "equalto" || name == "==" || name == "sameas")
    return value == argument;
  if (name == "ne" || name == "!=") return !(value == argument);
  if (name == "in") return JinjaContains(argument, value);
  if (name == "divisibleby") {
    ASSIGN_OR_RETURN(const JinjaValue rest, JinjaOperator("%", value, argument));
    return !rest.IsTrue();
  }
  ASSIGN_OR_RETURN(const int order, CompareJinja(value, argument));
  if (name == "lt" || name == "lessthan" || name == "<") return order < 0;
  if (name == "le" || name == "<=") return order <= 0;
  if (name == "gt" || name == "greaterthan" || name == ">") return order > 0;
  return order >= 0;
}

constexpr absl::string_view kWithArgument[] = {
    "eq",       "equalto", "==", "sameas", "ne", "!=",          "in", "divisibleby", "lt",
    "lessthan", "<",       "le", "<=",     "gt", "greaterthan", ">",  "ge",          ">="};

constexpr std::pair<absl::string_view, bool (*)(const JinjaValue&)> kAlone[] = {
    {"defined", [](const JinjaValue& v) { return !v.is_undefined(); }},
    {"undefined", [](const JinjaValue& v) { return v.is_undefined(); }},
    {"none", [](const JinjaValue& v) { return v.is_none(); }},
    {"true", [](const JinjaValue& v) { return v.is_bool() && v.IsTrue(); }},
    {"false", [](const JinjaValue& v) { return v.is_bool() && !v.IsTrue(); }},
    {"boolean", [](const JinjaValue& v) { return v.is_bool(); }},
    {"string", [](const JinjaValue& v) { return v.is_string(); }},
    {"number", [](const JinjaValue& v) { return v.is_number(); }},
    {"integer", [](const JinjaValue& v) { return v.is_int(); }},
    {"float", [](const JinjaValue& v) { return v.is_float(); }},
    {"mapping", [](const JinjaValue& v) { return v.is_dict() && !v.dict().is_namespace; }},
    {"sequence",
     [](const JinjaValue& v) {
       return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined();
     }},
    {"iterable",
     [](const JinjaValue& v) {
       return v.is_string() || v.is_list() || v.is_dict() || v.is_undefined();
     }},
    {"callable", [](const JinjaValue& v) { return v.is_function(); }},
    {"odd", [](const JinjaValue& v) { return v.is_int() && v.integer() % 2 != 0; }},
    {"even", [](const JinjaValue& v) { return v.is_int() && v.integer() % 2 == 0; }},
    {"lower",
     [](const JinjaValue& v) {
       return v.Text() == JinjaLower(v.Text()) && v.Text() != JinjaUpper(v.Text());
     }},
    {"upper",
     [](const JinjaValue& v) {
       return v.Text() == JinjaUpper(v.Text()) && v.Text() != JinjaLower(v.Text());
     }},
};

}  // namespace

Result ApplyJinjaTest(absl::string_view name, const JinjaValue& value,
                      const JinjaArguments& arguments) {
  for (const auto& [test, is] : kAlone) {
    if (test == name) return is(value);
  }
  for (absl::string_view test : kWithArgument) {
    if (test != name) continue;
    const JinjaValue* argument = arguments.Find(0, "other");
    if (argument != nullptr) return TestWith(name, value, *argument);
    return absl::InvalidArgumentError(absl::StrCat("the test \"", name, "\" wants an argument"));
  }
  return absl::InvalidArgumentError(absl::StrCat("the test \"", name, "\" is not supported"));
}

}  // namespace tprun
