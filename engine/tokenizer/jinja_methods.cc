#include <utf8proc.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"
#include "engine/tokenizer/jinja_work.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

using Characters = std::vector<absl::string_view>;
using Result = absl::StatusOr<JinjaValue>;

// Python's str.isspace.
bool IsSpace(absl::string_view c) {
  if (c.size() == 1) return absl::ascii_isspace(c[0]) || (c[0] >= 0x1c && c[0] <= 0x1f);
  const uint32_t code = FirstCodePoint(c);
  return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) ||
         code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

absl::StatusOr<std::string> TextArgument(const JinjaArguments& arguments, size_t index,
                                         absl::string_view name) {
  const JinjaValue* value = arguments.Find(index, name);
  if (value != nullptr && value->is_string()) return value->string();
  return absl::InvalidArgumentError(absl::StrCat("wanted a text as argument ", index + 1,
                                                 ", found ",
                                                 value == nullptr ? "none" : value->TypeName()));
}

absl::StatusOr<int64_t> IntegerArgument(const JinjaArguments& arguments, size_t index,
                                        absl::string_view name, int64_t otherwise) {
  const JinjaValue* value = arguments.Find(index, name);
  if (value == nullptr || value->is_none()) return otherwise;
  if (value->is_int() || value->is_bool()) return value->integer();
  return absl::InvalidArgumentError(
      absl::StrCat("wanted a whole number as argument ", index + 1, ", found ", value->TypeName()));
}

std::string MapCharacters(absl::string_view text, utf8proc_int32_t (*map)(utf8proc_int32_t)) {
  std::string result;
  for (absl::string_view c : JinjaCharacters(text)) {
    if (c.size() == 1 && (c[0] & 0x80) != 0) {
      result += c[0];
    } else {
      AppendUtf8(static_cast<uint32_t>(map(static_cast<utf8proc_int32_t>(FirstCodePoint(c)))),
                 &result);
    }
  }
  return result;
}

Result Texts(const Characters& parts) {
  RETURN_IF_ERROR(JinjaWork::Spend(kJinjaStepsOfPart * static_cast<int64_t>(parts.size())));
  JinjaList texts;
  for (absl::string_view part : parts) texts.emplace_back(part);
  return JinjaValue(std::move(texts));
}

// At most `most` cuts, from the right if asked for; negative: everywhere.
Result SplitAtSpaces(absl::string_view text, int64_t most, bool from_right) {
  Characters all = JinjaCharacters(text);
  Characters words;
  const auto word_end = [&](auto begin, auto end) { return std::find_if(begin, end, IsSpace); };
  const auto word_begin = [&](auto begin, auto end) {
    return std::find_if_not(begin, end, IsSpace);
  };
  const auto between = [](absl::string_view a, absl::string_view b) {  // from a's begin to b's end
    return absl::string_view(a.data(), b.data() + b.size() - a.data());
  };
  if (from_right) {
    for (auto at = word_begin(all.rbegin(), all.rend()); at != all.rend();
         at = word_begin(at, all.rend())) {
      const bool last = most >= 0 && static_cast<int64_t>(words.size()) == most;
      const auto end = last ? all.rend() : word_end(at, all.rend());
      const absl::string_view first = last ? all.front() : *(end - 1);
      words.push_back(between(first, *at));
      at = end;
    }
    std::reverse(words.begin(), words.end());
  } else {
    for (auto at = word_begin(all.begin(), all.end()); at != all.end();
         at = word_begin(at, all.end())) {
      const bool last = most >= 0 && static_cast<int64_t>(words.size()) == most;
      const auto end = last ? all.end() : word_end(at, all.end());
      words.push_back(between(*at, *(end - 1)));
      at = end;
    }
  }
  return Texts(words);
}

absl::StatusOr<Characters> SplitAt(absl::string_view text, absl::string_view separator,
                                   int64_t most, bool from_right) {
  RETURN_IF_ERROR(SpendOnJinjaSearch(text, separator));
  Characters parts;
  while (most < 0 || static_cast<int64_t>(parts.size()) < most) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == absl::string_view::npos) break;
    const size_t behind = at + separator.size();
    parts.push_back(from_right ? text.substr(behind) : text.substr(0, at));
    text = from_right ? text.substr(0, at) : text.substr(behind);
  }
  parts.push_back(text);
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

Result Split(const std::string& text, const JinjaArguments& arguments, bool from_right) {
  ASSIGN_OR_RETURN(const int64_t most, IntegerArgument(arguments, 1, "maxsplit", -1));
  const JinjaValue* separator = arguments.Find(0, "sep");
  if (separator == nullptr || separator->is_none()) {
    return SplitAtSpaces(text, most, from_right);
  }
  ASSIGN_OR_RETURN(const std::string at, TextArgument(arguments, 0, "sep"));
  if (at.empty()) return absl::InvalidArgumentError("a text cannot be split at an empty one");
  ASSIGN_OR_RETURN(const Characters parts, SplitAt(text, at, most, from_right));
  return Texts(parts);
}

Result SplitLines(const std::string& text, const JinjaArguments& arguments) {
  const JinjaValue* argument = arguments.Find(0, "keepends");
  const bool keep = argument != nullptr && argument->IsTrue();
  Characters lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of("\n\r\v\f", at), text.size());
    size_t next = std::min(end + 1, text.size());
    if (end + 1 < text.size() && text[end] == '\r' && text[end + 1] == '\n') ++next;
    lines.push_back(absl::string_view(text).substr(at, (keep ? next : end) - at));
    at = next;
  }
  return Texts(lines);
}

// One text or any of several.
Result BeginsOrEnds(const std::string& text, const JinjaArguments& arguments, bool begins) {
  const JinjaValue* wanted = arguments.Find(0, "prefix");
  if (wanted == nullptr || !(wanted->is_string() || wanted->is_list())) {
    return absl::InvalidArgumentError("wanted a text or a list of texts");
  }
  for (const JinjaValue& one : wanted->is_list() ? wanted->list() : JinjaList{*wanted}) {
    if (!one.is_string()) return absl::InvalidArgumentError("wanted a list of texts");
    const auto compared = static_cast<int64_t>(std::min(text.size(), one.string().size()));
    RETURN_IF_ERROR(JinjaWork::Spend(1 + compared / kJinjaTextOfStep));
    if (begins ? absl::StartsWith(text, one.string()) : absl::EndsWith(text, one.string())) {
      return JinjaValue(true);
    }
  }
  return JinjaValue(false);
}

// Positions count characters.
Result Find(const std::string& text, const JinjaArguments& arguments, bool last, bool must) {
  ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, "sub"));
  if (arguments.positional.size() > 1) {
    return absl::InvalidArgumentError("only the text to find is supported as an argument");
  }
  RETURN_IF_ERROR(SpendOnJinjaSearch(text, part));
  const size_t at = last ? text.rfind(part) : text.find(part);
  if (at != std::string::npos) {
    return JinjaValue(static_cast<int64_t>(JinjaCharacters(text.substr(0, at)).size()));
  }
  if (must) return absl::InvalidArgumentError("substring not found");
  return JinjaValue(int64_t{-1});
}

// Fields {}, {0} and {name}, {{ and }}; no conversions.
Result Format(const std::string& text, const JinjaArguments& arguments) {
  std::string result;
  size_t next = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool twice = at + 1 < text.size() && text[at + 1] == text[at];
    if ((text[at] != '{' && text[at] != '}') || twice) {
      if (text[at] == '{' || text[at] == '}') ++at;
      result += text[at];
      continue;
    }
    const size_t end = text.find('}', at);
    if (text[at] == '}' || end == std::string::npos) {
      return absl::InvalidArgumentError("format: a bracket without its other half");
    }
    const std::string field = text.substr(at + 1, end - at - 1);
    size_t index = SIZE_MAX;
    if (field.empty()) {
      index = next++;
    } else if (!absl::SimpleAtoi(field, &index)) {
      index = SIZE_MAX;
    }
    const JinjaValue* value = arguments.Find(index, field);
    if (value == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("format: there is no argument for {", field, "}"));
    }
    absl::StrAppend(&result, value->Text());
    if (result.size() > kMostJinjaText)
      return absl::InvalidArgumentError("a text that is too long");
    at = end;
  }
  return JinjaValue(std::move(result));
}

Result Count(const std::string& text, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, "sub"));
  if (part.empty()) return JinjaValue(static_cast<int64_t>(JinjaCharacters(text).size()) + 1);
  ASSIGN_OR_RETURN(const Characters parts, SplitAt(text, part, -1, false));
  return JinjaValue(static_cast<int64_t>(parts.size()) - 1);
}

Result Join(const std::string& separator, const JinjaArguments& arguments) {
  const JinjaValue* list = arguments.Find(0, "iterable");
  if (list == nullptr) return absl::InvalidArgumentError("wanted a list to join");
  return ApplyJinjaFilter("join", *list, {{JinjaValue(separator)}, {}});
}

// All of them, and at least one.
Result AllAre(const std::string& text, bool (*is)(absl::string_view)) {
  const Characters all = JinjaCharacters(text);
  return JinjaValue(!all.empty() && std::all_of(all.begin(), all.end(), is));
}

bool IsDigit(absl::string_view c) { return c.size() == 1 && absl::ascii_isdigit(c[0]); }

bool IsLetter(absl::string_view c) {
  if (c.size() == 1) return absl::ascii_isalpha(c[0]);
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(FirstCodePoint(c)));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsLetterOrDigit(absl::string_view c) { return IsLetter(c) || IsDigit(c); }

// Some letter, and none of the other kind.
Result IsCase(const std::string& text, bool upper) {
  const bool some = JinjaUpper(text) != JinjaLower(text);
  return JinjaValue(some && (upper ? JinjaUpper(text) : JinjaLower(text)) == text);
}

Result TextMethod(const std::string& text, absl::string_view name,
                  const JinjaArguments& arguments) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const JinjaValue* characters = arguments.Find(0, "chars");
    return JinjaValue(JinjaStrip(text, characters, name != "rstrip", name != "lstrip"));
  }
  if (name == "split" || name == "rsplit") return Split(text, arguments, name == "rsplit");
  if (name == "splitlines") return SplitLines(text, arguments);
  if (name == "startswith" || name == "endswith") {
    return BeginsOrEnds(text, arguments, name == "startswith");
  }
  if (name == "find" || name == "rfind") return Find(text, arguments, name == "rfind", false);
  if (name == "index" || name == "rindex") return Find(text, arguments, name == "rindex", true);
  if (name == "count") return Count(text, arguments);
  if (name == "format") return Format(text, arguments);
  if (name == "join") return Join(text, arguments);
  if (name == "upper") return JinjaValue(JinjaUpper(text));
  if (name == "lower") return JinjaValue(JinjaLower(text));
  if (name == "capitalize") return JinjaValue(JinjaCapitals(text, JinjaCapital::kFirst));
  if (name == "title") return JinjaValue(JinjaCapitals(text, JinjaCapital::kWords));
  if (name == "isspace") return AllAre(text, IsSpace);
  if (name == "isdigit" || name == "isdecimal" || name == "isnumeric") return AllAre(text, IsDigit);
  if (name == "isalpha") return AllAre(text, IsLetter);
  if (name == "isalnum") return AllAre(text, IsLetterOrDigit);
  if (name == "isupper" || name == "islower") return IsCase(text, name == "isupper");
  ASSIGN_OR_RETURN(const std::string part, TextArgument(arguments, 0, "old"));
  if (name == "removeprefix") return JinjaValue(std::string(absl::StripPrefix(text, part)));
  if (name == "removesuffix") return JinjaValue(std::string(absl::StripSuffix(text, part)));
  ASSIGN_OR_RETURN(const std::string to, TextArgument(arguments, 1, "new"));  // replace
  ASSIGN_OR_RETURN(const int64_t most, IntegerArgument(arguments, 2, "count", -1));
  ASSIGN_OR_RETURN(std::string replaced, JinjaReplace(text, part, to, most));
  return JinjaValue(std::move(replaced));
}

Result DictMethod(const JinjaDict& dict, absl::string_view name, const JinjaArguments& arguments) {
  if (name == "get") {
    const JinjaValue* key = arguments.Find(0, "key");
    if (key == nullptr) return absl::InvalidArgumentError("get: wanted a key");
    if (const JinjaValue* found = dict.Find(*key)) return *found;
    const JinjaValue* otherwise = arguments.Find(1, "default");
    return otherwise != nullptr ? *otherwise : JinjaValue(JinjaValue::None{});
  }
  const auto entries = static_cast<int64_t>(dict.entries.size());
  RETURN_IF_ERROR(JinjaWork::Spend(kJinjaStepsOfPart * entries));
  JinjaList list;
  for (const auto& [key, value] : dict.entries) {
    if (name == "keys") {
      list.push_back(key);
    } else if (name == "values") {
      list.push_back(value);
    } else {
      list.push_back(JinjaValue::Tuple({key, value}));
    }
  }
  return JinjaValue(std::move(list));
}

Result ListMethod(const JinjaList& list, absl::string_view name, const JinjaArguments& arguments) {
  const JinjaValue* wanted = arguments.Find(0, "value");
  if (wanted == nullptr) return absl::InvalidArgumentError("wanted an argument");
  RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(list.size())));
  if (name == "count") {
    return JinjaValue(static_cast<int64_t>(std::count(list.begin(), list.end(), *wanted)));
  }
  const auto found = std::find(list.begin(), list.end(), *wanted);
  RETURN_IF_ERROR(JinjaWork::Spend(0));  // with them used up nothing is found
  if (found == list.end()) return absl::InvalidArgumentError("the list has no such element");
  return JinjaValue(static_cast<int64_t>(found - list.begin()));
}

constexpr absl::string_view kTextMethods[] = {
    "strip",      "lstrip",   "rstrip",  "split",     "rsplit",       "splitlines",
    "startswith", "endswith", "find",    "rfind",     "index",        "rindex",
    "count",      "join",     "format",  "upper",     "lower",        "title",
    "capitalize", "isspace",  "isdigit", "isdecimal", "isnumeric",    "isalpha",
    "isalnum",    "isupper",  "islower", "replace",   "removeprefix", "removesuffix"};
constexpr absl::string_view kDictMethods[] = {"get", "items", "keys", "values"};
constexpr absl::string_view kListMethods[] = {"index", "count"};

template <size_t n>
bool IsOneOf(absl::string_view name, const absl::string_view (&names)[n]) {
  return std::find(names, names + n, name) != names + n;
}

}  // namespace

std::string JinjaStrip(absl::string_view text, const JinjaValue* characters, bool left,
                       bool right) {
  Characters all = JinjaCharacters(text);
  std::set<absl::string_view> set;
  const bool given = characters != nullptr && characters->is_string();
  if (given) {
    for (absl::string_view c : JinjaCharacters(characters->string())) set.insert(c);
  }
  const auto goes = [&](absl::string_view c) { return given ? set.count(c) > 0 : IsSpace(c); };
  const auto begin = left ? std::find_if_not(all.begin(), all.end(), goes) : all.begin();
  auto end = all.end();
  while (right && end != begin && goes(*(end - 1))) --end;
  if (begin == end) return "";
  return std::string(begin->data(), (end - 1)->data() + (end - 1)->size() - begin->data());
}

absl::StatusOr<std::string> JinjaReplace(const std::string& text, const std::string& from,
                                         const std::string& to, int64_t most) {
  RETURN_IF_ERROR(SpendOnJinjaSearch(text, from));
  std::string result;
  size_t at = 0;
  for (int64_t done = 0; most < 0 || done < most; ++done) {
    // An empty `from` is in front of each character and at the end.
    const size_t next = from.empty() ? at : text.find(from, at);
    if (next > text.size()) break;
    absl::StrAppend(&result, absl::string_view(text).substr(at, next - at), to);
    at = next + from.size();
    if (from.empty()) {
      if (at == text.size()) return result;
      const Utf8Char c = ReadUtf8Char(text, at);
      const size_t length = c.valid ? c.length : 1;
      result.append(text, at, length);
      at += length;
    }
    if (result.size() > kMostJinjaText) {
      return absl::InvalidArgumentError("a text that is too long");
    }
  }
  return result + text.substr(at);
}

std::string JinjaLower(absl::string_view text) { return MapCharacters(text, utf8proc_tolower); }
std::string JinjaUpper(absl::string_view text) { return MapCharacters(text, utf8proc_toupper); }

std::string JinjaCapitals(absl::string_view text, JinjaCapital which) {
  constexpr absl::string_view kBeforeWords = "-({[<";
  std::string result;
  bool begins = true;
  for (absl::string_view c : JinjaCharacters(text)) {
    absl::StrAppend(&result, begins ? JinjaUpper(c) : JinjaLower(c));
    begins = (which == JinjaCapital::kWords && !IsLetter(c)) ||
             (which == JinjaCapital::kTitle && (IsSpace(c) || absl::StrContains(kBeforeWords, c)));
  }
  return result;
}

bool HasJinjaMethod(const JinjaValue& value, absl::string_view name) {
  if (value.is_string()) return IsOneOf(name, kTextMethods);
  if (value.is_list()) return IsOneOf(name, kListMethods);
  return value.is_dict() && !value.dict().is_namespace && IsOneOf(name, kDictMethods);
}

Result CallJinjaMethod(const JinjaValue& value, absl::string_view name,
                       const JinjaArguments& arguments) {
  if (value.is_string()) return TextMethod(value.string(), name, arguments);
  if (value.is_list()) return ListMethod(value.list(), name, arguments);
  return DictMethod(value.dict(), name, arguments);
}

}  // namespace tprun
