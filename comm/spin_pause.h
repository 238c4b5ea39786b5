#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tprun {

// One turn of a busy wait: lets the sibling hardware thread go first.
inline void SpinPause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield" ::: "memory");
#endif
}

}  // namespace tprun
