#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

class JinjaValue;

// Bytes that a text of a template may have; what would make more is an error.
inline constexpr size_t kMostJinjaText = size_t{1} << 24;

using JinjaList = std::vector<JinjaValue>;

// What stands between the brackets of a call.
struct JinjaArguments {
  JinjaList positional;
  std::vector<std::pair<std::string, JinjaValue>> named;

  // The argument in this place or of this name; nullptr: not given.
  const JinjaValue* Find(size_t index, absl::string_view name) const;
};

using JinjaFunction = std::function<absl::StatusOr<JinjaValue>(const JinjaArguments&)>;

// In the order in which they came; keys are texts, numbers, booleans or none.
struct JinjaDict {
  std::vector<std::pair<JinjaValue, JinjaValue>> entries;
  bool is_namespace = false;  // may be written to: {% set ns.key = value %}

  const JinjaValue* Find(const JinjaValue& key) const;
  // Do not put into a namespace what is_bound().
  void Put(JinjaValue key, JinjaValue value);
};

// A value of a template, as in Python; tuples are lists that print and compare as tuples. Values
// are immutable but for namespaces, so that copies share texts, lists and dicts.
class JinjaValue {
 public:
  using SharedText = std::shared_ptr<const std::string>;
  struct Undefined {
    SharedText name;  // nullptr: none
  };
  struct None {};

  JinjaValue() : data_(Undefined{}) {}
  static JinjaValue UndefinedOf(absl::string_view name) {
    return Undefined{std::make_shared<const std::string>(name)};
  }
  JinjaValue(Undefined value) : data_(std::move(value)) {}
  JinjaValue(None value) : data_(value) {}
  JinjaValue(bool value) : data_(value) {}
  JinjaValue(int64_t value) : data_(value) {}
  JinjaValue(double value) : data_(value) {}
  JinjaValue(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}
  JinjaValue(const char* value) : JinjaValue(std::string(value)) {}
  JinjaValue(absl::string_view value) : JinjaValue(std::string(value)) {}
  JinjaValue(JinjaList value);
  JinjaValue(JinjaDict value);
  static JinjaValue Tuple(JinjaList elements) { return ListLike(std::move(elements), true); }
  // A tuple or a list.
  static JinjaValue ListLike(JinjaList elements, bool tuple) {
    JinjaValue value(std::move(elements));
    value.is_tuple_ = tuple;
    return value;
  }
  JinjaValue(JinjaFunction value)
      : data_(std::make_shared<JinjaFunction>(std::move(value))), is_bound_(true) {}

  bool is_undefined() const { return Is<Undefined>(); }
  bool is_none() const { return Is<None>(); }
  bool is_bool() const { return Is<bool>(); }
  bool is_int() const { return Is<int64_t>(); }
  bool is_float() const { return Is<double>(); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return Is<SharedText>(); }
  bool is_list() const { return Is<std::shared_ptr<JinjaList>>(); }
  bool is_tuple() const { return is_tuple_; }  // and a list
  bool is_dict() const { return Is<std::shared_ptr<JinjaDict>>(); }
  bool is_function() const { return Is<std::shared_ptr<JinjaFunction>>(); }

  // Of the kind that it is.
  absl::string_view undefined_name() const;
  const std::string& string() const { return *std::get<SharedText>(data_); }
  const JinjaList& list() const { return *std::get<std::shared_ptr<JinjaList>>(data_); }
  JinjaDict& dict() const { return *std::get<std::shared_ptr<JinjaDict>>(data_); }
  const JinjaFunction& function() const { return *std::get<std::shared_ptr<JinjaFunction>>(data_); }
  int64_t integer() const;  // of a bool or an int
  double number() const;    // of a bool, an int or a float

  // Lists and dicts within each other: 0 of what is none.
  int depth() const { return depth_; }
  // Is, or has within, a function or namespace: those must not outlive the scope that they are
  // from, nor hold each other in a circle, so no namespace takes them.
  bool is_bound() const { return is_bound_; }

  bool IsTrue() const;
  const char* TypeName() const;  // Python's: "str"
  std::string Text() const;      // as {{ }} prints it: Python's str()
  std::string Repr() const;      // as it stands within a list; no further than kMostJinjaText

 private:
  void AppendRepr(std::string* text) const;
  void Contain(const JinjaValue& element);

  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }

  std::variant<Undefined, None, bool, int64_t, double, SharedText, std::shared_ptr<JinjaList>,
               std::shared_ptr<JinjaDict>, std::shared_ptr<JinjaFunction>>
      data_;
  int depth_ = 0;
  bool is_bound_ = false;
  bool is_tuple_ = false;
};

// Comparing spends a step per element (JinjaWork); where they are used up, nothing is equal.
bool operator==(const JinjaValue& a, const JinjaValue& b);

// Below zero, zero or above it, as a is to b. InvalidArgument: they have no order.
absl::StatusOr<int> CompareJinja(const JinjaValue& a, const JinjaValue& b);

// What a loop over it visits: elements, keys, characters, nothing of what is undefined. Spends
// before it makes them.
absl::StatusOr<JinjaList> JinjaElements(const JinjaValue& value);

// As json.dumps writes it, with non-ASCII characters as they are; indent < 0: on one line.
absl::StatusOr<std::string> JinjaToJson(const JinjaValue& value, int indent);

// The characters of UTF-8 text, as Python counts them; a byte that is in none is one of its own.
std::vector<absl::string_view> JinjaCharacters(absl::string_view text);

}  // namespace tprun
