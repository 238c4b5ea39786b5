#pragma once

// The stand-in for engine/kernels/cuda/intrinsics.cuh where the host's compiler compiles kernels:
// the same functions in plain C++. It lies earlier in the include path than the other.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace tprun::cuda {

template <class T>
T* DynamicShared() {
  return reinterpret_cast<T*>(::cuda_emulation::DynamicSharedMemory());
}

inline void WaitForPreviousKernel() {}
inline void LetNextKernelStart() {}

inline void KeepLoadsHere() {}
inline void KeepInRegister(uint32_t&) {}
constexpr bool kTightRegisters = false;

inline uint4 LoadStreaming(const uint4* p) { return *p; }
inline uint2 LoadStreaming(const uint2* p) { return *p; }
inline uint32_t LoadStreaming(const uint32_t* p) { return *p; }

// op on each half of two words, which are elements of Type.
template <class Type, class Encode, class Op>
uint32_t OnHalves(uint32_t a, uint32_t b, Encode encode, Op op) {
  uint32_t result = 0;
  for (int shift : {0, 16}) {
    const float value = op(ToFloat(Type{static_cast<uint16_t>(a >> shift)}),
                           ToFloat(Type{static_cast<uint16_t>(b >> shift)}));
    result |= uint32_t{encode(value).bits} << shift;
  }
  return result;
}
inline uint32_t SubtractBf16x2(uint32_t a, uint32_t b) {
  return OnHalves<BFloat16>(a, b, ToBFloat16, [](float x, float y) { return x - y; });
}
inline uint32_t MultiplyBf16x2(uint32_t a, uint32_t b) {
  return OnHalves<BFloat16>(a, b, ToBFloat16, [](float x, float y) { return x * y; });
}
inline uint32_t MultiplyF16x2(uint32_t a, uint32_t b) {
  return OnHalves<Float16>(a, b, ToFloat16, [](float x, float y) { return x * y; });
}

// What mma.sync does with the registers of all lanes, in f32.
template <class Decode>
void MultiplyAddTile(const char* name, float (&d)[4], const uint32_t (&a)[4],
                     const uint32_t (&b)[2], Decode decode) {
  const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const unsigned char* slots =
      ::cuda_emulation::ExchangeInWarp(name, 0xffffffffu, mine, sizeof(mine));
  const auto value = [&](int lane, int reg, int half) {
    uint32_t bits;
    std::memcpy(&bits, slots + lane * ::cuda_emulation::kMostExchanged + reg * 4, 4);
    return decode(static_cast<uint16_t>(bits >> (16 * half)));
  };
  const int lane = ::cuda_emulation::LaneOfThread();
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = lane % 4 * 2 + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const int quad = k % 8 / 2;
      sum += value(lane / 4 * 4 + quad, k / 8 * 2 + row_half, k % 2) *
             value(column * 4 + quad, 4 + k / 8, k % 2);
    }
    d[i] += sum;
  }
}

inline void MultiplyAddBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MultiplyAddTile("mma bf16", d, a, b, [](uint16_t bits) { return ToFloat(BFloat16{bits}); });
}

inline void MultiplyBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  d[0] = d[1] = d[2] = d[3] = 0;
  MultiplyAddBf16(d, a, b);
}

inline void MultiplyAddF16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  MultiplyAddTile("mma f16", d, a, b, [](uint16_t bits) { return ToFloat(Float16{bits}); });
}

inline void LoadTransposed(uint32_t (&tiles)[4], const void* row) {
  const unsigned char* slots =
      ::cuda_emulation::ExchangeInWarp("ldmatrix", 0xffffffffu, &row, sizeof(row));
  const int lane = ::cuda_emulation::LaneOfThread();
  for (int i = 0; i < 4; ++i) {
    tiles[i] = 0;
    for (int half = 0; half < 2; ++half) {
      const uint16_t* of_lane;
      std::memcpy(&of_lane,
                  slots + (i * 8 + lane % 4 * 2 + half) * ::cuda_emulation::kMostExchanged,
                  sizeof(of_lane));
      tiles[i] |= uint32_t{of_lane[lane / 4]} << (16 * half);
    }
  }
}

}  // namespace tprun::cuda
