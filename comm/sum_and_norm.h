#pragma once

#include <cstdint>

namespace tprun {

// A sum that goes into a residual and a norm over it: f32, [tokens, dim], all on the device.
struct SumAndNorm {
  const float* parts = nullptr;  // of this rank
  float* residual = nullptr;
  const float* weight = nullptr;  // [dim]
  float* out = nullptr;
  int64_t tokens = 0;
  int64_t dim = 0;
  float eps = 0;
  bool unit_offset = false;  // the weight has one added
};

}  // namespace tprun
