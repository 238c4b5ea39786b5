#include "engine/format/planned_formats.h"

#include "absl/strings/match.h"

namespace tprun {
namespace {

constexpr WeightFormat Ggml(absl::string_view name, int type, int64_t elements, int64_t bytes) {
  return {name, type, "", elements, bytes, nullptr, nullptr};
}

constexpr WeightFormat Other(absl::string_view name, absl::string_view safetensors,
                             int64_t elements, int64_t bytes) {
  return {name, -1, safetensors, elements, bytes, nullptr, nullptr};
}

constexpr WeightFormat kPlanned[] = {
    // ggml/src/ggml-common.h at ggml-org/ggml d99724f2b141 (2026-08-21).
    Ggml("nvfp4", 40, 64, 36),
    Ggml("q1_0", 41, 128, 18),
    Ggml("q2_0", 42, 64, 18),
    // Mixtures that llama.cpp's quantiser makes, by the type of most of their tensors: for
    // --weights only, no tensor is of these (see FormatInMix of engine/arch/assume_formats.h).
    Other("q3_k_s", "", 256, 110),
    Other("q3_k_m", "", 256, 110),
    Other("q3_k_l", "", 256, 110),
    Other("q4_k_s", "", 256, 144),
    Other("q4_k_m", "", 256, 144),
    Other("q5_k_s", "", 256, 176),
    Other("q5_k_m", "", 256, 176),
    // By themselves, without scales; with scales they are "fp8".
    Other("fp8_e4m3", "F8_E4M3", 1, 1),
    Other("fp8_e5m2", "F8_E5M2", 1, 1),
};

}  // namespace

absl::Span<const WeightFormat> PlannedFormats() { return kPlanned; }

bool IsMixture(const WeightFormat& format) {
  return format.ggml_type < 0 && format.safetensors.empty() && !format.decodable();
}

const WeightFormat* FindPlannedFormat(absl::string_view type_name) {
  for (const WeightFormat& format : kPlanned) {
    const bool is_ggml = format.ggml_type >= 0 && absl::EqualsIgnoreCase(format.name, type_name);
    if (is_ggml || (!format.safetensors.empty() && format.safetensors == type_name)) return &format;
  }
  return nullptr;
}

}  // namespace tprun
