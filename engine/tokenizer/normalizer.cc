#include "engine/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

constexpr char kMetaspace[] = "\xE2\x96\x81";
constexpr int kMaxDepth = 16;

constexpr int kNfd = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
constexpr int kNfc = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

bool IsAscii(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

absl::Status AppendNormalForm(absl::string_view run, int options, std::string* out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(run.data()), run.size(), &mapped,
                   static_cast<utf8proc_option_t>(options));
  if (size < 0) {
    return absl::InternalError(absl::StrCat("Unicode normal form: ", utf8proc_errmsg(size)));
  }
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  out->append(reinterpret_cast<const char*>(mapped), size);
  return absl::OkStatus();
}

absl::StatusOr<std::string> NormalForm(absl::string_view text, int options) {
  if (IsAscii(text)) return std::string(text);
  std::string result;
  for (size_t i = 0; i < text.size();) {
    const size_t end = EndOfValidUtf8(text, i);
    if (end > i) RETURN_IF_ERROR(AppendNormalForm(text.substr(i, end - i), options, &result));
    if (end == text.size()) break;
    const int length = ReadUtf8Char(text, end).length;
    result.append(text.data() + end, length);
    i = end + length;
  }
  return result;
}

}  // namespace

void Normalizer::AddPrepend(absl::string_view text) {
  steps_.push_back({Kind::kPrepend, "", std::string(text)});
}
void Normalizer::AddReplace(absl::string_view from, absl::string_view to) {
  steps_.push_back({Kind::kReplace, std::string(from), std::string(to)});
}
void Normalizer::AddNfc() { steps_.push_back({Kind::kUnicode, "", "", kNfc}); }
void Normalizer::AddCollapseSpaces() { steps_.push_back({Kind::kCollapseSpaces, "", ""}); }

absl::StatusOr<Normalizer> Normalizer::FromJson(const Json* json) {
  Normalizer normalizer;
  if (json != nullptr) RETURN_IF_ERROR(normalizer.AddJson(*json, 0));
  return normalizer;
}

absl::Status Normalizer::AddJson(const Json& json, int depth) {
  ASSIGN_OR_RETURN(const std::string type, GetString(json, "type"));
  if (type == "Sequence") {
    const Json* list = FindMember(json, "normalizers");
    if (list == nullptr || !list->is_array() || depth > kMaxDepth) {
      return absl::InvalidArgumentError("normalizer Sequence: wanted a list \"normalizers\"");
    }
    for (const Json& step : *list) RETURN_IF_ERROR(AddJson(step, depth + 1));
    return absl::OkStatus();
  }
  if (type == "Prepend") {
    ASSIGN_OR_RETURN(const std::string text, GetString(json, "prepend"));
    AddPrepend(text);
    return absl::OkStatus();
  }
  if (type == "Replace") {
    const Json* pattern = FindMember(json, "pattern");
    const Json empty = Json::object();
    ASSIGN_OR_RETURN(const std::string from,
                     GetString(pattern == nullptr ? empty : *pattern, "String"));
    ASSIGN_OR_RETURN(const std::string to, GetString(json, "content"));
    if (from.empty()) return absl::InvalidArgumentError("normalizer Replace: empty pattern");
    AddReplace(from, to);
    return absl::OkStatus();
  }
  const std::pair<const char*, int> forms[] = {{"NFC", kNfc},
                                               {"NFD", kNfd},
                                               {"NFKC", kNfc | UTF8PROC_COMPAT},
                                               {"NFKD", kNfd | UTF8PROC_COMPAT}};
  for (const auto& [name, options] : forms) {
    if (type != name) continue;
    steps_.push_back({Kind::kUnicode, "", "", options});
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "normalizer \"", type,
      "\" is not supported; supported are Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace"));
}

absl::StatusOr<std::string> Normalizer::Apply(absl::string_view text) const {
  std::string result(text);
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kPrepend:
        if (!result.empty()) result.insert(0, step.to);
        break;
      case Kind::kReplace:
        result = absl::StrReplaceAll(result, {{step.from, step.to}});
        break;
      case Kind::kUnicode: {
        ASSIGN_OR_RETURN(result, NormalForm(result, step.unicode_options));
        break;
      }
      case Kind::kCollapseSpaces:
        result = absl::StrJoin(absl::StrSplit(result, ' ', absl::SkipEmpty()), " ");
        break;
    }
  }
  return result;
}

bool Normalizer::prepends_space() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const Step& step) {
    return step.kind == Kind::kPrepend && (step.to == " " || step.to == kMetaspace);
  });
}

bool Normalizer::has_replace_with(absl::string_view text) const {
  return std::any_of(steps_.begin(), steps_.end(), [&](const Step& step) {
    return step.kind == Kind::kReplace && step.to == text;
  });
}

}  // namespace tprun
