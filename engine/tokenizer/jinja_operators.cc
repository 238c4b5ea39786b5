#include <cmath>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"
#include "engine/tokenizer/jinja_work.h"

namespace tprun {
namespace {

constexpr size_t kMostElements = 1 << 20;

absl::Status CannotDo(absl::string_view op, const JinjaValue& a, const JinjaValue& b) {
  for (const JinjaValue* value : {&a, &b}) {
    if (value->is_undefined()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", value->undefined_name(), "' is undefined"));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("values of types ", a.TypeName(), " and ",
                                                 b.TypeName(), " have no operator ", op));
}

// Division and its rest round down, as Python's.
absl::StatusOr<JinjaValue> Integers(absl::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return JinjaValue(std::pow(static_cast<double>(a), static_cast<double>(b)));
    result = 1;
    if (a == 0 || a == 1 || a == -1) {
      result = b == 0 ? 1 : b % 2 == 0 ? a * a : a;
    } else {
      for (int64_t i = 0; i < b && !overflow; ++i) {
        overflow = __builtin_mul_overflow(result, a, &result);
      }
    }
  } else if (b == 0) {
    return absl::InvalidArgumentError("division by zero");
  } else if (op == "/") {
    return JinjaValue(static_cast<double>(a) / static_cast<double>(b));
  } else {
    if (a == std::numeric_limits<int64_t>::min() && b == -1) return Integers("*", a, b);
    const int64_t rest = a % b;
    const bool down = rest != 0 && (rest < 0) != (b < 0);
    result = op == "%" ? (down ? rest + b : rest) : a / b - (down ? 1 : 0);
  }
  if (overflow) return absl::InvalidArgumentError("a number beyond 64 bits");
  return JinjaValue(result);
}

absl::StatusOr<JinjaValue> Floats(absl::string_view op, double a, double b) {
  if (op == "+") return JinjaValue(a + b);
  if (op == "-") return JinjaValue(a - b);
  if (op == "*") return JinjaValue(a * b);
  if (op == "**") return JinjaValue(std::pow(a, b));
  if (b == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return JinjaValue(a / b);
  const double quotient = std::floor(a / b);
  return JinjaValue(op == "//" ? quotient : a - quotient * b);
}

absl::StatusOr<JinjaValue> Repeated(const JinjaValue& value, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const bool is_text = value.is_string();
  const size_t size = is_text ? value.string().size() : value.list().size();
  const size_t most = is_text ? kMostJinjaText : kMostElements;
  if (size > 0 && static_cast<size_t>(times) > most / size) {
    return absl::InvalidArgumentError("a text or list that is too long");
  }
  std::string text;
  JinjaList list;
  for (int64_t i = 0; i < (size == 0 ? 0 : times); ++i) {
    if (is_text) {
      text += value.string();
    } else {
      list.insert(list.end(), value.list().begin(), value.list().end());
    }
  }
  if (is_text) return JinjaValue(std::move(text));
  return JinjaValue::ListLike(std::move(list), value.is_tuple());
}

absl::StatusOr<JinjaValue> Together(const std::string& a, const std::string& b) {
  const size_t size = a.size() + b.size();
  RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(size) / kJinjaTextOfStep));
  return JinjaValue(absl::StrCat(a, b));
}

}  // namespace

absl::Status SpendOnJinjaSearch(absl::string_view text, absl::string_view part) {
  // Many bytes are compared at once, and few of the places begin as `part` does.
  constexpr size_t kComparedInStep = 4096;
  if (part.size() > text.size()) return absl::OkStatus();
  return JinjaWork::Spend(
      static_cast<int64_t>((text.size() - part.size()) * part.size() / kComparedInStep));
}

absl::StatusOr<JinjaValue> JinjaOperator(absl::string_view op, const JinjaValue& a,
                                         const JinjaValue& b) {
  if (op == "~") return Together(a.Text(), b.Text());
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float()) return Floats(op, a.number(), b.number());
    return Integers(op, a.integer(), b.integer());
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    return Together(a.string(), b.string());
  }
  if (op == "+" && a.is_list() && b.is_list() && a.is_tuple() == b.is_tuple()) {
    const size_t size = a.list().size() + b.list().size();
    if (size > kMostElements) return absl::InvalidArgumentError("a list that is too long");
    RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(size)));
    JinjaList list = a.list();
    list.insert(list.end(), b.list().begin(), b.list().end());
    return JinjaValue::ListLike(std::move(list), a.is_tuple());
  }
  if (op == "%" && a.is_string()) {
    RETURN_IF_ERROR(JinjaWork::Spend(static_cast<int64_t>(a.string().size())));
    return JinjaFormat(a.string(), b.is_tuple() ? b.list() : JinjaList{b});
  }
  const auto repeatable = [](const JinjaValue& value) {
    return value.is_string() || value.is_list();
  };
  const auto times = [](const JinjaValue& value) { return value.is_int() || value.is_bool(); };
  if (op == "*" && repeatable(a) && times(b)) return Repeated(a, b.integer());
  if (op == "*" && repeatable(b) && times(a)) return Repeated(b, a.integer());
  return CannotDo(op, a, b);
}

absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& value) {
  if (container.is_string()) {
    if (value.is_string()) {
      RETURN_IF_ERROR(SpendOnJinjaSearch(container.string(), value.string()));
      return absl::StrContains(container.string(), value.string());
    }
    return absl::InvalidArgumentError(
        absl::StrCat("a text has no parts of type ", value.TypeName()));
  }
  if (container.is_dict()) return container.dict().Find(value) != nullptr;
  if (!container.is_list()) {
    RETURN_IF_ERROR(JinjaElements(container).status());
    return false;  // undefined
  }
  for (const JinjaValue& element : container.list()) {
    RETURN_IF_ERROR(JinjaWork::Spend(1));
    if (element == value) return true;
  }
  return false;
}

absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& value, absl::string_view name) {
  if (value.is_undefined()) {
    return absl::InvalidArgumentError(absl::StrCat("'", value.undefined_name(), "' is undefined"));
  }
  const JinjaValue* found = value.is_dict() ? value.dict().Find(name) : nullptr;
  return found != nullptr ? *found : JinjaValue::UndefinedOf(name);
}

absl::StatusOr<JinjaValue> JinjaItem(const JinjaValue& value, const JinjaValue& index) {
  if (index.is_string() || value.is_undefined()) return JinjaAttribute(value, index.Text());
  if (value.is_dict()) {
    const JinjaValue* found = value.dict().Find(index);
    return found != nullptr ? *found : JinjaValue::UndefinedOf(index.Text());
  }
  const JinjaValue nothing = JinjaValue::UndefinedOf(index.Text());
  if (!index.is_int() || !(value.is_list() || value.is_string())) return nothing;
  std::vector<absl::string_view> characters;
  if (value.is_string()) characters = JinjaCharacters(value.string());
  const auto count =
      static_cast<int64_t>(value.is_list() ? value.list().size() : characters.size());
  const int64_t at = index.integer() < 0 ? index.integer() + count : index.integer();
  if (at < 0 || at >= count) return nothing;
  return value.is_list() ? value.list()[at] : JinjaValue(characters[at]);
}

}  // namespace tprun
