#include "engine/tokenizer/jinja_expression_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

// Precedence as in Jinja's parser.py: filters bind closer than a sign, ~ closer than +.

namespace tprun {
namespace {

constexpr int kDeepest = 100;  // expressions within each other

}  // namespace

JinjaExpression JinjaExpressionParser::Node(Kind kind) const {
  JinjaExpression node;
  node.kind = kind;
  node.position = token().position;
  return node;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Around(Kind kind, size_t position,
                                                              JinjaExpression first) const {
  if (first.height > kDeepest) {
    return JinjaError(source_, position,
                      absl::StrCat("more than ", kDeepest, " expressions within each other"));
  }
  JinjaExpression node;
  node.kind = kind;
  node.position = position;
  Add(std::move(first), node);
  return node;
}

void JinjaExpressionParser::Add(JinjaExpression operand, JinjaExpression& node) {
  node.height = std::max(node.height, operand.height + 1);
  node.operands.push_back(std::move(operand));
}

bool JinjaExpressionParser::IsOperator(absl::string_view text) const {
  return token().kind == JinjaToken::Kind::kOperator && token().text == text;
}

bool JinjaExpressionParser::IsName(absl::string_view text) const {
  return token().kind == JinjaToken::Kind::kName && token().text == text;
}

bool JinjaExpressionParser::TakeOperator(absl::string_view text) {
  const bool is = IsOperator(text);
  at_ += is ? 1 : 0;
  return is;
}

bool JinjaExpressionParser::TakeName(absl::string_view text) {
  const bool is = IsName(text);
  at_ += is ? 1 : 0;
  return is;
}

absl::Status JinjaExpressionParser::Wanted(absl::string_view what) const {
  const std::string found = token().kind == JinjaToken::Kind::kEnd      ? "the end of the tag"
                            : token().kind == JinjaToken::Kind::kString ? "a string"
                                                                        : token().text;
  return JinjaError(source_, token().position, absl::StrCat("wanted ", what, ", found ", found));
}

absl::Status JinjaExpressionParser::Expect(absl::string_view op) {
  return TakeOperator(op) ? absl::OkStatus() : Wanted(op);
}

absl::Status JinjaExpressionParser::ExpectEnd() {
  return token().kind == JinjaToken::Kind::kEnd ? absl::OkStatus() : Wanted("the end of the tag");
}

absl::StatusOr<std::string> JinjaExpressionParser::Name() {
  if (token().kind != JinjaToken::Kind::kName) return Wanted("a name");
  return tokens_[at_++].text;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Expression() {
  if (++depth_ > kDeepest) {
    return JinjaError(source_, token().position,
                      absl::StrCat("more than ", kDeepest, " expressions within each other"));
  }
  ASSIGN_OR_RETURN(JinjaExpression result, Or());
  while (IsName("if")) {
    ASSIGN_OR_RETURN(JinjaExpression node,
                     Around(Kind::kConditional, token().position, std::move(result)));
    ++at_;
    ASSIGN_OR_RETURN(JinjaExpression condition, Or());
    Add(std::move(condition), node);
    if (TakeName("else")) {
      ASSIGN_OR_RETURN(JinjaExpression otherwise, Expression());
      Add(std::move(otherwise), node);
    }
    result = std::move(node);
  }
  --depth_;
  return result;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Elements(bool conditions) {
  const Method next = conditions ? &JinjaExpressionParser::Expression : &JinjaExpressionParser::Or;
  ASSIGN_OR_RETURN(JinjaExpression first, (this->*next)());
  if (!IsOperator(",")) return first;
  ASSIGN_OR_RETURN(JinjaExpression list, Around(Kind::kList, first.position, std::move(first)));
  list.name = kJinjaTuple;
  while (TakeOperator(",") && token().kind != JinjaToken::Kind::kEnd && !IsName("if")) {
    ASSIGN_OR_RETURN(JinjaExpression element, (this->*next)());
    Add(std::move(element), list);
  }
  return list;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Or() {
  return Joined(Kind::kOr, "or", &JinjaExpressionParser::And);
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::And() {
  return Joined(Kind::kAnd, "and", &JinjaExpressionParser::Not);
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Joined(Kind kind, absl::string_view word,
                                                              Method next) {
  ASSIGN_OR_RETURN(JinjaExpression result, (this->*next)());
  while (IsName(word)) {
    ASSIGN_OR_RETURN(JinjaExpression node, Around(kind, token().position, std::move(result)));
    ++at_;
    ASSIGN_OR_RETURN(JinjaExpression right, (this->*next)());
    Add(std::move(right), node);
    result = std::move(node);
  }
  return result;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Not() {
  if (!IsName("not")) return Compare();
  const size_t position = token().position;
  int count = 0;
  while (TakeName("not")) ++count;
  ASSIGN_OR_RETURN(JinjaExpression result, Compare());
  for (count = 2 - count % 2; count > 0; --count) {  // odd or even is all that matters
    ASSIGN_OR_RETURN(result, Around(Kind::kNot, position, std::move(result)));
  }
  return result;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Compare() {
  ASSIGN_OR_RETURN(JinjaExpression first, Sum());
  ASSIGN_OR_RETURN(JinjaExpression node,
                   Around(Kind::kCompare, token().position, std::move(first)));
  while (true) {
    std::string op;
    if (token().kind == JinjaToken::Kind::kOperator) {
      for (absl::string_view known : {"==", "!=", "<", "<=", ">", ">="}) {
        if (token().text == known) op = std::string(known);
      }
    } else if (IsName("in")) {
      op = "in";
    } else if (IsName("not") && tokens_[at_ + 1].text == "in") {
      op = "not in";
      ++at_;
    }
    if (op.empty()) break;
    ++at_;
    ASSIGN_OR_RETURN(JinjaExpression right, Sum());
    node.names.push_back(std::move(op));
    Add(std::move(right), node);
  }
  if (!node.names.empty()) return node;
  return std::move(node.operands[0]);
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::LeftToRight(
    Method next, std::initializer_list<absl::string_view> operators) {
  ASSIGN_OR_RETURN(JinjaExpression result, (this->*next)());
  while (true) {
    bool found = false;
    for (absl::string_view op : operators) found |= IsOperator(op);
    if (!found) return result;
    ASSIGN_OR_RETURN(JinjaExpression node,
                     Around(Kind::kBinary, token().position, std::move(result)));
    node.name = tokens_[at_++].text;
    ASSIGN_OR_RETURN(JinjaExpression right, (this->*next)());
    Add(std::move(right), node);
    result = std::move(node);
  }
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Sum() {
  return LeftToRight(&JinjaExpressionParser::Concatenation, {"+", "-"});
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Concatenation() {
  return LeftToRight(&JinjaExpressionParser::Product, {"~"});
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Product() {
  return LeftToRight(&JinjaExpressionParser::Power, {"*", "/", "//", "%"});
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Power() {
  return LeftToRight(&JinjaExpressionParser::Unary, {"**"});
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Unary() {
  ASSIGN_OR_RETURN(JinjaExpression result, UnaryWithoutFilters());
  return Filters(std::move(result));
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::UnaryWithoutFilters() {
  const size_t position = token().position;
  if (IsOperator("-") || IsOperator("+")) {
    if (++depth_ > kDeepest) return Wanted("fewer signs in a row");
    const bool negative = IsOperator("-");
    ++at_;
    ASSIGN_OR_RETURN(JinjaExpression operand, UnaryWithoutFilters());
    --depth_;
    if (!negative) return operand;
    return Around(Kind::kNegative, position, std::move(operand));
  }
  ASSIGN_OR_RETURN(JinjaExpression result, Primary());
  return Postfix(std::move(result));
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Primary() {
  JinjaExpression node = Node(Kind::kLiteral);
  switch (token().kind) {
    case JinjaToken::Kind::kString:
      node.value = std::string();
      for (std::string text; token().kind == JinjaToken::Kind::kString; node.value = text) {
        text += tokens_[at_++].text;
      }
      return node;
    case JinjaToken::Kind::kInteger:
    case JinjaToken::Kind::kFloat:
      return Number();
    case JinjaToken::Kind::kName: {
      const std::string name = tokens_[at_++].text;
      if (name == "true" || name == "True") {
        node.value = true;
      } else if (name == "false" || name == "False") {
        node.value = false;
      } else if (name == "none" || name == "None") {
        node.value = JinjaValue::None{};
      } else {
        node.kind = Kind::kName;
        node.name = name;
      }
      return node;
    }
    default:
      break;
  }
  if (TakeOperator("[")) return List("]");
  if (TakeOperator("{")) return Dict();
  if (!TakeOperator("(")) return Wanted("an expression");
  if (IsOperator(")")) {
    ASSIGN_OR_RETURN(node, List(")"));
    node.name = kJinjaTuple;
    return node;
  }
  ASSIGN_OR_RETURN(node, Expression());
  if (!IsOperator(",")) {
    RETURN_IF_ERROR(Expect(")"));
    return node;
  }
  ++at_;
  ASSIGN_OR_RETURN(JinjaExpression tuple, List(")"));
  tuple.name = kJinjaTuple;
  tuple.height = std::max(tuple.height, node.height + 1);
  tuple.operands.insert(tuple.operands.begin(), std::move(node));
  return tuple;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Number() {
  JinjaExpression node = Node(Kind::kLiteral);
  const JinjaToken& number = tokens_[at_++];
  int64_t integer = 0;
  double value = 0;
  if (number.kind == JinjaToken::Kind::kInteger) {
    if (!absl::SimpleAtoi(number.text, &integer)) {
      return JinjaError(source_, number.position, "a number beyond 64 bits");
    }
    node.value = integer;
  } else {
    if (!absl::SimpleAtod(number.text, &value)) {
      return JinjaError(source_, number.position, "a number that cannot be read");
    }
    node.value = value;
  }
  return node;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::List(absl::string_view close) {
  JinjaExpression list = Node(Kind::kList);
  while (!TakeOperator(close)) {
    ASSIGN_OR_RETURN(JinjaExpression element, Expression());
    Add(std::move(element), list);
    if (!IsOperator(close)) RETURN_IF_ERROR(Expect(","));
  }
  return list;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Dict() {
  JinjaExpression dict = Node(Kind::kDict);
  while (!TakeOperator("}")) {
    ASSIGN_OR_RETURN(JinjaExpression key, Expression());
    RETURN_IF_ERROR(Expect(":"));
    ASSIGN_OR_RETURN(JinjaExpression value, Expression());
    Add(std::move(key), dict);
    Add(std::move(value), dict);
    if (!IsOperator("}")) RETURN_IF_ERROR(Expect(","));
  }
  return dict;
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Postfix(JinjaExpression of) {
  while (true) {
    const size_t position = token().position;
    if (TakeOperator(".")) {
      ASSIGN_OR_RETURN(of, Around(Kind::kAttribute, position, std::move(of)));
      if (token().kind == JinjaToken::Kind::kInteger) {
        of.kind = Kind::kItem;
        ASSIGN_OR_RETURN(JinjaExpression index, Number());
        Add(std::move(index), of);
      } else {
        ASSIGN_OR_RETURN(of.name, Name());
      }
    } else if (TakeOperator("[")) {
      ASSIGN_OR_RETURN(of, Subscript(std::move(of)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(of, Around(Kind::kCall, position, std::move(of)));
      RETURN_IF_ERROR(Arguments(of));
    } else {
      return of;
    }
  }
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Subscript(JinjaExpression of) {
  ASSIGN_OR_RETURN(JinjaExpression node, Around(Kind::kItem, token().position, std::move(of)));
  JinjaExpression nothing = Node(Kind::kLiteral);
  nothing.value = JinjaValue::None{};
  while (!TakeOperator("]")) {
    if (TakeOperator(":")) {
      node.kind = Kind::kSlice;
      if (node.operands.size() == 1) Add(nothing, node);
      if (IsOperator(":") || IsOperator("]")) Add(nothing, node);
      continue;
    }
    if (node.operands.size() > 1 && node.kind == Kind::kItem) return Wanted("]");
    if (node.operands.size() > 3) return Wanted("]");
    ASSIGN_OR_RETURN(JinjaExpression index, Expression());
    Add(std::move(index), node);
    if (!IsOperator("]") && !IsOperator(":")) return Wanted("]");
  }
  if (node.operands.size() == 1) return Wanted("an index");
  if (node.kind == Kind::kSlice) {
    if (node.operands.size() > 4) node.operands.resize(4);
    while (node.operands.size() < 4) Add(nothing, node);
  }
  return node;
}

absl::Status JinjaExpressionParser::Arguments(JinjaExpression& call) {
  RETURN_IF_ERROR(Expect("("));
  while (!TakeOperator(")")) {
    const size_t position = token().position;
    const bool spread = TakeOperator("*"), named = TakeOperator("**");
    if (named) {
      call.names.push_back("**");
    } else if (!spread && token().kind == JinjaToken::Kind::kName && tokens_[at_ + 1].text == "=" &&
               tokens_[at_ + 1].kind == JinjaToken::Kind::kOperator) {
      call.names.push_back(token().text);
      at_ += 2;
    } else if (!call.names.empty()) {
      return Wanted("a named argument, as they follow the others");
    }
    ASSIGN_OR_RETURN(JinjaExpression argument, Expression());
    if (spread) {
      ASSIGN_OR_RETURN(argument, Around(Kind::kSpread, position, std::move(argument)));
    }
    Add(std::move(argument), call);
    if (!IsOperator(")")) RETURN_IF_ERROR(Expect(","));
  }
  return absl::OkStatus();
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Filters(JinjaExpression of) {
  while (true) {
    const size_t position = token().position;
    if (TakeOperator("|")) {
      ASSIGN_OR_RETURN(of, Around(Kind::kFilter, position, std::move(of)));
      ASSIGN_OR_RETURN(of.name, Name());
      if (IsOperator("(")) RETURN_IF_ERROR(Arguments(of));
    } else if (TakeName("is")) {
      ASSIGN_OR_RETURN(of, Test(std::move(of)));
    } else if (IsOperator("(")) {
      ASSIGN_OR_RETURN(of, Around(Kind::kCall, position, std::move(of)));
      RETURN_IF_ERROR(Arguments(of));
    } else {
      return of;
    }
  }
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::FiltersOfBlock() {
  const size_t position = token().position;
  JinjaExpression written = Node(Kind::kName);
  written.name = kJinjaWritten;
  ASSIGN_OR_RETURN(JinjaExpression filter, Around(Kind::kFilter, position, std::move(written)));
  ASSIGN_OR_RETURN(filter.name, Name());
  if (IsOperator("(")) RETURN_IF_ERROR(Arguments(filter));
  return Filters(std::move(filter));
}

absl::StatusOr<JinjaExpression> JinjaExpressionParser::Test(JinjaExpression of) {
  const size_t position = token().position;
  const bool negated = TakeName("not");
  ASSIGN_OR_RETURN(JinjaExpression node, Around(Kind::kTest, position, std::move(of)));
  ASSIGN_OR_RETURN(node.name, Name());
  const auto kind = token().kind;
  const bool opens = IsOperator("[") || IsOperator("{");
  const bool goes_on = IsName("else") || IsName("or") || IsName("and") || IsName("is") ||
                       IsName("if") || IsName("in") || IsName("not");
  if (IsOperator("(")) {
    RETURN_IF_ERROR(Arguments(node));
  } else if (kind != JinjaToken::Kind::kEnd && !goes_on &&
             (opens || kind != JinjaToken::Kind::kOperator)) {
    ASSIGN_OR_RETURN(JinjaExpression argument, Primary());
    ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    Add(std::move(argument), node);
  }
  if (!negated) return node;
  return Around(Kind::kNot, position, std::move(node));
}

}  // namespace tprun
