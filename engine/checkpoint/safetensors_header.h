#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "base/file.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// Reads and checks the header of one safetensors file; the data is not touched. As upstream has
// it, the tensors fill the data without gaps or overlaps. A tensor of a dtype that this program
// cannot read has no format.
absl::StatusOr<std::vector<CheckpointTensor>> ReadSafetensorsHeader(const RandomAccessFile& file);

}  // namespace tprun
