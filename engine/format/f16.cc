#include <cstring>

#include "base/dtype.h"
#include "engine/format/weight_format.h"

namespace tprun {
namespace {

// memcpy: nothing promises that a tensor of a file lies on an even address.
void Dequantize(const void* blocks, float* out, int64_t count) {
  const char* source = static_cast<const char*>(blocks);
  for (int64_t i = 0; i < count; ++i) {
    Float16 value;
    std::memcpy(&value, source + i * sizeof(value), sizeof(value));
    out[i] = ToFloat(value);
  }
}

void Quantize(const float* in, void* blocks, int64_t count) {
  char* target = static_cast<char*>(blocks);
  for (int64_t i = 0; i < count; ++i) {
    const Float16 value = ToFloat16(in[i]);
    std::memcpy(target + i * sizeof(value), &value, sizeof(value));
  }
}

}  // namespace

const WeightFormat kF16Format = {.name = "f16",
                                 .ggml_type = 1,
                                 .safetensors = "F16",
                                 .block_elements = 1,
                                 .block_bytes = 2,
                                 .dequantize = Dequantize,
                                 .quantize = Quantize};

}  // namespace tprun
