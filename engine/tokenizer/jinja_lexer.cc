#include "engine/tokenizer/jinja_lexer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_'; }
bool IsNameChar(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// Longer ones first.
constexpr absl::string_view kOperators[] = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  ".", ":", "|",
                                            ",",  "(",  ")",  "[",  "]",  "{",  "}"};

class Splitter {
 public:
  explicit Splitter(absl::string_view source) : source_(source) {}

  absl::StatusOr<std::vector<JinjaPiece>> Split() {
    while (at_ < source_.size()) {
      const size_t tag = FindTag(at_);
      if (tag == absl::string_view::npos) {
        AddText(at_, source_.substr(at_));
        break;
      }
      const char kind = source_[tag + 1];
      TakeText(tag, kind != '{');
      at_ = tag + 2;
      if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
      RETURN_IF_ERROR(kind == '#' ? SkipComment(tag) : ReadTag(tag, kind));
    }
    return std::move(pieces_);
  }

 private:
  size_t FindTag(size_t from) const {
    for (size_t at = source_.find('{', from); at != absl::string_view::npos;
         at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() &&
          absl::string_view("{%#").find(source_[at + 1]) != absl::string_view::npos) {
        return at;
      }
    }
    return absl::string_view::npos;
  }

  void AddText(size_t position, absl::string_view text) {
    if (text.empty()) return;
    JinjaPiece piece;
    piece.text = std::string(text);
    piece.position = position;
    pieces_.push_back(std::move(piece));
  }

  // The text in front of a tag, without the white space that the tag takes.
  void TakeText(size_t tag, bool is_block) {
    absl::string_view text = source_.substr(at_, tag - at_);
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : ' ';
    if (sign == '-') {
      text = absl::StripTrailingAsciiWhitespace(text);
    } else if (is_block && sign != '+') {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == absl::string_view::npos ? 0 : newline + 1;
      const bool begins_line = line > 0 || line_starts_;
      if (begins_line && absl::StripAsciiWhitespace(text.substr(line)).empty()) {
        text = text.substr(0, line);
      }
    }
    AddText(at_, text);
  }

  // Behind the closing bracket of a tag, `sign` in front of it.
  void Leave(size_t end, char sign, bool is_block) {
    at_ = end;
    if (sign == '-') {
      while (at_ < source_.size() && absl::ascii_isspace(source_[at_])) ++at_;
    } else if (is_block && sign != '+' && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
    line_starts_ = source_[at_ - 1] == '\n';
  }

  absl::Status SkipComment(size_t tag) {
    const size_t end = source_.find("#}", at_);
    if (end == absl::string_view::npos) return Error(tag, "a comment without its end, #}");
    Leave(end + 2, end > at_ ? source_[end - 1] : ' ', true);
    return absl::OkStatus();
  }

  absl::Status ReadTag(size_t tag, char kind) {
    JinjaPiece piece;
    piece.kind = kind == '{' ? JinjaPiece::Kind::kOutput : JinjaPiece::Kind::kStatement;
    piece.position = tag;
    const absl::string_view close = kind == '{' ? "}}" : "%}";
    int depth = 0;
    while (true) {
      while (at_ < source_.size() && absl::ascii_isspace(source_[at_])) ++at_;
      const absl::string_view rest = source_.substr(at_);
      if (rest.empty()) return Error(tag, absl::StrCat("a tag without its end, ", close));
      const bool signed_close = (rest[0] == '-' || (rest[0] == '+' && kind == '%')) &&
                                absl::StartsWith(rest.substr(1), close);
      if (depth == 0 && (signed_close || absl::StartsWith(rest, close))) {
        const size_t end = at_ + (signed_close ? 3 : 2);
        const bool is_raw =
            kind == '%' && piece.tokens.size() == 1 && piece.tokens[0].text == "raw";
        Leave(end, signed_close ? rest[0] : is_raw ? '+' : ' ', kind == '%');
        if (is_raw) return ReadRaw(tag);
        break;
      }
      ASSIGN_OR_RETURN(JinjaToken token, ReadToken());
      if (token.kind == JinjaToken::Kind::kOperator) {
        if (absl::string_view("([{").find(token.text) != absl::string_view::npos) ++depth;
        if (absl::string_view(")]}").find(token.text) != absl::string_view::npos) --depth;
        if (depth < 0) return Error(token.position, "a closing bracket without an opening one");
      }
      piece.tokens.push_back(std::move(token));
    }
    piece.tokens.push_back({JinjaToken::Kind::kEnd, "", at_ - 1});
    pieces_.push_back(std::move(piece));
    return absl::OkStatus();
  }

  // Everything up to {% endraw %} is text.
  absl::Status ReadRaw(size_t tag) {
    for (size_t end = source_.find("{%", at_); end != absl::string_view::npos;
         end = source_.find("{%", end + 2)) {
      absl::string_view rest = source_.substr(end + 2);
      if (!absl::ConsumePrefix(&rest, "-")) absl::ConsumePrefix(&rest, "+");
      rest = absl::StripLeadingAsciiWhitespace(rest);
      if (!absl::ConsumePrefix(&rest, "endraw")) continue;
      rest = absl::StripLeadingAsciiWhitespace(rest);
      const char sign = !rest.empty() && (rest[0] == '-' || rest[0] == '+') ? rest[0] : ' ';
      if (sign != ' ') rest.remove_prefix(1);
      if (!absl::ConsumePrefix(&rest, "%}")) continue;
      TakeText(end, true);
      Leave(source_.size() - rest.size(), sign, true);
      return absl::OkStatus();
    }
    return Error(tag, "raw without its endraw");
  }

  absl::StatusOr<JinjaToken> ReadToken() {
    JinjaToken token;
    token.position = at_;
    const char c = source_[at_];
    if (IsNameStart(c)) {
      token.kind = JinjaToken::Kind::kName;
      while (at_ < source_.size() && IsNameChar(source_[at_])) token.text += source_[at_++];
      return token;
    }
    if (absl::ascii_isdigit(c)) return ReadNumber();
    if (c == '"' || c == '\'') return ReadString();
    for (absl::string_view op : kOperators) {
      if (!absl::StartsWith(source_.substr(at_), op)) continue;
      token.kind = JinjaToken::Kind::kOperator;
      token.text = std::string(op);
      at_ += op.size();
      return token;
    }
    return Error(at_, absl::StrCat("a character that means nothing here: ",
                                   absl::ascii_isprint(c) ? std::string(1, c) : "not ASCII"));
  }

  void ReadDigits(std::string& text) {
    for (; at_ < source_.size() && (absl::ascii_isdigit(source_[at_]) || source_[at_] == '_');
         ++at_) {
      if (source_[at_] != '_') text += source_[at_];
    }
  }

  bool DigitAt(size_t at) const { return at < source_.size() && absl::ascii_isdigit(source_[at]); }

  JinjaToken ReadNumber() {
    JinjaToken token = {JinjaToken::Kind::kInteger, "", at_};
    ReadDigits(token.text);
    if (at_ < source_.size() && source_[at_] == '.' && DigitAt(at_ + 1)) {
      token.kind = JinjaToken::Kind::kFloat;
      token.text += source_[at_++];
      ReadDigits(token.text);
    }
    if (at_ < source_.size() && (source_[at_] == 'e' || source_[at_] == 'E')) {
      const bool sign =
          at_ + 1 < source_.size() && (source_[at_ + 1] == '-' || source_[at_ + 1] == '+');
      if (DigitAt(at_ + 1 + (sign ? 1 : 0))) {
        token.kind = JinjaToken::Kind::kFloat;
        token.text += source_[at_++];
        if (sign) token.text += source_[at_++];
        ReadDigits(token.text);
      }
    }
    return token;
  }

  absl::StatusOr<JinjaToken> ReadString() {
    JinjaToken token = {JinjaToken::Kind::kString, "", at_};
    const char quote = source_[at_++];
    while (at_ < source_.size() && source_[at_] != quote) {
      if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        RETURN_IF_ERROR(ReadEscape(token.text));
      } else {
        token.text += source_[at_++];
      }
    }
    if (at_ >= source_.size()) return Error(token.position, "a string without its end");
    ++at_;
    return token;
  }

  absl::Status ReadEscape(std::string& text) {
    const size_t begin = at_;
    const char c = source_[at_ + 1];
    at_ += 2;
    constexpr absl::string_view kLetters = "ntrabfv\\'\"\n";
    constexpr absl::string_view kMeanings = "\n\t\r\a\b\f\v\\'\"";  // a newline at the end: nothing
    if (const size_t which = kLetters.find(c); which != absl::string_view::npos) {
      if (which < kMeanings.size()) text += kMeanings[which];
      return absl::OkStatus();
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits == 0) {
      text += {'\\', c};
      return absl::OkStatus();
    }
    const absl::string_view hex = source_.substr(at_, digits);
    uint32_t code = 0;
    if (hex.size() < digits || !std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit) ||
        !absl::SimpleHexAtoi(hex, &code) || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      return Error(begin, "a string with an escape that is no character");
    }
    at_ += digits;
    AppendUtf8(code, &text);
    return absl::OkStatus();
  }

  absl::Status Error(size_t position, absl::string_view message) const {
    return JinjaError(source_, position, message);
  }

  absl::string_view source_;
  size_t at_ = 0;
  bool line_starts_ = true;  // nothing but the end of a line stands in front of at_
  std::vector<JinjaPiece> pieces_;
};

}  // namespace

std::string NormalizeJinja(absl::string_view source) {
  std::string text = absl::StrReplaceAll(source, {{"\r\n", "\n"}, {"\r", "\n"}});
  if (absl::EndsWith(text, "\n")) text.pop_back();
  return text;
}

absl::StatusOr<std::vector<JinjaPiece>> SplitJinja(absl::string_view source) {
  return Splitter(source).Split();
}

namespace {

// A file's template must not steer the terminal that its error is written to.
std::string WithoutControls(absl::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = ReadUtf8Char(text, at);
    const absl::string_view bytes = text.substr(at, c.valid ? c.length : 1);
    const uint32_t code = c.valid ? FirstCodePoint(bytes) : 0;
    const bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    for (const char byte : bytes) {
      if (control) {
        absl::StrAppendFormat(&result, "\\x%02x", static_cast<unsigned char>(byte));
      } else {
        result += byte;
      }
    }
    at += bytes.size();
  }
  return result;
}

}  // namespace

absl::Status JinjaError(absl::string_view source, size_t position, absl::string_view message) {
  const absl::string_view before = source.substr(0, std::min(position, source.size()));
  const size_t newline = before.rfind('\n');
  const size_t line_begin = newline == absl::string_view::npos ? 0 : newline + 1;
  const auto is_character = [](char c) { return (c & 0xc0) != 0x80; };  // not within one of UTF-8
  return absl::InvalidArgumentError(absl::StrCat(
      "chat template, line ", 1 + std::count(before.begin(), before.end(), '\n'), ", column ",
      1 + std::count_if(before.begin() + line_begin, before.end(), is_character), ": ",
      WithoutControls(message)));
}

}  // namespace tprun
