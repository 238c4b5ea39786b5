#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace tprun {

// A tensor type of GGUF, decodable here or not: what is needed to check a header.
struct GgmlType {
  uint32_t id;
  absl::string_view name;
  int64_t block_elements;
  int64_t block_bytes;
};

// nullptr for an id that no version of ggml up to 2026-08 gives out.
const GgmlType* FindGgmlTypeInfo(uint32_t id);

// Ids that were in use once, whose layouts are gone from ggml.
bool IsRetiredGgmlType(uint32_t id);

}  // namespace tprun
