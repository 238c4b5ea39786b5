#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/format/int_groups.h"
#include "engine/format/planned_formats.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

constexpr const WeightFormat* kFormats[] = {
    &kF32Format,           &kF16Format,           &kBF16Format,         &kQ8_0Format,
    &kQ4_0Format,          &kQ4_1Format,          &kQ5_0Format,         &kQ5_1Format,
    &kQ2_KFormat,          &kQ3_KFormat,          &kQ4_KFormat,         &kQ5_KFormat,
    &kQ6_KFormat,          &kIq4NlFormat,         &kIq4XsFormat,        &kMxfp4Format,
    &kIq1SFormat,          &kIq1MFormat,          &kIq2XxsFormat,       &kIq2XsFormat,
    &kIq2SFormat,          &kIq3XxsFormat,        &kIq3SFormat,         &kTq1Format,
    &kTq2Format,           &kFp8Format,           &kFp8B32Format,       &kNf4Format,
    &kFp4Format,           &kBnbInt8Format,       &kIntGroupFormats[0], &kIntGroupFormats[1],
    &kIntGroupFormats[2],  &kIntGroupFormats[3],  &kIntGroupFormats[4], &kIntGroupFormats[5],
    &kIntGroupFormats[6],  &kIntGroupFormats[7],  &kIntGroupFormats[8], &kIntGroupFormats[9],
    &kIntGroupFormats[10], &kIntGroupFormats[11],
};
static_assert(kIntGroupFormatCount == 12, "all of them are in the list above");

}  // namespace

absl::Span<const WeightFormat* const> AllWeightFormats() { return kFormats; }

const WeightFormat* FindWeightFormat(absl::string_view name) {
  for (const WeightFormat* format : kFormats) {
    if (absl::EqualsIgnoreCase(format->name, name)) return format;
  }
  for (const WeightFormat& format : PlannedFormats()) {
    if (absl::EqualsIgnoreCase(format.name, name)) return &format;
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
  std::vector<absl::string_view> encoded, decoded, mixtures, planned;
  for (const WeightFormat* format : kFormats) {
    (format->quantize != nullptr ? encoded : decoded).push_back(format->name);
  }
  for (const WeightFormat& format : PlannedFormats()) {
    (IsMixture(format) ? mixtures : planned).push_back(format.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "wanted a weight format (", absl::StrJoin(encoded, ", "), "; mixtures ",
      absl::StrJoin(mixtures, ", "), "; only read from files: ", absl::StrJoin(decoded, ", "),
      "; to plan also ", absl::StrJoin(planned, ", "), "), found \"", name, "\""));
}

}  // namespace tprun
