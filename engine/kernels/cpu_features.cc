#include "engine/kernels/cpu_features.h"

#include <atomic>

#include "hwy/targets.h"

namespace tprun::cpu {
namespace {

std::atomic<bool> without_dots{false};

#if defined(__x86_64__)
bool FindVnni() { return __builtin_cpu_supports("avx512vnni"); }
bool FindBf16Dot() { return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel"); }
bool IsAvx512() { return (hwy::SupportedTargets() & (HWY_AVX3 | HWY_AVX3_DL)) != 0; }
#else
bool FindVnni() { return false; }
bool FindBf16Dot() { return false; }
bool IsAvx512() { return false; }
#endif

}  // namespace

bool HasVnni() {
  static const bool has = FindVnni();
  return has && !without_dots;
}
bool HasBf16Dot() {
  static const bool has = FindBf16Dot();
  return has && !without_dots && IsAvx512();
}
void WithoutDotsForTest(bool without) { without_dots = without; }

}  // namespace tprun::cpu
