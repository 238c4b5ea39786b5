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
    Ggml("iq2_xxs", 16, 256, 66),
    Ggml("iq2_xs", 17, 256, 74),
    Ggml("iq3_xxs", 18, 256, 98),
    Ggml("iq1_s", 19, 256, 50),
    Ggml("iq3_s", 21, 256, 110),
    Ggml("iq2_s", 22, 256, 82),
    Ggml("iq1_m", 29, 256, 56),
    Ggml("tq1_0", 34, 256, 54),
    Ggml("tq2_0", 35, 256, 66),
    Ggml("nvfp4", 40, 64, 36),
    Ggml("q1_0", 41, 128, 18),
    Ggml("q2_0", 42, 64, 18),
    // Mixtures that llama.cpp's quantiser makes, by the type of most of their tensors: for
    // --weights
    // only, no tensor is of these (see FormatInMix of engine/arch/assume_formats.h).
    Other("q3_k_s", "", 256, 110),
    Other("q3_k_m", "", 256, 110),
    Other("q3_k_l", "", 256, 110),
    Other("q4_k_s", "", 256, 144),
    Other("q4_k_m", "", 256, 144),
    Other("q5_k_s", "", 256, 176),
    Other("q5_k_m", "", 256, 176),
    // Scales per tensor, row or block of 128 x 128 are left out: 0.03 % of the bytes at most.
    Other("fp8_e4m3", "F8_E4M3", 1, 1),
    Other("fp8_e5m2", "F8_E5M2", 1, 1),
    // bitsandbytes: LLM.int8 (a scale per row is left out); NF4 with a byte of scale per 64 values
    // (double quantisation; its second scales are 0.05 % and left out) or with four.
    Other("bnb_int8", "", 1, 1),
    Other("nf4", "", 64, 33),
    Other("nf4_f32_scales", "", 64, 36),
    // GPTQ and AWQ: per group an f16 scale and a zero point of as many bits as a value; half a byte
    // counts as one, which is 0.8 % for groups of 128.
    Other("int4_g32", "", 64, 37),
    Other("int4_g64", "", 64, 35),
    Other("int4_g128", "", 128, 67),
    Other("awq_g128", "", 128, 67),
    Other("int8_g128", "", 128, 131),
};

}  // namespace

absl::Span<const WeightFormat> PlannedFormats() { return kPlanned; }

const WeightFormat* FindPlannedFormat(absl::string_view type_name) {
  for (const WeightFormat& format : kPlanned) {
    const bool is_ggml = format.ggml_type >= 0 && absl::EqualsIgnoreCase(format.name, type_name);
    if (is_ggml || (!format.safetensors.empty() && format.safetensors == type_name)) return &format;
  }
  return nullptr;
}

}  // namespace tprun
