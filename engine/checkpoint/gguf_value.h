#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/checkpoint/byte_reader.h"

namespace tprun {

// Reads the metadata of a GGUF file: `count` pairs of key and value. Numbers keep their exact
// value, strings their bytes (they need not be UTF-8: a vocabulary's pieces may be anything).
absl::StatusOr<Json> ReadGgufMetadata(ByteReader& reader, const std::string& path, uint64_t count);

// A GGUF string: u64 length, then bytes. InvalidArgument when longer than `longest`.
absl::StatusOr<std::string> ReadGgufString(ByteReader& reader, const std::string& path,
                                           uint64_t longest, absl::string_view what);

}  // namespace tprun
