#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_ast.h"
#include "engine/tokenizer/jinja_expression_parser.h"
#include "engine/tokenizer/jinja_lexer.h"

namespace tprun {
namespace {

using Kind = JinjaStatement::Kind;
using Statements = std::vector<JinjaStatement>;

constexpr int kDeepest = 60;  // blocks within each other

class Parser {
 public:
  Parser(absl::string_view source, const std::vector<JinjaPiece>& pieces)
      : source_(source), pieces_(pieces) {}

  absl::StatusOr<Statements> Parse() {
    Statements result;
    RETURN_IF_ERROR(Body({}, 0, result));
    return result;
  }

 private:
  // Statements up to a tag that begins with one of `ends`, whose piece is then the next; with no
  // ends, up to the end of the template.
  absl::Status Body(std::initializer_list<absl::string_view> ends, size_t opened_at,
                    Statements& body) {
    if (++depth_ > kDeepest) {
      return JinjaError(source_, opened_at,
                        absl::StrCat("more than ", kDeepest, " blocks within each other"));
    }
    for (; at_ < pieces_.size(); ++at_) {
      const JinjaPiece& piece = pieces_[at_];
      if (piece.kind != JinjaPiece::Kind::kStatement) {
        RETURN_IF_ERROR(TextOrOutput(piece, body));
        continue;
      }
      for (absl::string_view end : ends) {
        if (piece.tokens[0].text != end) continue;
        --depth_;
        return absl::OkStatus();
      }
      JinjaExpressionParser tag(source_, piece.tokens);
      JinjaStatement statement;
      statement.position = piece.position;
      RETURN_IF_ERROR(Tag(tag, statement));
      body.push_back(std::move(statement));
    }
    --depth_;
    if (ends.size() == 0) return absl::OkStatus();
    return JinjaError(source_, opened_at,
                      absl::StrCat("a block without its end, ", absl::StrJoin(ends, " or ")));
  }

  absl::Status TextOrOutput(const JinjaPiece& piece, Statements& body) {
    JinjaStatement statement;
    statement.position = piece.position;
    if (piece.kind == JinjaPiece::Kind::kText) {
      statement.name = piece.text;
    } else {
      statement.kind = Kind::kOutput;
      JinjaExpressionParser tag(source_, piece.tokens);
      ASSIGN_OR_RETURN(JinjaExpression value, tag.Elements());
      RETURN_IF_ERROR(tag.ExpectEnd());
      statement.expressions.push_back(std::move(value));
    }
    body.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status Tag(JinjaExpressionParser& tag, JinjaStatement& statement) {
    if (tag.TakeName("if")) return If(tag, statement);
    if (tag.TakeName("for")) return For(tag, statement);
    if (tag.TakeName("set")) return Set(tag, statement);
    if (tag.TakeName("macro")) return Macro(tag, statement);
    if (tag.TakeName("filter")) return Filter(tag, statement);
    // What transformers marks for training has no other meaning.
    if (tag.TakeName("generation")) {
      statement.kind = Kind::kGroup;
      return Until(tag, "endgeneration", statement);
    }
    if (tag.TakeName("break")) {
      statement.kind = Kind::kBreak;
    } else if (tag.TakeName("continue")) {
      statement.kind = Kind::kContinue;
    } else {
      return tag.Wanted(
          "if, for, set, macro, filter, generation, break, continue or raw (no "
          "other statement is supported)");
    }
    if (loops_ == 0) return JinjaError(source_, statement.position, "wanted within a loop only");
    return tag.ExpectEnd();
  }

  // The body of a block, with its closing tag.
  absl::Status Until(JinjaExpressionParser& tag, absl::string_view end, JinjaStatement& statement) {
    RETURN_IF_ERROR(tag.ExpectEnd());
    ++at_;
    RETURN_IF_ERROR(Body({end}, statement.position, statement.body));
    return Closed();
  }

  absl::Status Closed() {
    JinjaExpressionParser end(source_, pieces_[at_].tokens);
    ASSIGN_OR_RETURN(const std::string keyword, end.Name());
    if (keyword == "endmacro") end.Name().IgnoreError();  // may be said again
    return end.ExpectEnd();
  }

  absl::Status If(JinjaExpressionParser& tag, JinjaStatement& statement) {
    statement.kind = Kind::kIf;
    ASSIGN_OR_RETURN(JinjaExpression condition, tag.Expression());
    RETURN_IF_ERROR(tag.ExpectEnd());
    statement.expressions.push_back(std::move(condition));
    ++at_;
    RETURN_IF_ERROR(Body({"elif", "else", "endif"}, statement.position, statement.body));
    const JinjaPiece& end = pieces_[at_];
    JinjaExpressionParser next(source_, end.tokens);
    if (next.TakeName("elif")) {
      if (++depth_ > kDeepest) return next.Wanted("fewer branches");
      JinjaStatement other;
      other.position = end.position;
      RETURN_IF_ERROR(If(next, other));
      statement.otherwise.push_back(std::move(other));
      --depth_;
      return absl::OkStatus();
    }
    return Else(next, "endif", statement);
  }

  // "else" if it is there, and the end of the block.
  absl::Status Else(JinjaExpressionParser& next, absl::string_view end, JinjaStatement& statement) {
    if (next.TakeName("else")) {
      RETURN_IF_ERROR(next.ExpectEnd());
      ++at_;
      RETURN_IF_ERROR(Body({end}, statement.position, statement.otherwise));
    }
    return Closed();
  }

  absl::Status For(JinjaExpressionParser& tag, JinjaStatement& statement) {
    statement.kind = Kind::kFor;
    RETURN_IF_ERROR(Names(tag, statement));
    if (!tag.TakeName("in")) return tag.Wanted("in");
    ASSIGN_OR_RETURN(JinjaExpression over, tag.Elements(/*conditions=*/false));
    statement.expressions.push_back(std::move(over));
    if (tag.TakeName("if")) {
      ASSIGN_OR_RETURN(JinjaExpression condition, tag.Expression());
      statement.expressions.push_back(std::move(condition));
    }
    if (tag.IsName("recursive")) {
      return JinjaError(source_, tag.token().position, "recursive loops are not supported");
    }
    RETURN_IF_ERROR(tag.ExpectEnd());
    ++at_;
    ++loops_;
    RETURN_IF_ERROR(Body({"else", "endfor"}, statement.position, statement.body));
    --loops_;
    JinjaExpressionParser next(source_, pieces_[at_].tokens);
    return Else(next, "endfor", statement);
  }

  // "a" or "a, b" or "(a, b)"
  absl::Status Names(JinjaExpressionParser& tag, JinjaStatement& statement) {
    const bool brackets = tag.TakeOperator("(");
    do {
      ASSIGN_OR_RETURN(std::string name, tag.Name());
      statement.names.push_back(std::move(name));
    } while (tag.TakeOperator(","));
    return brackets ? tag.Expect(")") : absl::OkStatus();
  }

  absl::Status Set(JinjaExpressionParser& tag, JinjaStatement& statement) {
    statement.kind = Kind::kSet;
    RETURN_IF_ERROR(Names(tag, statement));
    if (statement.names.size() == 1 && tag.TakeOperator(".")) {
      ASSIGN_OR_RETURN(statement.name, tag.Name());
    }
    if (tag.TakeOperator("=")) {
      ASSIGN_OR_RETURN(JinjaExpression value, tag.Elements());
      statement.expressions.push_back(std::move(value));
      return tag.ExpectEnd();
    }
    if (statement.names.size() > 1) return tag.Wanted("=");
    statement.kind = Kind::kSetBlock;
    if (!tag.TakeOperator("|")) return Written(tag, "endset", statement);
    return FiltersAndBlock(tag, "endset", statement);
  }

  absl::Status Filter(JinjaExpressionParser& tag, JinjaStatement& statement) {
    statement.kind = Kind::kFilter;
    return FiltersAndBlock(tag, "endfilter", statement);
  }

  absl::Status FiltersAndBlock(JinjaExpressionParser& tag, absl::string_view end,
                               JinjaStatement& statement) {
    ASSIGN_OR_RETURN(JinjaExpression filters, tag.FiltersOfBlock());
    statement.expressions.push_back(std::move(filters));
    return Written(tag, end, statement);
  }

  // A body whose text is a value: no loop around it can be left from within.
  absl::Status Written(JinjaExpressionParser& tag, absl::string_view end,
                       JinjaStatement& statement) {
    const int loops = std::exchange(loops_, 0);
    RETURN_IF_ERROR(Until(tag, end, statement));
    loops_ = loops;
    return absl::OkStatus();
  }

  absl::Status Macro(JinjaExpressionParser& tag, JinjaStatement& statement) {
    statement.kind = Kind::kMacro;
    ASSIGN_OR_RETURN(statement.name, tag.Name());
    RETURN_IF_ERROR(tag.Expect("("));
    while (!tag.TakeOperator(")")) {
      ASSIGN_OR_RETURN(std::string name, tag.Name());
      statement.names.push_back(std::move(name));
      if (tag.TakeOperator("=")) {
        ASSIGN_OR_RETURN(JinjaExpression value, tag.Expression());
        statement.expressions.push_back(std::move(value));
      } else if (!statement.expressions.empty()) {
        return tag.Wanted("a default, as the parameter before has one");
      }
      if (!tag.IsOperator(")")) RETURN_IF_ERROR(tag.Expect(","));
    }
    return Written(tag, "endmacro", statement);
  }

  absl::string_view source_;
  const std::vector<JinjaPiece>& pieces_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // around the tag
};

}  // namespace

absl::StatusOr<std::vector<JinjaStatement>> ParseJinja(absl::string_view source) {
  ASSIGN_OR_RETURN(const std::vector<JinjaPiece> pieces, SplitJinja(source));
  return Parser(source, pieces).Parse();
}

}  // namespace tprun
