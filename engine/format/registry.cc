#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr const WeightFormat* kFormats[] = {
    &kF32Format, &kF16Format, &kBF16Format, &kQ8_0Format, &kQ4_0Format,
};

}  // namespace

absl::Span<const WeightFormat* const> AllWeightFormats() { return kFormats; }

const WeightFormat* FindWeightFormat(absl::string_view name) {
  for (const WeightFormat* format : kFormats) {
    if (format->name == name) return format;
  }
  return nullptr;
}

const WeightFormat* FindGgmlType(int ggml_type) {
  for (const WeightFormat* format : kFormats) {
    if (format->ggml_type >= 0 && format->ggml_type == ggml_type) return format;
  }
  return nullptr;
}

const WeightFormat* FindSafetensorsType(absl::string_view dtype) {
  for (const WeightFormat* format : kFormats) {
    if (!format->safetensors.empty() && format->safetensors == dtype) return format;
  }
  return nullptr;
}

absl::StatusOr<const WeightFormat*> ParseWeightFormat(absl::string_view name) {
  if (const WeightFormat* format = FindWeightFormat(name)) return format;
  const std::string names = absl::StrJoin(
      kFormats, ", ",
      [](std::string* out, const WeightFormat* format) { absl::StrAppend(out, format->name); });
  return absl::InvalidArgumentError(
      absl::StrCat("wanted a weight format (", names, "), found \"", name, "\""));
}

}  // namespace tprun
