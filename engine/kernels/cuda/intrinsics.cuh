#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

// What CUDA C++ has no portable words for: inline PTX and the names of dynamic shared memory. All
// else in this folder is plain code that tests/cuda_emulation also runs on the host, with a
// stand-in for this file.

namespace tprun::cuda {

template <class T>
__device__ __forceinline__ T* DynamicShared() {
  extern __shared__ __align__(16) unsigned char tprun_dynamic_shared[];
  return reinterpret_cast<T*>(tprun_dynamic_shared);
}

// Kernels of a stream may start before the one before them has ended (programmatic dependent
// launch, compute capability 9.0). Every kernel calls this before it touches what an earlier one
// wrote or reads; weights may be read before.
__device__ __forceinline__ void WaitForPreviousKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may be started from here on; it waits as above.
__device__ __forceinline__ void LetNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// The compiler moves no load across: keeps values from being loaded long before they are used,
// which costs registers.
__device__ __forceinline__ void KeepLoadsHere() { asm volatile("" ::: "memory"); }

// The compiler computes the value here, once, and keeps it instead of what it is made of.
__device__ __forceinline__ void KeepInRegister(uint32_t& value) { asm volatile("" : "+r"(value)); }

// Where the compiler needs more registers for the same code (nvcc 13.0).
#if __CUDA_ARCH__ >= 1200
constexpr bool kTightRegisters = true;
#else
constexpr bool kTightRegisters = false;
#endif

// Loads of data that is read once: it need not stay in the first-level cache.
__device__ __forceinline__ uint4 LoadStreaming(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}
__device__ __forceinline__ uint2 LoadStreaming(const uint2* p) { return __ldg(p); }
__device__ __forceinline__ uint32_t LoadStreaming(const uint32_t* p) { return __ldg(p); }

// a - b and a * b, each two bf16.
__device__ __forceinline__ uint32_t SubtractBf16x2(uint32_t a, uint32_t b) {
  const __nv_bfloat162 difference = __hsub2(*reinterpret_cast<const __nv_bfloat162*>(&a),
                                            *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&difference);
}

__device__ __forceinline__ uint32_t MultiplyBf16x2(uint32_t a, uint32_t b) {
  const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&a),
                                         *reinterpret_cast<const __nv_bfloat162*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

// a * b, each two f16.
__device__ __forceinline__ uint32_t MultiplyF16x2(uint32_t a, uint32_t b) {
  const __half2 product =
      __hmul2(*reinterpret_cast<const __half2*>(&a), *reinterpret_cast<const __half2*>(&b));
  return *reinterpret_cast<const uint32_t*>(&product);
}

#if __CUDA_ARCH__ < 800
// Compute capability 7.5 has no bf16 tiles: the lanes exchange what the tile's layout gives them.
// Slow, for the oldest GPUs with weights whose range f16 does not have.
// Not inlined: it is long.
static __device__ __noinline__ float4 MultiplyAddBf16Shuffled(float4 d, uint4 a, uint2 b) {
  const int lane = threadIdx.x % 32;
  float sums[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll 1
    for (int quad = 0; quad < 4; ++quad) {
      const int row = lane / 4 * 4 + quad;
      const uint32_t upper = __shfl_sync(~0u, half == 0 ? a.x : a.z, row);
      const uint32_t lower = __shfl_sync(~0u, half == 0 ? a.y : a.w, row);
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const uint32_t x =
            __shfl_sync(~0u, half == 0 ? b.x : b.y, (lane % 4 * 2 + column) * 4 + quad);
        const float x0 = __uint_as_float(x << 16), x1 = __uint_as_float(x & 0xffff0000u);
        sums[column] +=
            __uint_as_float(upper << 16) * x0 + __uint_as_float(upper & 0xffff0000u) * x1;
        sums[2 + column] +=
            __uint_as_float(lower << 16) * x0 + __uint_as_float(lower & 0xffff0000u) * x1;
      }
    }
  }
  return make_float4(sums[0], sums[1], sums[2], sums[3]);
}

__device__ __forceinline__ void MultiplyAddBf16Shuffled(float (&d)[4], const uint32_t (&a)[4],
                                                        const uint32_t (&b)[2]) {
  const float4 sums =
      MultiplyAddBf16Shuffled(make_float4(d[0], d[1], d[2], d[3]),
                              make_uint4(a[0], a[1], a[2], a[3]), make_uint2(b[0], b[1]));
  d[0] = sums.x, d[1] = sums.y, d[2] = sums.z, d[3] = sums.w;
}
#endif

// d += a b for a tile of 16 x 16 (row-major) and one of 16 x 8, sums in f32; with g = lane / 4 and
// q = lane % 4 a lane holds, two to a register,
//   a[0], a[1]: rows g and g + 8, columns 2q, 2q+1;  a[2], a[3]: the same rows, columns 2q+8, 2q+9
//   b[0], b[1]: rows 2q, 2q+1 and 2q+8, 2q+9 of column g
//   d[0], d[1]: row g, columns 2q, 2q+1;  d[2], d[3]: row g + 8
// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
__device__ __forceinline__ void MultiplyAddBf16(float (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  MultiplyAddBf16Shuffled(d, a, b);
#endif
}

// d = a b.
__device__ __forceinline__ void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%10, %10, %10, %10};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(0.0f));
#else
  d[0] = d[1] = d[2] = d[3] = 0;
  MultiplyAddBf16Shuffled(d, a, b);
#endif
}

__device__ __forceinline__ void MultiplyAddF16(float (&d)[4], const uint32_t (&a)[4],
                                               const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
  }
#endif
}

// Four 8 x 8 tiles of 16-bit elements from shared memory, transposed: lane i gives the address of
// row i % 8 of tile i / 8, and gets of each tile rows 2q and 2q + 1 of column g. PTX ISA,
// "ldmatrix".
__device__ __forceinline__ void LoadTransposed(uint32_t (&tiles)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(address)
               : "memory");
}

}  // namespace tprun::cuda
