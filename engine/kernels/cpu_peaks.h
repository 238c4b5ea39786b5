#pragma once

#include "base/thread_pool.h"

namespace tprun::cpu {

// What the arithmetic of the CPU reaches in registers, in operations per second (a product and its
// sum are two), with all threads of a pool: the ceilings of products of many tokens.
struct CpuPeaks {
  double f32 = 0;
  double bf16 = 0;  // dot products that sum in f32; 0 where the kernels use none
  double int8 = 0;  // dot products of bytes
};

// Takes some tens of milliseconds.
CpuPeaks MeasureCpuPeaks(ThreadPool& pool);

}  // namespace tprun::cpu
