#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace tprun {

// What golden data keeps instead of large values.
inline uint64_t Fnv1a(absl::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  return hash;
}

}  // namespace tprun
