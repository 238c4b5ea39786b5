#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/json.h"

namespace tprun {

// What an audio codec needs, as its config tells. Codecs are no chains of blocks and are not run
// yet: they can be planned beside a language model, or alone.
struct CodecSize {
  std::string kind;  // "Mimi codec", "SNAC codec"
  int64_t parameters = 0;
  int64_t weight_bytes = 0;  // f32
  int64_t state_bytes = 0;   // kept from frame to frame, f32
  double frames_per_s = 0;   // of the finest codebook
  int64_t sample_rate = 0;
  int codebooks = 0;
};

// The config is of a codec that CodecSizeOf knows.
bool IsCodecConfig(const Json& config);

// Counted layer by layer (kyutai-labs/moshi rust/moshi-core/src/{mimi,seanet,quantization}.rs;
// hubertsiuzdak/snac snac/layers.py). InvalidArgument names the member that is wrong.
absl::StatusOr<CodecSize> CodecSizeOf(const Json& config);

}  // namespace tprun
