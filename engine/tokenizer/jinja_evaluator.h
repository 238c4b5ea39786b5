#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/jinja_ast.h"

namespace tprun {

// The names that are known in a place; those around it count where it has none of its own.
struct JinjaScope {
  JinjaDict values;
  JinjaScope* outer = nullptr;
};

// Carries out the statements of a template once. All work counts against a bound.
class JinjaEvaluator {
 public:
  // `source` is what positions are told of.
  explicit JinjaEvaluator(absl::string_view source) : source_(source) {}

  // What the statements write. `globals` get what they set; they hold `given_bytes` of text.
  absl::StatusOr<std::string> Run(const std::vector<JinjaStatement>& statements,
                                  int64_t given_bytes, JinjaScope& globals);

 private:
  enum class Flow { kNext, kBreak, kContinue };
  using Value = absl::StatusOr<JinjaValue>;

  absl::StatusOr<Flow> Execute(const std::vector<JinjaStatement>& statements, JinjaScope& scope,
                               std::string& out);
  absl::StatusOr<Flow> ExecuteOne(const JinjaStatement& statement, JinjaScope& scope,
                                  std::string& out);
  absl::StatusOr<Flow> For(const JinjaStatement& statement, JinjaScope& scope, std::string& out);
  absl::StatusOr<JinjaList> LoopElements(const JinjaStatement& statement, JinjaScope& scope);
  absl::Status Set(const JinjaStatement& statement, JinjaScope& scope);
  Value Written(const JinjaStatement& statement, JinjaScope& scope);
  absl::Status Assign(const JinjaStatement& statement, JinjaValue value, JinjaScope& scope);
  void DefineMacro(const JinjaStatement& statement, JinjaScope& scope);
  Value CallMacro(const JinjaStatement& macro, JinjaScope& scope, const JinjaArguments& arguments);

  Value Evaluate(const JinjaExpression& expression, JinjaScope& scope);
  Value EvaluateUnchecked(const JinjaExpression& expression, JinjaScope& scope);
  Value List(const JinjaExpression& expression, JinjaScope& scope);
  Value Dict(const JinjaExpression& expression, JinjaScope& scope);
  Value Slice(const JinjaExpression& expression, JinjaScope& scope);
  Value Call(const JinjaExpression& expression, JinjaScope& scope);
  Value Compare(const JinjaExpression& expression, JinjaScope& scope);
  Value AndOr(const JinjaExpression& expression, JinjaScope& scope);
  Value Conditional(const JinjaExpression& expression, JinjaScope& scope);
  absl::StatusOr<JinjaArguments> Arguments(const JinjaExpression& expression, JinjaScope& scope);

  // With line and column, unless it has them.
  absl::Status At(size_t position, const absl::Status& status) const;
  absl::StatusOr<Flow> ExecuteAll(const std::vector<JinjaStatement>& statements, JinjaScope& scope,
                                  std::string& out);
  absl::Status Enter(size_t position);  // one deeper; --depth_ leaves again
  absl::Status Count(size_t position, int64_t steps = 1);
  absl::Status CountMade(const JinjaExpression& expression, const JinjaValue& value);

  absl::string_view source_;
  int calls_ = 0;  // of macros, within each other
  int depth_ = 0;
};

}  // namespace tprun
