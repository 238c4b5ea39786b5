#include "engine/kernels/cpu_peaks.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "engine/kernels/cpu_features.h"
#include "engine/kernels/cpu_targets.h"
#include "engine/kernels/int8_ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/kernels/cpu_peaks.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep

#include "engine/kernels/int8_dot-inl.h"
#include "engine/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace tprun::cpu {
namespace HWY_NAMESPACE {

// Enough sums that none waits for itself.
constexpr int kSums = 12;
constexpr int64_t kRounds = 100'000;

// Has the compiler know nothing of a vector, so that a product with it stays where it is.
template <class Vec>
HWY_INLINE void Forget(Vec& vec) {
#if HWY_TARGET == HWY_SCALAR
  asm volatile("" : "+m"(vec));
#elif defined(__x86_64__)
  asm volatile("" : "+x"(vec.raw));
#else
  asm volatile("" : "+w"(vec.raw));
#endif
}

// The operations of kRounds rounds of kSums steps; `seed`, which the compiler does not know, keeps
// them from being foreseen, and the result from being left out.
template <class Vec, class Step>
HWY_INLINE Vec Repeat(Vec zero, Vec x, const Step& step) {
  Vec sums[kSums];
  for (Vec& sum : sums) sum = zero;
  for (int64_t i = 0; i < kRounds; ++i) {
    for (Vec& sum : sums) {
      Vec factor = x;
      Forget(factor);
      sum = step(sum, factor);
    }
  }
  for (int i = 1; i < kSums; ++i) sums[0] = hn::Add(sums[0], sums[i]);
  return sums[0];
}

double F32Operations(float seed, float* sink) {
  const F32Tag d;
  const F32Vec x = hn::Set(d, seed);
  *sink = Sum(
      Repeat(hn::Zero(d), x, [](F32Vec sum, F32Vec v) HWY_ATTR { return hn::MulAdd(v, v, sum); }));
  return 2.0 * kLanes * kSums * kRounds;
}

double Bf16Operations(float seed, float* sink) {
#if HWY_TARGET == HWY_AVX3
  const F32Tag d;
  const F32Vec x = hn::Set(d, seed);
  *sink = Sum(Repeat(hn::Zero(d), x, [](F32Vec sum, F32Vec v) HWY_ATTR {
    asm("vdpbf16ps %1, %1, %0" : "+v"(sum.raw) : "v"(v.raw));
    return sum;
  }));
  return 4.0 * kLanes * kSums * kRounds;
#else
  *sink = seed;
  return 0;
#endif
}

#if HWY_TARGET == HWY_SCALAR
double Int8Operations(float seed, float* sink) {
  *sink = seed;
  return 0;
}
#else
template <class Dot>
double DotOperations(float seed, float* sink) {
  const I32Tag d;
  const I32Vec x = hn::Set(d, static_cast<int32_t>(seed * 0x01010101));
  const I32Vec sums = Repeat(hn::Zero(d), x, [](I32Vec sum, I32Vec v) HWY_ATTR {
    return Dot::AddLanes(sum, hn::BitCast(U8Tag(), v), v);
  });
  *sink = static_cast<float>(hn::GetLane(hn::SumOfLanes(d, sums)));
  return 8.0 * kLanes * kSums * kRounds;
}

double Int8Operations(float seed, float* sink) {
#ifdef TPRUN_HAVE_VNNI_DOT
  if (HasVnni()) return DotOperations<VnniDot>(seed, sink);
#endif
  return DotOperations<WidenedDot<127> >(seed, sink);
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace tprun::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tprun::cpu {
HWY_EXPORT(F32Operations);
HWY_EXPORT(Bf16Operations);
HWY_EXPORT(Int8Operations);

namespace {

// The best of some rounds in which all threads work.
template <class Run>
double Rate(ThreadPool& pool, const Run& run) {
  volatile float seed = 1;
  std::vector<float> sinks(pool.num_threads());
  std::vector<double> done(pool.num_threads());
  double best = 0;
  for (int round = 0; round < 7; ++round) {
    std::fill(done.begin(), done.end(), 0);
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(pool.num_threads(), 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) done[worker] += run(seed, &sinks[worker]);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    double all = 0;
    for (double of_worker : done) all += of_worker;
    best = std::max(best, all / std::max(took.count(), 1e-9));
  }
  return best;
}

}  // namespace

Arithmetic ArithmeticOf(const WeightFormat& format, Activations activations) {
  if (activations == Activations::kF32) return Arithmetic::kF32;
  if (FindInt8Format(format) != nullptr) {
    return activations == Activations::kInt8 ? Arithmetic::kInt8 : Arithmetic::kTwiceInt8;
  }
  const bool rounds = activations == Activations::kInt8 && &format == &kBF16Format;
  return rounds && HasBf16Dot() ? Arithmetic::kBf16 : Arithmetic::kF32;
}

double PeakOf(const CpuPeaks& peaks, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kF32:
      return peaks.f32;
    case Arithmetic::kBf16:
      return peaks.bf16;
    case Arithmetic::kInt8:
      return peaks.int8;
    case Arithmetic::kTwiceInt8:  // two dot products of bytes for each product
      return peaks.int8 / 2;
  }
  return 0;
}

CpuPeaks MeasureCpuPeaks(ThreadPool& pool) {
  CpuPeaks peaks;
  peaks.f32 = Rate(pool, [](float seed, float* sink) {
    return HWY_DYNAMIC_DISPATCH(F32Operations)(seed, sink);
  });
  peaks.int8 = Rate(pool, [](float seed, float* sink) {
    return HWY_DYNAMIC_DISPATCH(Int8Operations)(seed, sink);
  });
  if (!HasBf16Dot()) return peaks;
  peaks.bf16 = Rate(pool, [](float seed, float* sink) {
    return HWY_DYNAMIC_DISPATCH(Bf16Operations)(seed, sink);
  });
  return peaks;
}

}  // namespace tprun::cpu
#endif  // HWY_ONCE
