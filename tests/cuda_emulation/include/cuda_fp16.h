#pragma once

// See cuda_runtime.h beside this.

#include "base/dtype.h"

struct __half {
  unsigned short bits;
};
inline float __half2float(__half x) { return tprun::ToFloat(tprun::Float16{x.bits}); }
inline __half __float2half_rn(float x) { return {tprun::ToFloat16(x).bits}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
