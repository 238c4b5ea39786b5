#pragma once

namespace tprun::cpu {

// Instructions beyond the targets of Highway, looked for once at run time.
bool HasVnni();  // AVX-512: vpdpbusd

// AVX-512: vdpbf16ps, where it is faster than f32's multiply-add. Intel's cores up to Emerald
// Rapids have it at half the rate of f32 (measured 2026-11-20), AMD's Zen 5 at nearly twice
// (2026-11-30).
bool HasBf16Dot();

// As if the machine had none of them.
void WithoutDotsForTest(bool without);

}  // namespace tprun::cpu
