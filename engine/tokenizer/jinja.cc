#include "engine/tokenizer/jinja.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_ast.h"
#include "engine/tokenizer/jinja_evaluator.h"
#include "engine/tokenizer/jinja_lexer.h"

namespace tprun {

struct JinjaProgram {
  std::string source;
  std::vector<JinjaStatement> statements;
};

namespace {

using Result = absl::StatusOr<JinjaValue>;

constexpr int64_t kMostOfRange = 100000;  // as Jinja's sandbox

Result Range(const JinjaArguments& arguments) {
  int64_t numbers[3] = {0, 0, 1};  // from, to, step
  const size_t count = arguments.positional.size();
  for (size_t i = 0; i < count; ++i) {
    if (i == 3 || !arguments.positional[i].is_int()) {
      return absl::InvalidArgumentError("range: wanted one to three whole numbers");
    }
    numbers[count == 1 ? 1 : i] = arguments.positional[i].integer();
  }
  const auto [from, to, step] = numbers;
  if (count == 0 || step == 0) return absl::InvalidArgumentError("range: wanted a step, not zero");
  JinjaList list;
  for (int64_t at = from; step > 0 ? at < to : at > to;) {
    if (static_cast<int64_t>(list.size()) == kMostOfRange) {
      return absl::InvalidArgumentError(
          absl::StrCat("range: wanted at most ", kMostOfRange, " numbers"));
    }
    list.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return JinjaValue(std::move(list));
}

// namespace(a=1) or dict(a=1), of another dict's entries too.
Result MakeDict(const JinjaArguments& arguments, bool is_namespace) {
  JinjaDict dict;
  for (const JinjaValue& from : arguments.positional) {
    if (!from.is_dict()) return absl::InvalidArgumentError("wanted a dict");
    for (const auto& [key, value] : from.dict().entries) dict.Put(key, value);
  }
  for (const auto& [key, value] : arguments.named) dict.Put(key, value);
  for (const auto& entry : dict.entries) {
    if (is_namespace && entry.second.is_bound()) {
      return absl::InvalidArgumentError("a namespace takes no functions and no other namespace");
    }
  }
  dict.is_namespace = is_namespace;
  return JinjaValue(std::move(dict));
}

Result RaiseException(const JinjaArguments& arguments) {
  return absl::InvalidArgumentError(absl::StrCat(
      "it refuses this conversation: ",
      arguments.positional.empty() ? "it does not say why" : arguments.positional[0].Text()));
}

Result StrftimeNow(const JinjaArguments& arguments, absl::Time now) {
  if (arguments.positional.size() != 1 || !arguments.positional[0].is_string()) {
    return absl::InvalidArgumentError("strftime_now: wanted a format");
  }
  const std::string& format = arguments.positional[0].string();
  if (format.size() > 1000) return absl::InvalidArgumentError("strftime_now: too long a format");
  return JinjaValue(absl::FormatTime(format, now, absl::LocalTimeZone()));
}

void PutBuiltins(absl::Time now, JinjaDict& names) {
  names.Put("range", JinjaFunction(Range));
  names.Put("dict", JinjaFunction([](const JinjaArguments& a) { return MakeDict(a, false); }));
  names.Put("namespace", JinjaFunction([](const JinjaArguments& a) { return MakeDict(a, true); }));
  names.Put("raise_exception", JinjaFunction(RaiseException));
  names.Put("strftime_now",
            JinjaFunction([now](const JinjaArguments& a) { return StrftimeNow(a, now); }));
}

// Of all texts within it.
int64_t TextBytes(const JinjaValue& value) {
  int64_t bytes = value.is_string() ? static_cast<int64_t>(value.string().size()) : 0;
  if (value.is_list()) {
    for (const JinjaValue& element : value.list()) bytes += TextBytes(element);
  } else if (value.is_dict()) {
    for (const auto& entry : value.dict().entries) bytes += TextBytes(entry.second);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<JinjaTemplate> JinjaTemplate::Parse(absl::string_view source) {
  constexpr size_t kMostSource = 1 << 20;
  if (source.size() > kMostSource) {
    return absl::InvalidArgumentError(absl::StrCat("chat template: wanted at most ", kMostSource,
                                                   " bytes, found ", source.size()));
  }
  auto program = std::make_shared<JinjaProgram>();
  program->source = NormalizeJinja(source);
  ASSIGN_OR_RETURN(program->statements, ParseJinja(program->source));
  return JinjaTemplate(std::move(program));
}

absl::StatusOr<std::string> JinjaTemplate::Render(const JinjaDict& variables,
                                                  absl::Time now) const {
  JinjaScope builtins, given, own;
  PutBuiltins(now, builtins.values);
  given.values = variables;
  given.outer = &builtins;
  own.outer = &given;
  int64_t bytes = 0;
  for (const auto& [name, value] : variables.entries) bytes += TextBytes(value);
  return JinjaEvaluator(program_->source).Run(program_->statements, bytes, own);
}

}  // namespace tprun
