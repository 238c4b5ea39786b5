#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/jinja_ast.h"
#include "engine/tokenizer/jinja_lexer.h"

namespace tprun {

// Reads the tokens of one tag of `source`, which outlives it, from the front.
class JinjaExpressionParser {
 public:
  JinjaExpressionParser(absl::string_view source, const std::vector<JinjaToken>& tokens)
      : source_(source), tokens_(tokens) {}

  absl::StatusOr<JinjaExpression> Expression();
  absl::StatusOr<JinjaExpression> Or();  // without a condition behind it
  // "a, b" is a tuple; its elements may be conditions ("a if b") or not.
  absl::StatusOr<JinjaExpression> Elements(bool conditions = true);
  absl::StatusOr<std::string> Name();
  // "f|g(1)", filters of what a block writes.
  absl::StatusOr<JinjaExpression> FiltersOfBlock();

  bool IsOperator(absl::string_view text) const;
  bool IsName(absl::string_view text) const;
  bool TakeOperator(absl::string_view text);
  bool TakeName(absl::string_view text);
  absl::Status Expect(absl::string_view op);
  absl::Status ExpectEnd();
  const JinjaToken& token() const { return tokens_[at_]; }

  // At the token that is next; says what it is.
  absl::Status Wanted(absl::string_view what) const;

 private:
  using Kind = JinjaExpression::Kind;
  using Method = absl::StatusOr<JinjaExpression> (JinjaExpressionParser::*)();

  absl::StatusOr<JinjaExpression> And();
  absl::StatusOr<JinjaExpression> Not();
  absl::StatusOr<JinjaExpression> Compare();
  absl::StatusOr<JinjaExpression> Sum();
  absl::StatusOr<JinjaExpression> Concatenation();
  absl::StatusOr<JinjaExpression> Product();
  absl::StatusOr<JinjaExpression> Power();
  absl::StatusOr<JinjaExpression> Unary();
  absl::StatusOr<JinjaExpression> UnaryWithoutFilters();
  absl::StatusOr<JinjaExpression> Primary();
  absl::StatusOr<JinjaExpression> Number();
  absl::StatusOr<JinjaExpression> List(absl::string_view close);
  absl::StatusOr<JinjaExpression> Dict();
  absl::StatusOr<JinjaExpression> Postfix(JinjaExpression of);
  absl::StatusOr<JinjaExpression> Subscript(JinjaExpression of);
  absl::StatusOr<JinjaExpression> Filters(JinjaExpression of);
  absl::StatusOr<JinjaExpression> Test(JinjaExpression of);
  absl::Status Arguments(JinjaExpression& call);
  absl::StatusOr<JinjaExpression> Joined(Kind kind, absl::string_view word, Method next);
  absl::StatusOr<JinjaExpression> LeftToRight(Method next,
                                              std::initializer_list<absl::string_view> operators);
  JinjaExpression Node(Kind kind) const;
  // A node with this first operand; too high a tree is an error.
  absl::StatusOr<JinjaExpression> Around(Kind kind, size_t position, JinjaExpression first) const;
  static void Add(JinjaExpression operand, JinjaExpression& node);

  absl::string_view source_;
  const std::vector<JinjaToken>& tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace tprun
