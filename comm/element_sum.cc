#include "comm/element_sum.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace tprun {
namespace {

template <typename T>
T FromFloat(float value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return ToBFloat16(value);
  } else if constexpr (std::is_same_v<T, Float16>) {
    return ToFloat16(value);
  } else {
    return value;
  }
}

template <typename T>
void Add(const T* value, T* sum, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] = FromFloat<T>(ToFloat(sum[i]) + ToFloat(value[i]));
}

template <typename T>
void Sum(absl::Span<const void* const> sources, absl::Span<void* const> results, int64_t begin,
         int64_t end) {
  constexpr int64_t kBlock = 1024;  // sums of one block stay in the L1 cache
  float sums[kBlock];
  [[maybe_unused]] T rounded[kBlock];
  for (int64_t at = begin; at < end; at += kBlock) {
    const int64_t count = std::min(kBlock, end - at);
    const T* first = static_cast<const T*>(sources[0]) + at;
    for (int64_t i = 0; i < count; ++i) sums[i] = ToFloat(first[i]);
    for (const void* source : sources.subspan(1)) {
      const T* values = static_cast<const T*>(source) + at;
      for (int64_t i = 0; i < count; ++i) sums[i] += ToFloat(values[i]);
    }
    const void* sum = sums;
    if constexpr (!std::is_same_v<T, float>) {
      for (int64_t i = 0; i < count; ++i) rounded[i] = FromFloat<T>(sums[i]);
      sum = rounded;
    }
    for (void* result : results) {
      std::memcpy(static_cast<T*>(result) + at, sum, count * sizeof(T));
    }
  }
}

// Two sources and one result, the commonest: in one pass. The result may be a source, element for
// element, which the compiler could not know.
void SumTwo(const float* a, const float* b, float* sum, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

}  // namespace

void AddElements(const void* value, void* sum, int64_t count, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return Add(static_cast<const float*>(value), static_cast<float*>(sum), count);
    case DType::kF16:
      return Add(static_cast<const Float16*>(value), static_cast<Float16*>(sum), count);
    case DType::kBF16:
      return Add(static_cast<const BFloat16*>(value), static_cast<BFloat16*>(sum), count);
  }
}

void SumElements(absl::Span<const void* const> sources, absl::Span<void* const> results,
                 int64_t begin, int64_t end, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      if (sources.size() == 2 && results.size() == 1) {
        return SumTwo(static_cast<const float*>(sources[0]) + begin,
                      static_cast<const float*>(sources[1]) + begin,
                      static_cast<float*>(results[0]) + begin, end - begin);
      }
      return Sum<float>(sources, results, begin, end);
    case DType::kF16:
      return Sum<Float16>(sources, results, begin, end);
    case DType::kBF16:
      return Sum<BFloat16>(sources, results, begin, end);
  }
}

}  // namespace tprun
