#include "base/json.h"

#include <cmath>
#include <exception>
#include <limits>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/file.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr size_t kMaxDepth = 256;
constexpr size_t kLinearSearchLimit = 16;

// A later member replaces an earlier one of the same key, at the place of the earlier one, as
// Python and JavaScript do. In one pass: an ordered_json object finds a key by looking at all of
// them, too slow for the 250 000 members of a vocabulary.
void MergeDuplicates(Json::object_t& object) {
  std::unordered_map<std::string_view, size_t> places;
  places.reserve(object.size());
  bool found = false;
  for (size_t i = 0; i < object.size(); ++i) {
    const auto [place, inserted] = places.emplace((object.begin() + i)->first, i);
    if (inserted) continue;
    (object.begin() + place->second)->second = (object.begin() + i)->second;
    found = true;
  }
  if (!found) return;
  Json::object_t merged;
  for (size_t i = 0; i < object.size(); ++i) {
    auto& member = *(object.begin() + i);
    if (places[member.first] == i) merged.emplace_back(member.first, std::move(member.second));
  }
  object = std::move(merged);
}

bool HasDuplicates(const Json::object_t& object) {
  if (object.size() > kLinearSearchLimit) return true;  // MergeDuplicates finds out
  for (auto a = object.begin(); a != object.end(); ++a) {
    for (auto b = object.begin(); b != a; ++b) {
      if (a->first == b->first) return true;
    }
  }
  return false;
}

// Builds the value without recursion: the open arrays and objects stand on a stack.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json TakeResult() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // does not occur in text

  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool key(string_t& value) override {
    open_.back()->get_ref<Json::object_t&>().emplace_back(std::move(value), nullptr);
    return true;
  }
  bool end_object() override {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    if (HasDuplicates(object)) MergeDuplicates(object);
    open_.pop_back();
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    error_ = error.what();
    return false;
  }

 private:
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }

  bool Open(Json value) {
    if (open_.size() == kMaxDepth) {
      error_ = absl::StrCat("nested deeper than ", kMaxDepth, " levels");
      return false;
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }

  // An open container does not move: its parent grows only after it is closed.
  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& array = parent.get_ref<Json::array_t&>();
      array.push_back(std::move(value));
      return &array.back();
    }
    Json& member = parent.get_ref<Json::object_t&>().back().second;
    member = std::move(value);
    return &member;
  }

  Json root_;
  std::vector<Json*> open_;
  std::string error_;
};

// "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the bracket, in
// ASCII (it quotes the bytes that are wrong) and cut in the middle (it quotes a whole string).
std::string CleanMessage(absl::string_view message) {
  constexpr size_t kShown = 120;
  const size_t end = message.find("] ");
  if (end != absl::string_view::npos && message.front() == '[') message.remove_prefix(end + 2);
  std::string result(message);
  if (message.size() > 2 * kShown) {
    result =
        absl::StrCat(message.substr(0, kShown), " ... ", message.substr(message.size() - kShown));
  }
  for (char& c : result) {
    if (c < ' ' || c > '~') c = '?';
  }
  return result;
}

// `"4096" (string)`, cut short: the value may be a whole vocabulary.
std::string Describe(const Json& value) {
  constexpr size_t kShown = 40;
  if (value.is_structured()) {
    return absl::StrCat("an ", value.type_name(), " of ", value.size(), " elements");
  }
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kShown) text = absl::StrCat(text.substr(0, kShown), "...");
  return value.is_null() ? text : absl::StrCat(text, " (", value.type_name(), ")");
}

absl::Status WrongType(absl::string_view key, absl::string_view wanted, const Json& found) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted ", wanted, ", found ", Describe(found)));
}

absl::StatusOr<const Json*> RequireMember(const Json& object, absl::string_view key,
                                          absl::string_view wanted) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\": wanted an object with it, found ", Describe(object)));
  }
  const Json* member = FindMember(object, key);
  if (member != nullptr) return member;
  const bool is_null = object.find(std::string(key)) != object.end();
  return absl::InvalidArgumentError(
      absl::StrCat("\"", key, "\": wanted ", wanted, ", found ", is_null ? "null" : "no such key"));
}

absl::StatusOr<int64_t> ToInt(const Json& value, absl::string_view key) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return static_cast<int64_t>(number);
    }
  } else if (value.is_number_integer()) {
    return value.get<int64_t>();
  } else if (value.is_number_float()) {
    // 4096.0 is an integer for the tools that write such files; beyond 2^53 it may not be exact.
    const double number = value.get<double>();
    if (std::trunc(number) == number && std::abs(number) <= 9007199254740992.0) {
      return static_cast<int64_t>(number);
    }
  }
  return WrongType(key, "an integer", value);
}

absl::StatusOr<double> ToDouble(const Json& value, absl::string_view key) {
  if (value.is_number()) return value.get<double>();
  return WrongType(key, "a number", value);
}

absl::StatusOr<bool> ToBool(const Json& value, absl::string_view key) {
  if (value.is_boolean()) return value.get<bool>();
  return WrongType(key, "true or false", value);
}

absl::StatusOr<std::string> ToString(const Json& value, absl::string_view key) {
  if (value.is_string()) return value.get<std::string>();
  return WrongType(key, "a string", value);
}

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text) {
  Builder builder;
  try {
    if (Json::sax_parse(text.begin(), text.end(), &builder)) return builder.TakeResult();
  } catch (
      const std::exception& error) {  // out of memory; the parser itself reports to the builder
    return absl::InvalidArgumentError(absl::StrCat("not read as JSON: ", error.what()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("not valid JSON: ", CleanMessage(builder.error())));
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), path);
  return json;
}

absl::StatusOr<int64_t> GetInt(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* member, RequireMember(object, key, "an integer"));
  return ToInt(*member, key);
}

absl::StatusOr<double> GetDouble(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* member, RequireMember(object, key, "a number"));
  return ToDouble(*member, key);
}

absl::StatusOr<bool> GetBool(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* member, RequireMember(object, key, "true or false"));
  return ToBool(*member, key);
}

absl::StatusOr<std::string> GetString(const Json& object, absl::string_view key) {
  ASSIGN_OR_RETURN(const Json* member, RequireMember(object, key, "a string"));
  return ToString(*member, key);
}

absl::StatusOr<int64_t> GetIntOr(const Json& object, absl::string_view key, int64_t otherwise) {
  const Json* member = FindMember(object, key);
  return member == nullptr ? otherwise : ToInt(*member, key);
}

absl::StatusOr<double> GetDoubleOr(const Json& object, absl::string_view key, double otherwise) {
  const Json* member = FindMember(object, key);
  return member == nullptr ? otherwise : ToDouble(*member, key);
}

absl::StatusOr<bool> GetBoolOr(const Json& object, absl::string_view key, bool otherwise) {
  const Json* member = FindMember(object, key);
  return member == nullptr ? otherwise : ToBool(*member, key);
}

absl::StatusOr<std::string> GetStringOr(const Json& object, absl::string_view key,
                                        absl::string_view otherwise) {
  const Json* member = FindMember(object, key);
  return member == nullptr ? std::string(otherwise) : ToString(*member, key);
}

const Json* FindMember(const Json& object, absl::string_view key) {
  if (!object.is_object()) return nullptr;
  for (const auto& member : object.get_ref<const Json::object_t&>()) {
    if (key == member.first) return member.second.is_null() ? nullptr : &member.second;
  }
  return nullptr;
}

}  // namespace tprun
