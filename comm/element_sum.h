#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "base/dtype.h"

namespace tprun {

// sum[i] += value[i] for i < count; bf16 and f16 are added in f32 and rounded.
void AddElements(const void* value, void* sum, int64_t count, DType dtype);

// results[k][i] = sources[0][i] + sources[1][i] + ... for begin <= i < end and every k, added in
// f32 in the order of the sources and rounded once. A result may be one of the sources.
void SumElements(absl::Span<const void* const> sources, absl::Span<void* const> results,
                 int64_t begin, int64_t end, DType dtype);

}  // namespace tprun
