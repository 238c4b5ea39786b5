#include "engine/tokenizer/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_work.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

// Python's repr: the shortest digits that give the number again, an exponent from 1e16 on.
std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double size = std::fabs(value);
  const bool fixed = size == 0 || (size >= 1e-4 && size < 1e16);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (fixed && text.find('.') == std::string::npos) text += ".0";
  return text;
}

// Python takes double quotes where the text has single ones and no double ones.
std::string Quoted(const std::string& text) {
  const bool single = text.find('\'') != std::string::npos;
  const char quote = single && text.find('"') == std::string::npos ? '"' : '\'';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else if (c == '\r') {
      result += "\\r";
    } else if (c == quote || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      absl::StrAppendFormat(&result, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      result += c;
    }
  }
  return result + quote;
}

// The elements of a list or dict, `indent` spaces in front of each where it is not negative.
class JsonWriter {
 public:
  explicit JsonWriter(int indent) : indent_(indent) {}

  absl::Status Write(const JinjaValue& value) {
    if (value.is_none()) {
      text_ += "null";
    } else if (value.is_bool()) {
      text_ += value.integer() != 0 ? "true" : "false";
    } else if (value.is_number()) {
      text_ += value.Text();
    } else if (value.is_string()) {
      text_ += Json(value.string()).dump(-1, ' ', false, Json::error_handler_t::replace);
    } else if (value.is_list()) {
      return WriteAll("[", "]", value.list().size(),
                      [&](size_t i) { return Write(value.list()[i]); });
    } else if (value.is_dict()) {
      return WriteAll("{", "}", value.dict().entries.size(), [&](size_t i) {
        const auto& [key, element] = value.dict().entries[i];
        // Keys that are no texts become ones.
        const bool quoted = key.is_string();
        if (!quoted) text_ += '"';
        absl::Status status = Write(key);
        if (!quoted) text_ += '"';
        text_ += ": ";
        status.Update(Write(element));
        return status;
      });
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", value.TypeName(), " cannot be written as JSON"));
    }
    return absl::OkStatus();
  }

  std::string Take() { return std::move(text_); }

 private:
  absl::Status WriteAll(const char* open, const char* close, size_t count,
                        const std::function<absl::Status(size_t)>& write) {
    text_ += open;
    ++depth_;
    for (size_t i = 0; i < count && text_.size() <= kMostJinjaText; ++i) {
      if (i > 0) text_ += indent_ < 0 ? ", " : ",";
      NewLine();
      RETURN_IF_ERROR(write(i));
    }
    --depth_;
    if (count > 0) NewLine();
    text_ += close;
    return absl::OkStatus();
  }

  void NewLine() {
    if (indent_ >= 0) absl::StrAppend(&text_, "\n", std::string(indent_ * depth_, ' '));
  }

  int indent_;
  int depth_ = 0;
  std::string text_;
};

// A few short texts are compared in a step.
int64_t StepsOfSearch(size_t entries) { return static_cast<int64_t>(entries / 16); }

int64_t StepsOfText(const std::string& text) {
  return static_cast<int64_t>(text.size()) / kJinjaTextOfStep;
}

bool EqualTexts(const std::string& a, const std::string& b) {
  return a.size() == b.size() && JinjaWork::Spend(StepsOfText(a)).ok() && a == b;
}

bool EqualDicts(const JinjaDict& a, const JinjaDict& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    if (!JinjaWork::Spend(1).ok()) return false;
    const JinjaValue* other = b.Find(entry.first);
    return other != nullptr && *other == entry.second;
  });
}

bool EqualLists(const JinjaList& a, const JinjaList& b) {
  if (&a == &b) return true;
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](const JinjaValue& x, const JinjaValue& y) {
           return JinjaWork::Spend(1).ok() && x == y;
         });
}

}  // namespace

const JinjaValue* JinjaArguments::Find(size_t index, absl::string_view name) const {
  if (index < positional.size()) return &positional[index];
  if (!JinjaWork::Spend(StepsOfSearch(named.size())).ok()) return nullptr;
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

const JinjaValue* JinjaDict::Find(const JinjaValue& key) const {
  if (!JinjaWork::Spend(StepsOfSearch(entries.size())).ok()) return nullptr;
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

void JinjaDict::Put(JinjaValue key, JinjaValue value) {
  if (!JinjaWork::Spend(1).ok()) return;
  if (const JinjaValue* old = Find(key)) {
    *const_cast<JinjaValue*>(old) = std::move(value);
  } else {
    entries.emplace_back(std::move(key), std::move(value));
  }
}

absl::string_view JinjaValue::undefined_name() const {
  const SharedText& name = std::get<Undefined>(data_).name;
  return name != nullptr ? absl::string_view(*name) : "";
}

int64_t JinjaValue::integer() const {
  return is_bool() ? static_cast<int64_t>(std::get<bool>(data_)) : std::get<int64_t>(data_);
}

double JinjaValue::number() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
}

bool JinjaValue::IsTrue() const {
  if (is_number()) return number() != 0;
  if (is_string()) return !string().empty();
  if (is_list()) return !list().empty();
  if (is_dict()) return dict().is_namespace || !dict().entries.empty();
  return is_function();
}

const char* JinjaValue::TypeName() const {
  static constexpr const char* kNames[] = {"Undefined", "NoneType", "bool", "int",     "float",
                                           "str",       "list",     "dict", "function"};
  return is_tuple_ ? "tuple" : kNames[data_.index()];
}

void JinjaValue::Contain(const JinjaValue& element) {
  depth_ = std::max(depth_, element.depth_ + 1);
  is_bound_ |= element.is_bound_;
}

JinjaValue::JinjaValue(JinjaList value) : depth_(1) {
  for (const JinjaValue& element : value) Contain(element);
  data_ = std::make_shared<JinjaList>(std::move(value));
}

JinjaValue::JinjaValue(JinjaDict value) : depth_(1), is_bound_(value.is_namespace) {
  for (const auto& entry : value.entries) Contain(entry.second);
  data_ = std::make_shared<JinjaDict>(std::move(value));
}

std::string JinjaValue::Text() const { return is_string() ? string() : Repr(); }

std::string JinjaValue::Repr() const {
  std::string text;
  AppendRepr(&text);
  // Where this uses them up, the evaluator tells so.
  JinjaWork::Spend(StepsOfText(text)).IgnoreError();
  return text;
}

void JinjaValue::AppendRepr(std::string* text) const {
  if (text->size() > kMostJinjaText) return;
  if (is_list() || is_dict()) {
    const char* separator = "";
    text->push_back(is_tuple_ ? '(' : is_list() ? '[' : '{');
    if (is_list()) {
      for (const JinjaValue& element : list()) {
        if (text->size() > kMostJinjaText) break;
        absl::StrAppend(text, std::exchange(separator, ", "));
        element.AppendRepr(text);
      }
    } else if (!dict().is_namespace) {
      for (const auto& [key, value] : dict().entries) {
        if (text->size() > kMostJinjaText) break;
        absl::StrAppend(text, std::exchange(separator, ", "), key.Repr(), ": ");
        value.AppendRepr(text);
      }
    }
    if (is_tuple_ && list().size() == 1) text->push_back(',');
    text->push_back(is_tuple_ ? ')' : is_list() ? ']' : '}');
  } else {
    absl::StrAppend(text, is_undefined()  ? ""
                          : is_none()     ? "None"
                          : is_bool()     ? (integer() != 0 ? "True" : "False")
                          : is_int()      ? absl::StrCat(integer())
                          : is_float()    ? FloatText(number())
                          : is_function() ? "<function>"
                                          : Quoted(string()));
  }
}

bool operator==(const JinjaValue& a, const JinjaValue& b) {
  if (a.is_float() || b.is_float()) {
    return a.is_number() && b.is_number() && a.number() == b.number();
  }
  if (a.is_number()) return b.is_number() && a.integer() == b.integer();
  if (a.is_string()) return b.is_string() && EqualTexts(a.string(), b.string());
  if (a.is_list()) {
    return b.is_list() && a.is_tuple() == b.is_tuple() && EqualLists(a.list(), b.list());
  }
  if (a.is_dict()) return b.is_dict() && EqualDicts(a.dict(), b.dict());
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

absl::StatusOr<int> CompareJinja(const JinjaValue& a, const JinjaValue& b) {
  const auto order = [](const auto& x, const auto& y) { return x < y ? -1 : x > y ? 1 : 0; };
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return order(a.number(), b.number());
    return order(a.integer(), b.integer());
  }
  if (a.is_string() && b.is_string()) {
    RETURN_IF_ERROR(JinjaWork::Spend(
        StepsOfText(a.string().size() < b.string().size() ? a.string() : b.string())));
    return order(a.string(), b.string());
  }
  if (a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    for (size_t i = 0; i < std::min(a.list().size(), b.list().size()); ++i) {
      RETURN_IF_ERROR(JinjaWork::Spend(1));
      if (a.list()[i] == b.list()[i]) continue;
      return CompareJinja(a.list()[i], b.list()[i]);
    }
    return order(a.list().size(), b.list().size());
  }
  return absl::InvalidArgumentError(absl::StrCat("values of types ", a.TypeName(), " and ",
                                                 b.TypeName(), " cannot be put in order"));
}

absl::StatusOr<JinjaList> JinjaElements(const JinjaValue& value) {
  JinjaList elements;
  if (value.is_list()) {
    RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(value.list().size())));
    return value.list();
  }
  if (value.is_string()) {
    RETURN_IF_ERROR(
        JinjaWork::Spend(kJinjaStepsOfPart * static_cast<int64_t>(value.string().size())));
    for (absl::string_view c : JinjaCharacters(value.string())) {
      elements.emplace_back(std::string(c));
    }
    return elements;
  }
  if (value.is_dict() && !value.dict().is_namespace) {
    RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(value.dict().entries.size())));
    for (const auto& entry : value.dict().entries) elements.emplace_back(entry.first);
    return elements;
  }
  if (value.is_undefined()) return elements;
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", value.TypeName(), " has no elements"));
}

absl::StatusOr<std::string> JinjaToJson(const JinjaValue& value, int indent) {
  JsonWriter writer(indent);
  RETURN_IF_ERROR(writer.Write(value));
  std::string text = writer.Take();
  RETURN_IF_ERROR(JinjaWork::Spend(StepsOfText(text)));
  return text;
}

std::vector<absl::string_view> JinjaCharacters(absl::string_view text) {
  std::vector<absl::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = ReadUtf8Char(text, at);
    const size_t length = c.valid ? c.length : 1;
    characters.push_back(text.substr(at, length));
    at += length;
  }
  return characters;
}

}  // namespace tprun
