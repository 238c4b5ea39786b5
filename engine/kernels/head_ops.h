#pragma once

#include <cstdint>

#include "engine/kernels/kernels.h"

namespace tprun {

// Kernels::HeadMatMul, transposed, of one head: w is its matrix. Each row is decoded once for all
// tokens.
void TransposedHeadMatMul(const HeadVectors& x, const WeightMatrix& w, int64_t tokens, int head,
                          const HeadVectors& out);

}  // namespace tprun
