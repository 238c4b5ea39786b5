#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeadsPerBlock = 8;

// The angles of a token, once for all heads: cosines, then sines, in shared memory. In double: at
// position 100000 an f32 angle is off by up to 0.004.
__device__ __forceinline__ void FindAngles(const RopeArguments& rope, int32_t position,
                                           float* cosines) {
  for (int i = threadIdx.x; i < rope.half; i += kThreads) {
    double sine, cosine;
    sincos(static_cast<double>(position) * static_cast<double>(rope.inverse_frequencies[i]), &sine,
           &cosine);
    cosines[i] = static_cast<float>(cosine * rope.magnitude);
    cosines[rope.half + i] = static_cast<float>(sine * rope.magnitude);
  }
  __syncthreads();
}

struct Pair {
  int a, b;  // elements of the head
  float new_a, new_b;
};

__device__ __forceinline__ Pair Rotated(const float* head, const RopeArguments& rope,
                                        const float* cosines, int i) {
  Pair pair;
  pair.a = rope.interleaved ? 2 * i : i;
  pair.b = rope.interleaved ? 2 * i + 1 : i + rope.half;
  const float a = head[pair.a], b = head[pair.b];
  const float cosine = cosines[i], sine = cosines[rope.half + i];
  pair.new_a = a * cosine - b * sine;
  pair.new_b = a * sine + b * cosine;
  return pair;
}

// Block: some heads of a token.
__global__ void __launch_bounds__(kThreads)
    RopeKernel(float* x, const int32_t* positions, int heads, int head_dim, int64_t stride,
               RopeArguments rope) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  float* cosines = DynamicShared<float>();
  FindAngles(rope, positions[blockIdx.x], cosines);
  const int first = blockIdx.y * kHeadsPerBlock;
  const int count = min(kHeadsPerBlock, heads - first);
  float* token = x + blockIdx.x * stride + static_cast<int64_t>(first) * head_dim;
  for (int i = threadIdx.x; i < count * rope.half; i += kThreads) {
    float* head = token + i / rope.half * head_dim;
    const Pair pair = Rotated(head, rope, cosines, i % rope.half);
    head[pair.a] = pair.new_a;
    head[pair.b] = pair.new_b;
  }
}

struct StoreArguments {
  float* q;
  int query_heads;
  const float* k;
  const float* v;
  int64_t stride;
  Tokens tokens;
  RopeArguments rope;
  CacheArguments cache;
};

// Where head `head` of token `token` goes.
template <class E>
__device__ __forceinline__ typename E::Bits* CacheRow(const StoreArguments& a, void* data,
                                                      int64_t token, int head) {
  using Bits = typename E::Bits;
  const int64_t sequence = a.tokens.sequences[token];
  const int64_t row = RowsOf(a.cache, sequence, head).At(a.tokens.positions[token]);
  return const_cast<Bits*>(E::RowAt(FirstOf<Bits>(a.cache, data, sequence), row, a.cache.head_dim));
}

// A warp stores a head, of which `rope`, if any, turns the first elements on the way.
template <class E>
__device__ __forceinline__ void StoreHead(const float* from, const RopeArguments& rope, int half,
                                          const float* cosines, int head_dim,
                                          typename E::Bits* to) {
  const int lane = threadIdx.x % 32;
  for (int i = lane; i < half; i += 32) {
    const Pair pair = Rotated(from, rope, cosines, i);
    to[pair.a] = E::Store(pair.new_a);
    to[pair.b] = E::Store(pair.new_b);
  }
  for (int i = 2 * half + lane; i < head_dim; i += 32) to[i] = E::Store(from[i]);
}

// Whole blocks: each lane has an element of every one.
template <>
__device__ __forceinline__ void StoreHead<Q8_0Rows>(const float* from, const RopeArguments& rope,
                                                    int half, const float* cosines, int head_dim,
                                                    uint8_t* to) {
  const int lane = threadIdx.x % 32;
  for (int block = 0; block < head_dim / 32; ++block, to += Q8_0Rows::kBlockBytes) {
    const int i = block * 32 + lane;
    float value = from[i];
    if (i < 2 * half) {
      const Pair pair = Rotated(from, rope, cosines, rope.interleaved ? i / 2 : i % half);
      value = i == pair.a ? pair.new_a : pair.new_b;
    }
    float largest = fabsf(value);  // fmaxf leaves NaN out
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bits));
    }
    const float scale = largest / 127.0f;
    const float scaled = value * (scale != 0 ? 1.0f / scale : 0.0f);
    const float quant = scaled != scaled ? 0.0f : roundf(fminf(fmaxf(scaled, -127.0f), 127.0f));
    to[2 + lane] = static_cast<uint8_t>(static_cast<int8_t>(quant));
    if (lane == 0) *reinterpret_cast<uint16_t*>(to) = F16Element::Store(scale);
  }
}

// Block: some of a token's heads, those of q, then of k, then of v.
template <class E>
__global__ void __launch_bounds__(kThreads) RopeStoreKvKernel(StoreArguments a) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t token = blockIdx.x;
  const int head_dim = a.cache.head_dim, kv_heads = a.cache.kv_heads;
  float* cosines = DynamicShared<float>();
  FindAngles(a.rope, a.tokens.positions[token], cosines);
  const int end =
      min((static_cast<int>(blockIdx.y) + 1) * kHeadsPerBlock, a.query_heads + 2 * kv_heads);
  for (int head = blockIdx.y * kHeadsPerBlock + threadIdx.x / 32; head < end;
       head += kThreads / 32) {
    const int lane = threadIdx.x % 32;
    if (head < a.query_heads) {
      float* q = a.q + token * a.stride + static_cast<int64_t>(head) * head_dim;
      for (int i = lane; i < a.rope.half; i += 32) {
        const Pair pair = Rotated(q, a.rope, cosines, i);
        q[pair.a] = pair.new_a;
        q[pair.b] = pair.new_b;
      }
      continue;
    }
    const bool is_key = head < a.query_heads + kv_heads;
    const int kv_head = head - a.query_heads - (is_key ? 0 : kv_heads);
    const float* from =
        (is_key ? a.k : a.v) + token * a.stride + static_cast<int64_t>(kv_head) * head_dim;
    auto* to = CacheRow<E>(a, is_key ? a.cache.keys : a.cache.values, token, kv_head);
    StoreHead<E>(from, a.rope, is_key ? a.rope.half : 0, cosines, head_dim, to);
  }
}

unsigned HeadBlocks(int heads) {
  return static_cast<unsigned>((heads + kHeadsPerBlock - 1) / kHeadsPerBlock);
}

}  // namespace

cudaError_t Rope(const Stream& stream, float* x, const Tokens& tokens, int heads, int head_dim,
                 int64_t stride, const RopeArguments& rope) {
  const Grid grid = {dim3(static_cast<unsigned>(tokens.count), HeadBlocks(heads)), dim3(kThreads),
                     2 * sizeof(float) * rope.half};
  return Launch(stream, grid, &RopeKernel, x, tokens.positions, heads, head_dim, stride, rope);
}

cudaError_t RopeStoreKv(const Stream& stream, float* q, int query_heads, const float* k,
                        const float* v, int64_t stride, const Tokens& tokens,
                        const RopeArguments& rope, const CacheArguments& cache) {
  const StoreArguments arguments = {
      q, q == nullptr ? 0 : query_heads, k, v, stride, tokens, rope, cache};
  const Grid grid = {dim3(static_cast<unsigned>(tokens.count),
                          HeadBlocks(arguments.query_heads + 2 * cache.kv_heads)),
                     dim3(kThreads), 2 * sizeof(float) * rope.half};
  switch (cache.element) {
    case Element::kF32:
      return Launch(stream, grid, &RopeStoreKvKernel<F32Element>, arguments);
    case Element::kF16:
      return Launch(stream, grid, &RopeStoreKvKernel<F16Element>, arguments);
    case Element::kBF16:
      return Launch(stream, grid, &RopeStoreKvKernel<Bf16Element>, arguments);
    case Element::kE4M3:
      return Launch(stream, grid, &RopeStoreKvKernel<E4M3Element>, arguments);
    case Element::kQ8_0:
      return Launch(stream, grid, &RopeStoreKvKernel<Q8_0Rows>, arguments);
  }
  return cudaErrorInvalidValue;
}

}  // namespace tprun::cuda
