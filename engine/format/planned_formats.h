#pragma once

#include "absl/types/span.h"
#include "engine/format/weight_format.h"

namespace tprun {

// Formats without a decoder here, known by their sizes: such weights can be planned, not run.
absl::Span<const WeightFormat> PlannedFormats();

// Whether it names a mixture of types ("q4_k_m"), each of which can be made, and no type of a
// tensor.
bool IsMixture(const WeightFormat& format);

// The one of them that a checkpoint's header calls `type_name` ("Q4_K", "F8_E4M3"), or nullptr.
const WeightFormat* FindPlannedFormat(absl::string_view type_name);

}  // namespace tprun
