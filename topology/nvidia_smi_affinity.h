#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// The columns that may follow the matrix of `nvidia-smi topo -m`, in their order.
inline constexpr std::array<absl::string_view, 3> kAffinityColumns = {
    "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"};

// Which of them a header has: how many of the first. InvalidArgument for another column.
absl::StatusOr<int> ParseAffinityHeader(absl::string_view tail);

// The values of one row, as printed; nullopt where the cell is blank.
using AffinityValues = std::array<std::optional<std::string>, 3>;

// Tells which columns the values of a row belong to. Where cells are blank, only the tabs (or the
// blanks that tabs became) tell, by how nvidia-smi prints a row; `row` is all of it and the
// affinities begin at `position`. `header` likewise serves where somebody set the table up by
// hand. InvalidArgument when there are more values than columns, or nothing tells.
absl::StatusOr<AffinityValues> ReadAffinities(absl::string_view row, size_t position,
                                              absl::string_view header, size_t header_position,
                                              int columns);

}  // namespace tprun
