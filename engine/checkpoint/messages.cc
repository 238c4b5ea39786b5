#include "engine/checkpoint/messages.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tprun {
namespace {

constexpr size_t kLongest = 80;

}  // namespace

std::string Quoted(absl::string_view text) {
  const bool cut = text.size() > kLongest;
  // Cutting may halve a UTF-8 character; CHexEscape turns every such byte into ASCII.
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kLongest)), cut ? "..." : "", "\"");
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string MemberText(const Json& object, absl::string_view key) {
  const Json* value = FindMember(object, key);
  if (value == nullptr) return "none";
  if (value->is_structured()) return value->is_array() ? "an array" : "an object";
  if (value->is_string()) return Quoted(value->get_ref<const std::string&>());
  return value->dump();
}

}  // namespace tprun
