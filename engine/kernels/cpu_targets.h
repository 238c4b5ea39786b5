#pragma once

// The instruction sets that the kernels are compiled for; to be included before Highway. Left out:
// on x86, for the compile time, SSSE3, AVX3_DL and what newer Highways have beyond it (AVX3_SPR,
// bit 4, and AVX3_ZEN4, bit 6, which older ones do not name): what of their additions is used here
// is asked for at run time, within AVX3; on Arm those whose vectors have no fixed size, which
// arrays cannot hold.
#if defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | (1LL << 4) | (1LL << 6))
#endif
