#pragma once

#include "base/thread_pool.h"
#include "engine/kernels/kernels.h"

namespace tprun::cpu {

// What the arithmetic of the CPU reaches in registers, in operations per second (a product and its
// sum are two), with all threads of a pool: the ceilings of products of many tokens.
struct CpuPeaks {
  double f32 = 0;
  double bf16 = 0;  // dot products that sum in f32; 0 where the kernels use none
  double int8 = 0;  // dot products of bytes
};

// What products with weights of a format are multiplied in by kernels that take their activations
// as told.
enum class Arithmetic { kF32, kBf16, kInt8, kTwiceInt8 };
Arithmetic ArithmeticOf(const WeightFormat& format, Activations activations);

// The ceiling of products in it.
double PeakOf(const CpuPeaks& peaks, Arithmetic arithmetic);

// Takes some tens of milliseconds.
CpuPeaks MeasureCpuPeaks(ThreadPool& pool);

}  // namespace tprun::cpu
