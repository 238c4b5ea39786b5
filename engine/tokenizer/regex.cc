#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer/regex.h"

#include <pcre2.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

// Per match. A run of a million characters needs one or two million steps; a pattern that
// backtracks exponentially is stopped within seconds.
constexpr uint32_t kMatchLimit = 30'000'000;
constexpr uint32_t kHeapLimitKiB = 512 * 1024;

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  if (pcre2_get_error_message(code, buffer, sizeof(buffer)) < 0)
    return absl::StrCat("error ", code);
  return reinterpret_cast<const char*>(buffer);
}

// PCRE2's \\s has U+180E, which is no white space since Unicode 6.3 and was none for Oniguruma and
// Rust, which the patterns were written for: so \\s and \\S are spelt out.
constexpr char kSpaces[] =
    R"(\t-\r\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string TranslateEscape(char c, bool in_class) {
  if (c == 's') return in_class ? kSpaces : absl::StrCat("[", kSpaces, "]");
  if (c == 'S') return in_class ? "\\S\\x{180e}" : absl::StrCat("[^", kSpaces, "]");
  return {'\\', c};
}

// The same pattern for PCRE2. Classes within classes and their intersections, which PCRE2 would
// read as plain characters, are refused.
absl::StatusOr<std::string> TranslatePattern(absl::string_view pattern) {
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const char next = i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (c == '\\' && next != '\0') {
      result += TranslateEscape(next, in_class);
      ++i;
      continue;
    }
    const bool nested = in_class && ((c == '[' && next != ':') || (c == '&' && next == '&'));
    if (nested) {
      return absl::InvalidArgumentError(absl::StrCat("pattern '", pattern, "' at byte ", i,
                                                     ": nested classes are not supported"));
    }
    result.push_back(c);
    if (in_class && c == '[') {  // [:name:] up to its end
      const size_t end = pattern.find(":]", i + 2);
      if (end == absl::string_view::npos) continue;
      result.append(pattern.data() + i + 1, end + 1 - i);
      i = end + 1;
    } else if (!in_class && c == '[') {
      in_class = true;
      // A ] that comes first belongs to the class.
      if (next == '^') result.push_back(pattern[++i]);
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') result.push_back(pattern[++i]);
    } else if (c == ']') {
      in_class = false;
    }
  }
  return result;
}

}  // namespace

struct Regex::State {
  ~State() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
  std::string pattern;
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
};

Regex::Regex(std::unique_ptr<State> state) : state_(std::move(state)) {}
Regex::~Regex() = default;

absl::StatusOr<std::unique_ptr<Regex>> Regex::Compile(absl::string_view pattern) {
  int error = 0;
  PCRE2_SIZE position = 0;
  auto state = std::make_unique<State>();
  state->pattern = std::string(pattern);
  ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  state->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &position, nullptr);
  if (state->code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("pattern '", pattern, "' (as '", translated,
                                                   "' at byte ", position,
                                                   "): ", ErrorText(error)));
  }
  pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE);  // without it, the interpreter matches
  state->context = pcre2_match_context_create(nullptr);
  if (state->context == nullptr) return absl::ResourceExhaustedError("no memory for a pattern");
  pcre2_set_match_limit(state->context, kMatchLimit);
  pcre2_set_heap_limit(state->context, kHeapLimitKiB);
  return std::unique_ptr<Regex>(new Regex(std::move(state)));
}

absl::Status Regex::ForEachMatch(absl::string_view text,
                                 const std::function<void(size_t, size_t)>& found) const {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = EndOfValidUtf8(text, begin);
    if (end > begin) RETURN_IF_ERROR(MatchValidRun(text.substr(begin, end - begin), begin, found));
    if (end == text.size()) break;
    begin = end + ReadUtf8Char(text, end).length;
  }
  return absl::OkStatus();
}

absl::Status Regex::MatchValidRun(absl::string_view text, size_t offset,
                                  const std::function<void(size_t, size_t)>& found) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(state_->code, nullptr));
  if (data == nullptr) return absl::ResourceExhaustedError("no memory for matching a pattern");
  for (size_t position = 0; position < text.size();) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(state_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                         position, PCRE2_NO_UTF_CHECK | options, data.get(), state_->context);
    };
    int count = match(0);
    // The compiled code has a small stack of its own; the interpreter uses the heap.
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) count = match(PCRE2_NO_JIT);
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("pattern '", state_->pattern, "' on ",
                                                       text.size(),
                                                       " bytes of text: ", ErrorText(count)));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    // \K in a look-ahead can put the start behind the end.
    const size_t end = std::max(range[1], position);
    const size_t begin = std::min(std::max(range[0], position), end);
    found(offset + begin, offset + end);
    position = end > begin || end == text.size() ? end : end + ReadUtf8Char(text, end).length;
    if (position == begin && end == begin) ++position;
  }
  return absl::OkStatus();
}

std::string QuoteRegex(absl::string_view text) {
  std::string pattern;
  for (char c : text) {
    const bool plain = absl::ascii_isalnum(c) || static_cast<unsigned char>(c) >= 0x80;
    if (!plain) absl::StrAppend(&pattern, "\\x{", absl::Hex(static_cast<unsigned char>(c)), "}");
    if (plain) pattern.push_back(c);
  }
  return pattern;
}

}  // namespace tprun
