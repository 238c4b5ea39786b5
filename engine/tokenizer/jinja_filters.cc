#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"
#include "engine/tokenizer/jinja_work.h"

// As in Jinja's filters.py; tojson as transformers has it.

namespace tprun {
namespace {

using Result = absl::StatusOr<JinjaValue>;
using Filter = Result (*)(const JinjaValue& value, const JinjaArguments& arguments);

bool Flag(const JinjaArguments& arguments, size_t index, absl::string_view name) {
  const JinjaValue* value = arguments.Find(index, name);
  return value != nullptr && value->IsTrue();
}

int64_t IntegerOr(const JinjaValue* value, int64_t otherwise) {
  return value != nullptr && value->is_int() ? value->integer() : otherwise;
}

// Of the elements of a list: those that are not the evaluator counts.
absl::Status SpendOnText(absl::string_view text) {
  return JinjaWork::Spend(1 + static_cast<int64_t>(text.size()) / kJinjaTextOfStep);
}

absl::Status SpendOn(const JinjaValue& element) {
  return SpendOnText(element.is_string() ? element.string() : "");
}

// "a.b" of a value.
Result Path(const JinjaValue& value, absl::string_view path) {
  RETURN_IF_ERROR(SpendOnText(path));
  JinjaValue at = value;
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    int64_t index = 0;
    if (absl::SimpleAtoi(name, &index)) {
      ASSIGN_OR_RETURN(at, JinjaItem(at, index));
    } else {
      ASSIGN_OR_RETURN(at, JinjaAttribute(at, name));
    }
  }
  return at;
}

// What counts of an element: itself, or the attribute that the arguments name.
Result KeyOf(const JinjaValue& element, const JinjaValue* attribute) {
  if (attribute == nullptr || attribute->is_none()) return element;
  return Path(element, attribute->Text());
}

// Texts without regard to case.
Result Folded(const JinjaValue& value) {
  RETURN_IF_ERROR(SpendOn(value));
  return value.is_string() ? JinjaValue(JinjaLower(value.string())) : value;
}

Result Length(const JinjaValue& value, const JinjaArguments&) {
  if (value.is_dict()) return JinjaValue(static_cast<int64_t>(value.dict().entries.size()));
  if (value.is_list()) return JinjaValue(static_cast<int64_t>(value.list().size()));
  if (value.is_string()) {
    return JinjaValue(static_cast<int64_t>(JinjaCharacters(value.string()).size()));
  }
  ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(value));
  return JinjaValue(static_cast<int64_t>(elements.size()));
}

Result ToJson(const JinjaValue& value, const JinjaArguments& arguments) {
  const JinjaValue* indent = arguments.Find(1, "indent");
  if (!arguments.positional.empty() || arguments.named.size() > (indent != nullptr ? 1 : 0)) {
    // ensure_ascii=false is what it does anyhow.
    for (const auto& [name, given] : arguments.named) {
      if (name == "indent" || (name == "ensure_ascii" && !given.IsTrue())) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("of tojson's arguments only indent is supported, found ", name));
    }
  }
  ASSIGN_OR_RETURN(
      std::string text,
      JinjaToJson(value, static_cast<int>(std::clamp<int64_t>(IntegerOr(indent, -1), -1, 16))));
  return JinjaValue(std::move(text));
}

Result Join(const JinjaValue& value, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(value));
  const JinjaValue* separator = arguments.Find(0, "d");
  std::string text;
  for (size_t i = 0; i < elements.size(); ++i) {
    ASSIGN_OR_RETURN(const JinjaValue key, KeyOf(elements[i], arguments.Find(1, "attribute")));
    absl::StrAppend(&text, i > 0 && separator != nullptr ? separator->Text() : "", key.Text());
    if (text.size() > kMostJinjaText) return absl::InvalidArgumentError("a text that is too long");
  }
  return JinjaValue(std::move(text));
}

Result Default(const JinjaValue& value, const JinjaArguments& arguments) {
  const bool replaced = value.is_undefined() || (Flag(arguments, 1, "boolean") && !value.IsTrue());
  if (!replaced) return value;
  const JinjaValue* otherwise = arguments.Find(0, "default_value");
  return otherwise != nullptr ? *otherwise : JinjaValue("");
}

Result FirstOrLast(const JinjaValue& value, bool first) {
  if ((value.is_list() || value.is_string()) && value.IsTrue()) {
    return JinjaItem(value, first ? int64_t{0} : int64_t{-1});
  }
  ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(value));
  if (elements.empty()) return JinjaValue::UndefinedOf(first ? "first" : "last");
  return first ? elements.front() : elements.back();
}

Result Reverse(const JinjaValue& value, const JinjaArguments&) {
  ASSIGN_OR_RETURN(JinjaList elements, JinjaElements(value));
  std::reverse(elements.begin(), elements.end());
  if (!value.is_string()) return JinjaValue(std::move(elements));
  return Join(elements, {});
}

Result Replace(const JinjaValue& value, const JinjaArguments& arguments) {
  const JinjaValue* from = arguments.Find(0, "old");
  const JinjaValue* to = arguments.Find(1, "new");
  if (from == nullptr || to == nullptr) return absl::InvalidArgumentError("wanted two texts");
  ASSIGN_OR_RETURN(std::string text, JinjaReplace(value.Text(), from->Text(), to->Text(),
                                                  IntegerOr(arguments.Find(2, "count"), -1)));
  return JinjaValue(std::move(text));
}

Result Number(const JinjaValue& value, const JinjaArguments& arguments, bool whole) {
  const JinjaValue* given = arguments.Find(0, "default");
  const JinjaValue otherwise = given != nullptr ? *given
                               : whole          ? JinjaValue(int64_t{0})
                                                : JinjaValue(0.0);
  double number = 0;
  int64_t integer = 0;
  if (value.is_string()) {
    const std::string text = JinjaStrip(value.string(), nullptr, true, true);
    if (whole && absl::SimpleAtoi(text, &integer)) return JinjaValue(integer);
    if (!absl::SimpleAtod(text, &number)) return otherwise;
  } else if (value.is_number()) {
    if (whole && !value.is_float()) return JinjaValue(value.integer());
    number = value.number();
  } else {
    return otherwise;
  }
  if (!whole) return JinjaValue(number);
  if (!(std::fabs(number) < 0x1p62)) return otherwise;
  return JinjaValue(static_cast<int64_t>(number));
}

// As Python's round: by the digits of the very number, halves to the even one.
double RoundFloat(double value, int places) {
  if (!std::isfinite(value) || places > 323) return value;
  if (places >= 0) return std::strtod(absl::StrFormat("%.*f", places, value).c_str(), nullptr);
  const long double scale = std::pow(10.0L, -places);
  return static_cast<double>(std::nearbyint(value / scale) * scale);
}

Result RoundInteger(int64_t value, int places) {
  if (places >= 0) return JinjaValue(value);
  if (places < -18) return JinjaValue(int64_t{0});
  int64_t scale = 1;
  for (int i = places; i < 0; ++i) scale *= 10;
  const int64_t rest = value % scale, size = rest < 0 ? -rest : rest;
  const int64_t low = value - rest;  // towards zero
  const bool away = size > scale - size || (size == scale - size && low / scale % 2 != 0);
  return away ? JinjaOperator("+", low, rest < 0 ? -scale : scale) : JinjaValue(low);
}

Result Round(const JinjaValue& value, const JinjaArguments& arguments) {
  if (!value.is_number()) return absl::InvalidArgumentError("wanted a number");
  const auto places = static_cast<int>(
      std::clamp<int64_t>(IntegerOr(arguments.Find(0, "precision"), 0), -400, 400));
  const JinjaValue* given = arguments.Find(1, "method");
  const std::string method = given == nullptr ? "common" : given->Text();
  if (method == "common" && value.is_float()) return JinjaValue(RoundFloat(value.number(), places));
  if (method == "common") return RoundInteger(value.integer(), places);
  const double scale = std::pow(10, std::clamp(places, -300, 300));
  const double scaled = value.number() * scale;
  if (method == "ceil") return JinjaValue(std::ceil(scaled) / scale);
  if (method == "floor") return JinjaValue(std::floor(scaled) / scale);
  return absl::InvalidArgumentError("wanted the method common, ceil or floor");
}

Result Abs(const JinjaValue& value, const JinjaArguments&) {
  if (value.is_float()) return JinjaValue(std::fabs(value.number()));
  if (!value.is_number()) return absl::InvalidArgumentError("wanted a number");
  return value.integer() < 0 ? JinjaOperator("-", int64_t{0}, value) : JinjaValue(value.integer());
}

// Every line but the first, as long as it is not empty, gets blanks in front.
Result Indent(const JinjaValue& value, const JinjaArguments& arguments) {
  const JinjaValue* width = arguments.Find(0, "width");
  const auto spaces = static_cast<size_t>(std::clamp<int64_t>(IntegerOr(width, 4), 0, 1000));
  const std::string by =
      width != nullptr && width->is_string() ? width->string() : std::string(spaces, ' ');
  const bool first = Flag(arguments, 1, "first"), blank = Flag(arguments, 2, "blank");
  std::string result = first ? by : "";
  bool begins = false;
  const std::string text = value.Text();
  for (size_t i = 0; i < text.size(); ++i) {
    if (begins && (blank || text[i] != '\n')) result += by;
    result += text[i];
    begins = text[i] == '\n';
    if (result.size() > kMostJinjaText) {
      return absl::InvalidArgumentError("a text that is too long");
    }
  }
  if (begins && blank) result += by;
  return JinjaValue(std::move(result));
}

Result Items(const JinjaValue& value, const JinjaArguments&) {
  if (value.is_undefined()) return JinjaValue(JinjaList{});
  if (!value.is_dict()) return absl::InvalidArgumentError("wanted a dict");
  return CallJinjaMethod(value, "items", {});
}

absl::Status SortBy(const JinjaValue* attribute, bool with_case, bool reverse, JinjaList& list) {
  std::vector<std::pair<JinjaValue, JinjaValue>> keyed;
  for (JinjaValue& element : list) {
    ASSIGN_OR_RETURN(JinjaValue key, KeyOf(element, attribute));
    if (!with_case) {
      ASSIGN_OR_RETURN(key, Folded(key));
    }
    keyed.emplace_back(std::move(key), std::move(element));
  }
  absl::Status status;
  // Errors while sorting leave an order that is not one: they are looked for before.
  for (const auto& entry : keyed) {
    status.Update(CompareJinja(keyed.front().first, entry.first).status());
  }
  RETURN_IF_ERROR(status);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    status.Update(JinjaWork::Spend(1));
    if (!status.ok()) return false;
    const absl::StatusOr<int> order = CompareJinja(a.first, b.first);
    return order.ok() && (reverse ? *order > 0 : *order < 0);
  });
  for (size_t i = 0; i < list.size(); ++i) list[i] = std::move(keyed[i].second);
  return status;
}

Result Sort(const JinjaValue& value, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(JinjaList list, JinjaElements(value));
  RETURN_IF_ERROR(SortBy(arguments.Find(2, "attribute"), Flag(arguments, 1, "case_sensitive"),
                         Flag(arguments, 0, "reverse"), list));
  return JinjaValue(std::move(list));
}

Result DictSort(const JinjaValue& value, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(const JinjaValue items, Items(value, {}));
  JinjaList list = items.list();
  const JinjaValue* by = arguments.Find(1, "by");
  const JinjaValue place = by != nullptr && by->Text() == "value" ? "1" : "0";
  RETURN_IF_ERROR(
      SortBy(&place, Flag(arguments, 0, "case_sensitive"), Flag(arguments, 2, "reverse"), list));
  return JinjaValue(std::move(list));
}

Result Extreme(const JinjaValue& value, const JinjaArguments& arguments, bool largest) {
  ASSIGN_OR_RETURN(JinjaList list, JinjaElements(value));
  if (list.empty()) return JinjaValue::UndefinedOf(largest ? "max" : "min");
  RETURN_IF_ERROR(
      SortBy(arguments.Find(1, "attribute"), Flag(arguments, 0, "case_sensitive"), largest, list));
  return list.front();
}

Result Sum(const JinjaValue& value, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(const JinjaList list, JinjaElements(value));
  const JinjaValue* start = arguments.Find(1, "start");
  JinjaValue sum = start != nullptr ? *start : JinjaValue(int64_t{0});
  for (const JinjaValue& element : list) {
    ASSIGN_OR_RETURN(const JinjaValue key, KeyOf(element, arguments.Find(0, "attribute")));
    ASSIGN_OR_RETURN(sum, JinjaOperator("+", sum, key));
  }
  return sum;
}

Result Unique(const JinjaValue& value, const JinjaArguments& arguments) {
  ASSIGN_OR_RETURN(const JinjaList list, JinjaElements(value));
  const bool with_case = Flag(arguments, 0, "case_sensitive");
  JinjaList keys, result;
  for (const JinjaValue& element : list) {
    ASSIGN_OR_RETURN(JinjaValue key, KeyOf(element, arguments.Find(1, "attribute")));
    if (!with_case) {
      ASSIGN_OR_RETURN(key, Folded(key));
    }
    RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(keys.size() / 16)));
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    keys.push_back(key);
    result.push_back(element);
  }
  return JinjaValue(std::move(result));
}

// The arguments behind the first `count`.
JinjaArguments Behind(const JinjaArguments& arguments, size_t count) {
  JinjaArguments rest;
  for (size_t i = count; i < arguments.positional.size(); ++i) {
    rest.positional.push_back(arguments.positional[i]);
  }
  return rest;
}

// map(attribute="a") or map("filter", ...)
Result Map(const JinjaValue& value, const JinjaArguments& arguments) {
  if (!value.IsTrue()) return JinjaValue(JinjaList{});
  ASSIGN_OR_RETURN(JinjaList list, JinjaElements(value));
  const JinjaValue* attribute = arguments.Find(SIZE_MAX, "attribute");
  const JinjaValue* otherwise = arguments.Find(SIZE_MAX, "default");
  if (attribute == nullptr && arguments.positional.empty()) {
    return absl::InvalidArgumentError("map: wanted a filter or an attribute");
  }
  JinjaArguments rest = Behind(arguments, 1);
  rest.named = arguments.named;
  for (JinjaValue& element : list) {
    RETURN_IF_ERROR(SpendOn(element));
    if (attribute != nullptr) {
      ASSIGN_OR_RETURN(element, Path(element, attribute->Text()));
      if (element.is_undefined() && otherwise != nullptr) element = *otherwise;
      continue;
    }
    ASSIGN_OR_RETURN(element, ApplyJinjaFilter(arguments.positional[0].Text(), element, rest));
    RETURN_IF_ERROR(SpendOn(element));
  }
  return JinjaValue(std::move(list));
}

// select("test", ...), selectattr("attribute", "test", ...); without a test, what is true.
Result Select(const JinjaValue& value, const JinjaArguments& arguments, bool wanted,
              bool by_attribute) {
  if (!value.IsTrue()) return JinjaValue(JinjaList{});
  ASSIGN_OR_RETURN(const JinjaList list, JinjaElements(value));
  const size_t test = by_attribute ? 1 : 0;
  if (by_attribute && arguments.positional.empty()) {
    return absl::InvalidArgumentError("wanted the name of an attribute");
  }
  const JinjaArguments rest = Behind(arguments, test + 1);
  JinjaList result;
  for (const JinjaValue& element : list) {
    ASSIGN_OR_RETURN(const JinjaValue key,
                     KeyOf(element, by_attribute ? &arguments.positional[0] : nullptr));
    RETURN_IF_ERROR(SpendOn(key));
    bool is = key.IsTrue();
    if (arguments.positional.size() > test) {
      ASSIGN_OR_RETURN(is, ApplyJinjaTest(arguments.positional[test].Text(), key, rest));
    }
    if (is == wanted) result.push_back(element);
  }
  return JinjaValue(std::move(result));
}

constexpr std::pair<absl::string_view, Filter> kFilters[] = {
    {"abs", Abs},
    {"capitalize",
     [](const JinjaValue& v, const JinjaArguments&) -> Result {
       return JinjaValue(JinjaCapitals(v.Text(), JinjaCapital::kFirst));
     }},
    {"count", Length},
    {"d", Default},
    {"default", Default},
    {"dictsort", DictSort},
    {"first", [](const JinjaValue& v, const JinjaArguments&) { return FirstOrLast(v, true); }},
    {"float", [](const JinjaValue& v, const JinjaArguments& a) { return Number(v, a, false); }},
    {"format",
     [](const JinjaValue& v, const JinjaArguments& a) -> Result {
       RETURN_IF_ERROR(SpendOn(v));
       return JinjaFormat(v.Text(), a.positional);
     }},
    {"indent", Indent},
    {"int", [](const JinjaValue& v, const JinjaArguments& a) { return Number(v, a, true); }},
    {"items", Items},
    {"join", Join},
    {"last", [](const JinjaValue& v, const JinjaArguments&) { return FirstOrLast(v, false); }},
    {"length", Length},
    {"list",
     [](const JinjaValue& v, const JinjaArguments&) -> Result {
       ASSIGN_OR_RETURN(JinjaList elements, JinjaElements(v));
       return JinjaValue(std::move(elements));
     }},
    {"lower",
     [](const JinjaValue& v, const JinjaArguments&) -> Result {
       return JinjaValue(JinjaLower(v.Text()));
     }},
    {"map", Map},
    {"max", [](const JinjaValue& v, const JinjaArguments& a) { return Extreme(v, a, true); }},
    {"min", [](const JinjaValue& v, const JinjaArguments& a) { return Extreme(v, a, false); }},
    {"reject",
     [](const JinjaValue& v, const JinjaArguments& a) { return Select(v, a, false, false); }},
    {"rejectattr",
     [](const JinjaValue& v, const JinjaArguments& a) { return Select(v, a, false, true); }},
    {"replace", Replace},
    {"reverse", Reverse},
    {"round", Round},
    {"safe", [](const JinjaValue& v, const JinjaArguments&) -> Result { return v; }},
    {"select",
     [](const JinjaValue& v, const JinjaArguments& a) { return Select(v, a, true, false); }},
    {"selectattr",
     [](const JinjaValue& v, const JinjaArguments& a) { return Select(v, a, true, true); }},
    {"sort", Sort},
    {"string",
     [](const JinjaValue& v, const JinjaArguments&) -> Result { return JinjaValue(v.Text()); }},
    {"sum", Sum},
    {"title",
     [](const JinjaValue& v, const JinjaArguments&) -> Result {
       return JinjaValue(JinjaCapitals(v.Text(), JinjaCapital::kTitle));
     }},
    {"tojson", ToJson},
    {"trim",
     [](const JinjaValue& v, const JinjaArguments& a) -> Result {
       return JinjaValue(JinjaStrip(v.Text(), a.Find(0, "chars"), true, true));
     }},
    {"unique", Unique},
    {"upper",
     [](const JinjaValue& v, const JinjaArguments&) -> Result {
       return JinjaValue(JinjaUpper(v.Text()));
     }},
};

}  // namespace

Result ApplyJinjaFilter(absl::string_view name, const JinjaValue& value,
                        const JinjaArguments& arguments) {
  for (const auto& [filter, apply] : kFilters) {
    if (filter == name) return apply(value, arguments);
  }
  std::string known;
  for (const auto& [filter, apply] : kFilters) {
    absl::StrAppend(&known, known.empty() ? "" : ", ", filter);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the filter \"", name, "\" is not supported; supported: ", known));
}

}  // namespace tprun
