#include <cstring>

#include "engine/format/weight_format.h"

namespace tprun {
namespace {

void Dequantize(const void* blocks, float* out, int64_t count) {
  if (count > 0) std::memcpy(out, blocks, count * sizeof(float));
}

void Quantize(const float* in, void* blocks, int64_t count) {
  if (count > 0) std::memcpy(blocks, in, count * sizeof(float));
}

}  // namespace

const WeightFormat kF32Format = {.name = "f32",
                                 .ggml_type = 0,
                                 .safetensors = "F32",
                                 .block_elements = 1,
                                 .block_bytes = 4,
                                 .dequantize = Dequantize,
                                 .quantize = Quantize};

}  // namespace tprun
