#include "engine/tokenizer/jinja_evaluator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"
#include "engine/tokenizer/jinja_lexer.h"
#include "engine/tokenizer/jinja_work.h"

// ASSIGN_OR_RETURN with the place of what failed.
#define ASSIGN_OR_TELL(target, position, expression)              \
  ASSIGN_OR_RETURN(target, [&]() -> decltype(expression) {        \
    auto result_or = (expression);                                \
    if (!result_or.ok()) return At(position, result_or.status()); \
    return result_or;                                             \
  }())

namespace tprun {
namespace {

constexpr int64_t kStepsOfIteration = 10;  // of a loop
constexpr int kMostCalls = 30;
constexpr int kDeepestValue = 32;
constexpr int kDeepestRun = 400;  // expressions and blocks of statements within each other

const JinjaValue* Lookup(const JinjaScope& scope, absl::string_view name) {
  int scopes = 0;
  for (const JinjaScope* at = &scope; at != nullptr; at = at->outer) {
    if (++scopes % 8 == 0 && !JinjaWork::Spend(1).ok()) return nullptr;
    if (const JinjaValue* value = at->values.Find(name)) return value;
  }
  return nullptr;
}

// What a loop tells of itself. `elements` outlive it.
JinjaValue LoopFacts(const JinjaList& elements, size_t index) {
  const auto count = static_cast<int64_t>(elements.size());
  const auto at = static_cast<int64_t>(index);
  JinjaDict loop;
  loop.entries = {
      {"index", at + 1},
      {"index0", at},
      {"revindex", count - at},
      {"revindex0", count - at - 1},
      {"first", at == 0},
      {"last", at + 1 == count},
      {"length", count},
      {"depth", int64_t{1}},  // of recursive loops, which there are none of
      {"depth0", int64_t{0}},
      {"previtem", at > 0 ? elements[index - 1] : JinjaValue::UndefinedOf("previtem")},
      {"nextitem", at + 1 < count ? elements[index + 1] : JinjaValue::UndefinedOf("nextitem")},
      {"cycle",
       JinjaFunction([index](const JinjaArguments& arguments) -> absl::StatusOr<JinjaValue> {
         if (arguments.positional.empty()) {
           return absl::InvalidArgumentError("cycle: wanted arguments");
         }
         return arguments.positional[index % arguments.positional.size()];
       })}};
  return loop;
}

// A bound of a slice in [low, high], counted from the end where it is negative.
absl::StatusOr<int64_t> Bound(const JinjaValue& value, int64_t count, int64_t otherwise,
                              int64_t low, int64_t high) {
  if (value.is_none()) return otherwise;
  if (!value.is_int()) return absl::InvalidArgumentError("slices want whole numbers");
  const int64_t at = value.integer();
  if (at < -count) return low;
  return std::clamp(at < 0 ? at + count : at, low, high);
}

// The entries of a dict as named arguments.
absl::Status AddNamed(const JinjaValue& dict, JinjaArguments& arguments) {
  if (!dict.is_dict()) return absl::InvalidArgumentError("** wants a dict");
  RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(dict.dict().entries.size())));
  for (const auto& [key, value] : dict.dict().entries) {
    if (!key.is_string()) return absl::InvalidArgumentError("** wants a dict whose keys are texts");
    arguments.named.emplace_back(key.string(), value);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status JinjaEvaluator::At(size_t position, const absl::Status& status) const {
  if (status.ok() || absl::StartsWith(status.message(), "chat template, line ")) return status;
  return JinjaError(source_, position, status.message());
}

absl::Status JinjaEvaluator::Count(size_t position, int64_t steps) {
  return At(position, JinjaWork::Spend(steps));
}

// The parser bounds each expression and macros each other's calls; together they could still be
// more than the stack holds.
absl::Status JinjaEvaluator::Enter(size_t position) {
  if (++depth_ <= kDeepestRun) return absl::OkStatus();
  return JinjaError(source_, position,
                    absl::StrCat("more than ", kDeepestRun, " steps within each other"));
}

// A value that was made, not only named, takes time by its size; a text also what then walks it.
absl::Status JinjaEvaluator::CountMade(const JinjaExpression& expression, const JinjaValue& value) {
  using Kind = JinjaExpression::Kind;
  if (value.is_string()) {
    return Count(expression.position,
                 static_cast<int64_t>(value.string().size()) / kJinjaTextOfStep);
  }
  const bool named = expression.kind == Kind::kName || expression.kind == Kind::kLiteral ||
                     expression.kind == Kind::kAttribute || expression.kind == Kind::kItem;
  const bool counts = value.is_list() && !named;
  // Also where nothing is counted: what cannot fail may have used the steps up.
  return Count(expression.position, counts ? static_cast<int64_t>(value.list().size()) : 0);
}

absl::StatusOr<std::string> JinjaEvaluator::Run(const std::vector<JinjaStatement>& statements,
                                                int64_t given_bytes, JinjaScope& globals) {
  const JinjaWork work(kMostJinjaSteps + kJinjaStepsOfGivenByte * given_bytes);
  std::string out;
  RETURN_IF_ERROR(Execute(statements, globals, out).status());
  return out;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::Execute(
    const std::vector<JinjaStatement>& statements, JinjaScope& scope, std::string& out) {
  if (statements.empty()) return Flow::kNext;
  RETURN_IF_ERROR(Enter(statements[0].position));
  absl::StatusOr<Flow> flow = ExecuteAll(statements, scope, out);
  --depth_;
  return flow;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::ExecuteAll(
    const std::vector<JinjaStatement>& statements, JinjaScope& scope, std::string& out) {
  for (const JinjaStatement& statement : statements) {
    RETURN_IF_ERROR(Count(statement.position));
    ASSIGN_OR_RETURN(const Flow flow, ExecuteOne(statement, scope, out));
    if (out.size() > kMostJinjaText) {
      return JinjaError(source_, statement.position,
                        absl::StrCat("more than ", kMostJinjaText, " bytes of text"));
    }
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::ExecuteOne(const JinjaStatement& statement,
                                                                JinjaScope& scope,
                                                                std::string& out) {
  switch (statement.kind) {
    case JinjaStatement::Kind::kText:
      out += statement.name;
      break;
    case JinjaStatement::Kind::kOutput: {
      ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(statement.expressions[0], scope));
      out += value.Text();
      break;
    }
    case JinjaStatement::Kind::kIf: {
      ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(statement.expressions[0], scope));
      return Execute(condition.IsTrue() ? statement.body : statement.otherwise, scope, out);
    }
    case JinjaStatement::Kind::kFor:
      return For(statement, scope, out);
    case JinjaStatement::Kind::kSet:
    case JinjaStatement::Kind::kSetBlock:
      RETURN_IF_ERROR(Set(statement, scope));
      break;
    case JinjaStatement::Kind::kFilter: {
      ASSIGN_OR_RETURN(const JinjaValue value, Written(statement, scope));
      out += value.Text();
      break;
    }
    case JinjaStatement::Kind::kMacro:
      DefineMacro(statement, scope);
      break;
    case JinjaStatement::Kind::kGroup:
      return Execute(statement.body, scope, out);
    case JinjaStatement::Kind::kBreak:
      return Flow::kBreak;
    case JinjaStatement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::StatusOr<JinjaList> JinjaEvaluator::LoopElements(const JinjaStatement& statement,
                                                       JinjaScope& scope) {
  const JinjaExpression& over = statement.expressions[0];
  ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(over, scope));
  ASSIGN_OR_TELL(JinjaList all, over.position, JinjaElements(value));
  if (statement.expressions.size() == 1) return all;
  JinjaList chosen;
  for (JinjaValue& element : all) {
    JinjaScope inner = {{}, &scope};
    RETURN_IF_ERROR(Assign(statement, element, inner));
    ASSIGN_OR_RETURN(const JinjaValue is, Evaluate(statement.expressions[1], inner));
    if (is.IsTrue()) chosen.push_back(std::move(element));
  }
  return chosen;
}

absl::StatusOr<JinjaEvaluator::Flow> JinjaEvaluator::For(const JinjaStatement& statement,
                                                         JinjaScope& scope, std::string& out) {
  ASSIGN_OR_RETURN(const JinjaList elements, LoopElements(statement, scope));
  for (size_t i = 0; i < elements.size(); ++i) {
    RETURN_IF_ERROR(Count(statement.position, kStepsOfIteration));
    JinjaScope inner = {{}, &scope};
    inner.values.Put("loop", LoopFacts(elements, i));
    RETURN_IF_ERROR(Assign(statement, elements[i], inner));
    ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, inner, out));
    if (flow == Flow::kBreak) break;
  }
  if (!elements.empty()) return Flow::kNext;
  JinjaScope inner = {{}, &scope};
  return Execute(statement.otherwise, inner, out);
}

// To the names of a loop or a set; to several, the elements of `value`.
absl::Status JinjaEvaluator::Assign(const JinjaStatement& statement, JinjaValue value,
                                    JinjaScope& scope) {
  if (statement.names.size() == 1) {
    scope.values.Put(statement.names[0], std::move(value));
    return absl::OkStatus();
  }
  ASSIGN_OR_TELL(const JinjaList parts, statement.position, JinjaElements(value));
  if (parts.size() != statement.names.size()) {
    return JinjaError(
        source_, statement.position,
        absl::StrCat("wanted ", statement.names.size(), " values, found ", parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) scope.values.Put(statement.names[i], parts[i]);
  return absl::OkStatus();
}

// What a body writes, through the filters of its block.
JinjaEvaluator::Value JinjaEvaluator::Written(const JinjaStatement& statement, JinjaScope& scope) {
  JinjaScope inner = {{}, &scope};
  std::string text;
  RETURN_IF_ERROR(Execute(statement.body, inner, text).status());
  if (statement.expressions.empty()) return JinjaValue(std::move(text));
  JinjaScope filtered = {{}, &scope};
  filtered.values.Put(kJinjaWritten, std::move(text));
  return Evaluate(statement.expressions[0], filtered);
}

absl::Status JinjaEvaluator::Set(const JinjaStatement& statement, JinjaScope& scope) {
  JinjaValue value;
  if (statement.kind == JinjaStatement::Kind::kSetBlock) {
    ASSIGN_OR_RETURN(value, Written(statement, scope));
  } else {
    ASSIGN_OR_RETURN(value, Evaluate(statement.expressions[0], scope));
  }
  if (statement.name.empty()) return Assign(statement, std::move(value), scope);
  const JinjaValue* target = Lookup(scope, statement.names[0]);
  if (target == nullptr || !target->is_dict() || !target->dict().is_namespace) {
    return JinjaError(source_, statement.position,
                      absl::StrCat("\"", statement.names[0], "\" is no namespace"));
  }
  if (value.is_bound()) {
    return JinjaError(source_, statement.position,
                      "a namespace takes no functions and no other namespace");
  }
  target->dict().Put(statement.name, std::move(value));
  return absl::OkStatus();
}

// Known to what is outside of every loop and macro only as long as that lives, as Jinja's are.
void JinjaEvaluator::DefineMacro(const JinjaStatement& statement, JinjaScope& scope) {
  JinjaFunction function = [this, &statement, &scope](const JinjaArguments& arguments) {
    return CallMacro(statement, scope, arguments);
  };
  scope.values.Put(statement.name, JinjaValue(std::move(function)));
}

JinjaEvaluator::Value JinjaEvaluator::CallMacro(const JinjaStatement& macro, JinjaScope& scope,
                                                const JinjaArguments& arguments) {
  if (calls_ >= kMostCalls) {
    return JinjaError(source_, macro.position,
                      absl::StrCat("more than ", kMostCalls, " calls within each other"));
  }
  ++calls_;
  JinjaScope inner = {{}, &scope};
  const size_t count = macro.names.size(), defaults = macro.expressions.size();
  if (arguments.positional.size() > count) {
    return JinjaError(source_, macro.position,
                      absl::StrCat("the macro ", macro.name, " takes at most ", count,
                                   " arguments, found ", arguments.positional.size()));
  }
  for (const auto& [name, value] : arguments.named) {
    RETURN_IF_ERROR(Count(macro.position, static_cast<int64_t>(macro.names.size() / 16)));
    if (std::find(macro.names.begin(), macro.names.end(), name) == macro.names.end()) {
      return JinjaError(source_, macro.position,
                        absl::StrCat("the macro ", macro.name, " has no parameter ", name));
    }
  }
  for (size_t i = 0; i < count; ++i) {
    JinjaValue value = JinjaValue::UndefinedOf(macro.names[i]);
    if (const JinjaValue* given = arguments.Find(i, macro.names[i])) {
      value = *given;
    } else if (i + defaults >= count) {
      ASSIGN_OR_RETURN(value, Evaluate(macro.expressions[i + defaults - count], inner));
    }
    inner.values.Put(macro.names[i], std::move(value));
  }
  std::string text;
  RETURN_IF_ERROR(Execute(macro.body, inner, text).status());
  --calls_;
  return JinjaValue(std::move(text));
}

JinjaEvaluator::Value JinjaEvaluator::Evaluate(const JinjaExpression& expression,
                                               JinjaScope& scope) {
  RETURN_IF_ERROR(Count(expression.position));
  RETURN_IF_ERROR(Enter(expression.position));
  Value evaluated = EvaluateUnchecked(expression, scope);
  --depth_;
  ASSIGN_OR_TELL(const JinjaValue value, expression.position, evaluated);
  RETURN_IF_ERROR(CountMade(expression, value));
  if (value.is_string() && value.string().size() > kMostJinjaText) {
    return JinjaError(source_, expression.position, "a text that is too long");
  }
  if (value.depth() > kDeepestValue) {
    return JinjaError(source_, expression.position,
                      absl::StrCat("more than ", kDeepestValue, " lists within each other"));
  }
  return value;
}

JinjaEvaluator::Value JinjaEvaluator::EvaluateUnchecked(const JinjaExpression& expression,
                                                        JinjaScope& scope) {
  using Kind = JinjaExpression::Kind;
  const std::vector<JinjaExpression>& operands = expression.operands;
  JinjaValue first;
  const bool needs_first = expression.kind == Kind::kAttribute || expression.kind == Kind::kItem ||
                           expression.kind == Kind::kFilter || expression.kind == Kind::kTest ||
                           expression.kind == Kind::kNot || expression.kind == Kind::kNegative ||
                           expression.kind == Kind::kBinary;
  if (needs_first) {
    ASSIGN_OR_RETURN(first, Evaluate(operands[0], scope));
  }
  switch (expression.kind) {
    case Kind::kLiteral:
      return expression.value;
    case Kind::kName: {
      const JinjaValue* value = Lookup(scope, expression.name);
      return value != nullptr ? *value : JinjaValue::UndefinedOf(expression.name);
    }
    case Kind::kList:
      return List(expression, scope);
    case Kind::kDict:
      return Dict(expression, scope);
    case Kind::kAttribute:
      return JinjaAttribute(first, expression.name);
    case Kind::kItem: {
      ASSIGN_OR_RETURN(const JinjaValue index, Evaluate(operands[1], scope));
      return JinjaItem(first, index);
    }
    case Kind::kSpread:  // Arguments takes it apart
      return Evaluate(operands[0], scope);
    case Kind::kSlice:
      return Slice(expression, scope);
    case Kind::kCall:
      return Call(expression, scope);
    case Kind::kFilter: {
      ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
      return ApplyJinjaFilter(expression.name, first, arguments);
    }
    case Kind::kTest: {
      ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
      ASSIGN_OR_RETURN(const bool is, ApplyJinjaTest(expression.name, first, arguments));
      return JinjaValue(is);
    }
    case Kind::kNot:
      return JinjaValue(!first.IsTrue());
    case Kind::kNegative:
      return JinjaOperator("-", int64_t{0}, first);
    case Kind::kBinary: {
      ASSIGN_OR_RETURN(const JinjaValue second, Evaluate(operands[1], scope));
      return JinjaOperator(expression.name, first, second);
    }
    case Kind::kCompare:
      return Compare(expression, scope);
    case Kind::kAnd:
    case Kind::kOr:
      return AndOr(expression, scope);
    case Kind::kConditional:
      return Conditional(expression, scope);
  }
  return JinjaValue();
}

JinjaEvaluator::Value JinjaEvaluator::List(const JinjaExpression& expression, JinjaScope& scope) {
  JinjaList list;
  for (const JinjaExpression& operand : expression.operands) {
    ASSIGN_OR_RETURN(JinjaValue element, Evaluate(operand, scope));
    list.push_back(std::move(element));
  }
  return JinjaValue::ListLike(std::move(list), expression.name == kJinjaTuple);
}

JinjaEvaluator::Value JinjaEvaluator::Dict(const JinjaExpression& expression, JinjaScope& scope) {
  JinjaDict dict;
  for (size_t i = 0; i < expression.operands.size(); i += 2) {
    ASSIGN_OR_RETURN(JinjaValue key, Evaluate(expression.operands[i], scope));
    if (!key.is_string() && !key.is_number() && !key.is_none()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key of a dict cannot be of type ", key.TypeName()));
    }
    ASSIGN_OR_RETURN(JinjaValue value, Evaluate(expression.operands[i + 1], scope));
    dict.Put(std::move(key), std::move(value));
  }
  return JinjaValue(std::move(dict));
}

JinjaEvaluator::Value JinjaEvaluator::Slice(const JinjaExpression& expression, JinjaScope& scope) {
  JinjaValue parts[4];  // of what, from, to, step
  for (int i = 0; i < 4; ++i) {
    ASSIGN_OR_RETURN(parts[i], Evaluate(expression.operands[i], scope));
  }
  if (!parts[0].is_list() && !parts[0].is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", parts[0].TypeName(), " cannot be sliced"));
  }
  std::vector<absl::string_view> characters;
  JinjaList all;
  if (parts[0].is_string()) {
    characters = JinjaCharacters(parts[0].string());
  } else {
    ASSIGN_OR_RETURN(all, JinjaElements(parts[0]));
  }
  const auto count = static_cast<int64_t>(std::max(all.size(), characters.size()));
  const bool back = parts[3].is_int() && parts[3].integer() < 0;
  if (!parts[3].is_none() && (!parts[3].is_int() || parts[3].integer() == 0)) {
    return absl::InvalidArgumentError("a slice's step must be a whole number, not zero");
  }
  const int64_t low = back ? -1 : 0, high = back ? count - 1 : count;
  ASSIGN_OR_RETURN(const int64_t from, Bound(parts[1], count, back ? high : low, low, high));
  ASSIGN_OR_RETURN(const int64_t to, Bound(parts[2], count, back ? low : high, low, high));
  const int64_t step =
      parts[3].is_none() ? 1 : std::clamp<int64_t>(parts[3].integer(), -count - 1, count + 1);
  JinjaList chosen;
  std::string text;
  for (int64_t i = from; back ? i > to : i < to; i += step) {
    if (parts[0].is_list()) {
      chosen.push_back(all[i]);
    } else {
      absl::StrAppend(&text, characters[i]);
    }
  }
  if (parts[0].is_list()) {
    return JinjaValue::ListLike(std::move(chosen), parts[0].is_tuple());
  }
  return JinjaValue(std::move(text));
}

absl::StatusOr<JinjaArguments> JinjaEvaluator::Arguments(const JinjaExpression& expression,
                                                         JinjaScope& scope) {
  JinjaArguments arguments;
  const size_t named = expression.operands.size() - expression.names.size();
  for (size_t i = 1; i < expression.operands.size(); ++i) {
    ASSIGN_OR_RETURN(JinjaValue value, Evaluate(expression.operands[i], scope));
    if (expression.operands[i].kind == JinjaExpression::Kind::kSpread) {
      ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(value));
      for (const JinjaValue& element : elements) arguments.positional.push_back(element);
    } else if (i < named) {
      arguments.positional.push_back(std::move(value));
    } else if (expression.names[i - named] == "**") {
      RETURN_IF_ERROR(AddNamed(value, arguments));
    } else {
      arguments.named.emplace_back(expression.names[i - named], std::move(value));
    }
  }
  return arguments;
}

JinjaEvaluator::Value JinjaEvaluator::Call(const JinjaExpression& expression, JinjaScope& scope) {
  const JinjaExpression& callee = expression.operands[0];
  JinjaValue function;
  if (callee.kind == JinjaExpression::Kind::kAttribute) {
    ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(callee.operands[0], scope));
    if (HasJinjaMethod(object, callee.name)) {
      ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
      return CallJinjaMethod(object, callee.name, arguments);
    }
    ASSIGN_OR_RETURN(function, JinjaAttribute(object, callee.name));
    if (!function.is_function()) {
      return absl::InvalidArgumentError(absl::StrCat("values of type ", object.TypeName(),
                                                     " have no method \"", callee.name,
                                                     "\" that is supported"));
    }
  } else {
    ASSIGN_OR_RETURN(function, Evaluate(callee, scope));
    if (function.is_undefined()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", function.undefined_name(), "' is undefined"));
    }
    if (!function.is_function()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", function.TypeName(), " cannot be called"));
    }
  }
  ASSIGN_OR_RETURN(const JinjaArguments arguments, Arguments(expression, scope));
  return function.function()(arguments);
}

JinjaEvaluator::Value JinjaEvaluator::Compare(const JinjaExpression& expression,
                                              JinjaScope& scope) {
  ASSIGN_OR_RETURN(JinjaValue left, Evaluate(expression.operands[0], scope));
  for (size_t i = 0; i < expression.names.size(); ++i) {
    ASSIGN_OR_RETURN(JinjaValue right, Evaluate(expression.operands[i + 1], scope));
    const std::string& op = expression.names[i];
    bool is = false;
    if (op == "in" || op == "not in") {
      ASSIGN_OR_RETURN(const bool contains, JinjaContains(right, left));
      is = contains == (op == "in");
    } else {
      JinjaArguments arguments;
      arguments.positional.push_back(right);
      ASSIGN_OR_RETURN(is, ApplyJinjaTest(op, left, arguments));
    }
    if (!is) return JinjaValue(false);
    left = std::move(right);
  }
  return JinjaValue(true);
}

// The operand that decides, as Python's.
JinjaEvaluator::Value JinjaEvaluator::AndOr(const JinjaExpression& expression, JinjaScope& scope) {
  ASSIGN_OR_RETURN(JinjaValue left, Evaluate(expression.operands[0], scope));
  if (left.IsTrue() == (expression.kind == JinjaExpression::Kind::kOr)) return left;
  return Evaluate(expression.operands[1], scope);
}

JinjaEvaluator::Value JinjaEvaluator::Conditional(const JinjaExpression& expression,
                                                  JinjaScope& scope) {
  ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(expression.operands[1], scope));
  if (condition.IsTrue()) return Evaluate(expression.operands[0], scope);
  if (expression.operands.size() < 3) return JinjaValue::UndefinedOf("else");
  return Evaluate(expression.operands[2], scope);
}

}  // namespace tprun
