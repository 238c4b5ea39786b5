#pragma once

// The instruction sets that the kernels are compiled for; to be included before Highway. Left out:
// on x86, for the compile time, SSSE3 and AVX3_DL, whose additions are not used here; on Arm those
// whose vectors have no fixed size, which arrays cannot hold.
#if defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#endif
