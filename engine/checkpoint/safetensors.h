#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint_builder.h"

namespace tprun {

// Adds a single .safetensors file.
absl::Status AddSafetensorsFile(const std::string& path, CheckpointBuilder& builder);

// Whether at least one of the shards that an index names lies beside it.
absl::StatusOr<bool> AnyShardExists(const std::string& index_path);

// Adds the shards that a model.safetensors.index.json names, which lie beside it. Every tensor of
// the index must be in the shard it is said to be in.
absl::Status AddSafetensorsIndex(const std::string& index_path, CheckpointBuilder& builder);

}  // namespace tprun
