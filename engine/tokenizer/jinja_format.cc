#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "engine/tokenizer/jinja_builtins.h"

// Python's "%s has %d" % values.

namespace tprun {
namespace {

constexpr int kMostWidth = 1000;

// "%-08.3f": flags, width, precision, kind.
struct Field {
  std::string flags;
  int width = 0, precision = -1;
  char kind = 0;
};

absl::StatusOr<int> ReadSize(const std::string& format, size_t& at) {
  int size = 0;
  for (; at < format.size() && format[at] >= '0' && format[at] <= '9'; ++at) {
    size = 10 * size + (format[at] - '0');
    if (size > kMostWidth) return absl::InvalidArgumentError("%: a field that is too wide");
  }
  return size;
}

absl::StatusOr<Field> ReadField(const std::string& format, size_t& at) {
  Field field;
  for (; at < format.size() && absl::string_view("-+ 0#").find(format[at]) != std::string::npos;
       ++at) {
    if (field.flags.find(format[at]) == std::string::npos) field.flags += format[at];
  }
  ASSIGN_OR_RETURN(field.width, ReadSize(format, at));
  if (at < format.size() && format[at] == '.') {
    ++at;
    ASSIGN_OR_RETURN(field.precision, ReadSize(format, at));
  }
  if (at == format.size()) return absl::InvalidArgumentError("%: an unfinished field");
  field.kind = format[at++];
  return field;
}

// A text in its field; characters count, not bytes.
std::string Padded(std::string text, const Field& field) {
  const std::vector<absl::string_view> characters = JinjaCharacters(text);
  if (field.precision >= 0 && static_cast<size_t>(field.precision) < characters.size()) {
    text = std::string(text.data(), characters[field.precision].data() - text.data());
  }
  const auto length = static_cast<int>(JinjaCharacters(text).size());
  const std::string blanks(std::max(0, field.width - length), ' ');
  return field.flags.find('-') != std::string::npos ? text + blanks : blanks + text;
}

absl::StatusOr<std::string> Formatted(const Field& field, const JinjaValue& value) {
  if (field.kind == 's') return Padded(value.Text(), field);
  if (field.kind == 'r') return Padded(value.Repr(), field);
  const bool whole = absl::string_view("diuxXo").find(field.kind) != std::string::npos;
  const bool real = absl::string_view("feEgGF").find(field.kind) != std::string::npos;
  if ((!whole && !real) || !value.is_number()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "%", std::string(1, field.kind), " cannot format a value of type ", value.TypeName()));
  }
  if (whole && value.is_float() && !(std::fabs(value.number()) < 0x1p62)) {
    return absl::InvalidArgumentError("%: a number beyond 64 bits");
  }
  int64_t integer = 0;
  if (whole) integer = value.is_float() ? static_cast<int64_t>(value.number()) : value.integer();
  const bool hexadecimal = whole && absl::string_view("xXo").find(field.kind) != std::string::npos;
  if (hexadecimal && integer < 0) {
    return absl::InvalidArgumentError("%: a number below zero in another base");
  }
  const std::string spec =
      absl::StrCat("%", field.flags, field.width > 0 ? absl::StrCat(field.width) : "",
                   field.precision >= 0 ? absl::StrCat(".", field.precision) : "",
                   std::string(1, field.kind == 'u' ? 'd' : field.kind));
  std::string text;
  const bool ok =
      whole ? absl::FormatUntyped(&text, absl::UntypedFormatSpec(spec), {absl::FormatArg(integer)})
            : absl::FormatUntyped(&text, absl::UntypedFormatSpec(spec),
                                  {absl::FormatArg(value.number())});
  if (!ok) return absl::InvalidArgumentError(absl::StrCat("%: \"", spec, "\" is not supported"));
  return text;
}

}  // namespace

absl::StatusOr<JinjaValue> JinjaFormat(const std::string& format, const JinjaList& values) {
  std::string text;
  size_t used = 0;
  for (size_t at = 0; at < format.size();) {
    const char c = format[at++];
    if (c != '%') {
      text += c;
      continue;
    }
    ASSIGN_OR_RETURN(const Field field, ReadField(format, at));
    if (field.kind == '%') {
      text += '%';
      continue;
    }
    if (used == values.size()) return absl::InvalidArgumentError("%: not enough values");
    ASSIGN_OR_RETURN(const std::string part, Formatted(field, values[used++]));
    absl::StrAppend(&text, part);
    if (text.size() > kMostJinjaText) return absl::InvalidArgumentError("a text that is too long");
  }
  if (used < values.size()) return absl::InvalidArgumentError("%: more values than fields");
  return JinjaValue(std::move(text));
}

}  // namespace tprun
