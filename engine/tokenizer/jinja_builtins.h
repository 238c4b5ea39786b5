#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/jinja_value.h"

// What templates find without defining it. Errors do not tell the place: the evaluator adds it.
namespace tprun {

// value | name(arguments). InvalidArgument: no such filter, or the value is not for it.
absl::StatusOr<JinjaValue> ApplyJinjaFilter(absl::string_view name, const JinjaValue& value,
                                            const JinjaArguments& arguments);

// value is name(arguments)
absl::StatusOr<bool> ApplyJinjaTest(absl::string_view name, const JinjaValue& value,
                                    const JinjaArguments& arguments);

// Whether values of this type have the method: "x".strip, {}.items.
bool HasJinjaMethod(const JinjaValue& value, absl::string_view name);
absl::StatusOr<JinjaValue> CallJinjaMethod(const JinjaValue& value, absl::string_view name,
                                           const JinjaArguments& arguments);

// value.name and value[index]; undefined where there is none.
absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& value, absl::string_view name);
absl::StatusOr<JinjaValue> JinjaItem(const JinjaValue& value, const JinjaValue& index);

// The two-sided operators but for comparisons: + - * / // % ** ~
absl::StatusOr<JinjaValue> JinjaOperator(absl::string_view op, const JinjaValue& a,
                                         const JinjaValue& b);

// "%s has %d" % values, as Python's. InvalidArgument: fields and values do not go together.
absl::StatusOr<JinjaValue> JinjaFormat(const std::string& format, const JinjaList& values);

// Whether `value` is in `container`: an element, a key, a part of a text.
absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& value);

// Before `part` is searched for in `text`, however often it is there.
absl::Status SpendOnJinjaSearch(absl::string_view text, absl::string_view part);

// Without white space, or without the characters of `characters`, at the ends that are asked for.
std::string JinjaStrip(absl::string_view text, const JinjaValue* characters, bool left, bool right);

// Every `from` as `to`, the first `most` of them if that is not negative. InvalidArgument: too
// long.
absl::StatusOr<std::string> JinjaReplace(const std::string& text, const std::string& from,
                                         const std::string& to, int64_t most);

// Letters of all scripts.
std::string JinjaLower(absl::string_view text);
std::string JinjaUpper(absl::string_view text);
// The first letter as a capital, the others small; kWords: of each run of letters, as Python's
// title(); kTitle: of each word behind spaces, hyphens or opening brackets, as Jinja's title.
enum class JinjaCapital { kFirst, kWords, kTitle };
std::string JinjaCapitals(absl::string_view text, JinjaCapital which);

}  // namespace tprun
