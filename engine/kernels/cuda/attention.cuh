#pragma once

#include <cstdint>

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/cuda/reduce.cuh"

// Attention of one token over its sequence: a block has all query heads of a KV head (or as many as
// fit), so that keys and values are read once, and one part of the positions. Its warps take the
// positions in turn, kept in step by an online softmax (arXiv 1805.02867), and are put together in
// shared memory; the parts of a sequence in device memory, by the block that comes last.

namespace tprun::cuda {

constexpr int kAttentionWarps = 8;
constexpr float kLog2e = 1.4426950408889634f;
constexpr float kLowest =
    -3.0e38f;  // less than any score; differences to it do not overflow to NaN

// The query heads of a block: of KV head `kv_head` of this rank.
struct HeadGroup {
  int kv_head;
  int first;
  int count;
};

// Groups of at most `most` heads; `parts` groups for each KV head from the first that is read on.
__device__ __forceinline__ HeadGroup GroupOf(const AttentionArguments& a, int index, int parts,
                                             int most) {
  const int first_kv = a.first_query_head / a.queries_per_kv_head;
  const int kv = first_kv + index / parts;  // in the whole model
  const int begin = max(0, kv * a.queries_per_kv_head - a.first_query_head);
  const int end = min(a.query_heads, (kv + 1) * a.queries_per_kv_head - a.first_query_head);
  const int first = begin + index % parts * most;
  return {kv - a.first_kv_head, first, min(most, end - first)};
}

// What a softmax's values are divided by: the sum of its weights, 2^(score - max), and that of the
// head's sink, a score that has no value.
__device__ __forceinline__ float Divisor(const AttentionArguments& a, int head, float max,
                                         float sum) {
  return a.sinks == nullptr ? sum : sum + exp2f(a.sinks[head] * kLog2e - max);
}

// The running softmax of some heads: weights are 2^(score - max), in log2 units. A lane has 8
// elements at each of kOctets places, 8 times the lanes of a position apart.
template <int kHeads, int kOctets>
struct RunningSoftmax {
  static constexpr int kElements = 8 * kOctets;
  float max[kHeads];
  float sum[kHeads];
  float value[kHeads][kElements];

  __device__ __forceinline__ void Clear() {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      max[h] = kLowest;
      sum[h] = 0;
#pragma unroll
      for (int i = 0; i < kElements; ++i) value[h][i] = 0;
    }
  }

  __device__ __forceinline__ void Add(int h, float score, const float (&v)[kElements]) {
    const float new_max = fmaxf(max[h], score);
    const float old = exp2f(max[h] - new_max), weight = exp2f(score - new_max);
    max[h] = new_max;
    sum[h] = sum[h] * old + weight;
#pragma unroll
    for (int i = 0; i < kElements; ++i) value[h][i] = value[h][i] * old + weight * v[i];
  }

  // Puts the softmaxes of lanes `bits` apart together.
  __device__ __forceinline__ void Merge(int h, int bits) {
    const float other_max = __shfl_xor_sync(kAllLanes, max[h], bits);
    const float new_max = fmaxf(max[h], other_max);
    const float mine = exp2f(max[h] - new_max), other = exp2f(other_max - new_max);
    sum[h] = sum[h] * mine + __shfl_xor_sync(kAllLanes, sum[h], bits) * other;
    max[h] = new_max;
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      value[h][i] = value[h][i] * mine + __shfl_xor_sync(kAllLanes, value[h][i], bits) * other;
    }
  }
};

// A lane's elements of a row, of which it begins at `element`; `step` to its next octet.
template <class E, int kElements>
__device__ __forceinline__ void LoadLane(const typename E::Bits* row, int element, int step,
                                         int head_dim, bool aligned, float (&to)[kElements]) {
#pragma unroll
  for (int o = 0; o < kElements / 8; ++o) {
    float octet[8];
    LoadOctet<E>(row, element + o * step, head_dim, aligned, octet);
#pragma unroll
    for (int i = 0; i < 8; ++i) to[8 * o + i] = octet[i];
  }
}

// What lies in memory for a head and a part: head_dim values, maximum, sum.
__device__ __forceinline__ int PartFloats(int head_dim) { return head_dim + 2; }

// The sum over `parts` softmaxes at from, `step` floats apart, for element i; and their maximum and
// sum of weights.
struct Merged {
  float max, sum, value;
};
__device__ __forceinline__ Merged MergeParts(const float* from, int64_t step, int parts,
                                             int head_dim, int i) {
  Merged m = {kLowest, 0, 0};
  for (int p = 0; p < parts; ++p) m.max = fmaxf(m.max, from[p * step + head_dim]);
  for (int p = 0; p < parts; ++p) {
    const float weight = exp2f(from[p * step + head_dim] - m.max);
    m.sum += weight * from[p * step + head_dim + 1];
    m.value += weight * from[p * step + i];
  }
  return m;
}

template <class E, int kHeads, int kOctets>
struct AttentionBlock {
  using Softmax = RunningSoftmax<kHeads, kOctets>;
  static constexpr int kElements = Softmax::kElements;

  const AttentionArguments& a;
  int64_t token;
  HeadGroup group;
  int lanes;  // of a position: a power of two, kElements each
  bool aligned;
  RowsOfHead rows;
  const typename E::Bits* keys;  // of the sequence
  const typename E::Bits* values;

  // The block's positions [begin, end), at every `step`th of which this lane has a part.
  __device__ __forceinline__ void Attend(int64_t begin, int64_t end, Softmax& softmax) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int head_dim = a.cache.head_dim, element = lane % lanes * 8;
    const float scale = a.softcap > 0 ? a.scale : a.scale * kLog2e;
    float q[kHeads][kElements];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float* from =
          a.q + token * a.q_stride + static_cast<int64_t>(group.first + h) * head_dim;
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const int at = ElementAt(element, i);
        q[h][i] = h < group.count && at < head_dim ? from[at] * scale : 0.0f;
      }
    }
    const int at_once = 32 / lanes;
    // Two positions at a time, for loads to overlap, where there are registers for it. All lanes go
    // through the loop as often, for the shuffles.
    constexpr int kAtOnce = kOctets == 1 ? 2 : 1;
    for (int64_t first = begin + warp * at_once; first < end;
         first += int64_t{kAtOnce * kAttentionWarps} * at_once) {
      float k[kAtOnce][kElements], v[kAtOnce][kElements];
      bool inside[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int64_t position = first + lane / lanes + i * kAttentionWarps * at_once;
        inside[i] = position < end;
        const int64_t row = rows.At(inside[i] ? position : begin);
        LoadLane<E>(E::RowAt(keys, row, head_dim), element, 8 * lanes, head_dim, aligned, k[i]);
        LoadLane<E>(E::RowAt(values, row, head_dim), element, 8 * lanes, head_dim, aligned, v[i]);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) AddPosition(q, k[i], v[i], inside[i], softmax);
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      for (int bits = lanes; bits < 32; bits *= 2) softmax.Merge(h, bits);
    }
  }

  __device__ __forceinline__ int ElementAt(int element, int i) const {
    return element + i / 8 * 8 * lanes + i % 8;
  }

  __device__ __forceinline__ void AddPosition(const float (&q)[kHeads][kElements],
                                              const float (&k)[kElements],
                                              const float (&v)[kElements], bool inside,
                                              Softmax& softmax) const {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < kElements; ++i) score += q[h][i] * k[i];
      for (int bits = lanes / 2; bits > 0; bits /= 2) {
        score += __shfl_xor_sync(kAllLanes, score, bits);
      }
      if (a.softcap > 0) score = a.softcap * tanhf(score / a.softcap) * kLog2e;
      if (inside) softmax.Add(h, score, v);
    }
  }

  // [warp, head] parts in shared memory.
  __device__ __forceinline__ void Share(const Softmax& softmax, float* shared) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, head_dim = a.cache.head_dim;
    if (lane >= lanes) return;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      float* to = shared + (warp * kHeads + h) * PartFloats(head_dim);
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const int at = ElementAt(lane * 8, i);
        if (at < head_dim) to[at] = softmax.value[h][i];
      }
      if (lane == 0) {
        to[head_dim] = softmax.max[h];
        to[head_dim + 1] = softmax.sum[h];
      }
    }
  }

  __device__ __forceinline__ float* Partial(int head, int split) const {
    const int64_t row = (token * a.query_heads + group.first + head) * a.splits + split;
    return a.partial + row * PartFloats(a.cache.head_dim);
  }

  __device__ __forceinline__ void WriteOut(int head, int i, const Merged& m) const {
    const int query_head = group.first + head;
    a.out[(token * a.query_heads + query_head) * a.cache.head_dim + i] =
        m.value / Divisor(a, query_head, m.max, m.sum);
  }

  // The block's result: the output, or its part of it.
  __device__ __forceinline__ void Finish(const float* shared, int split) const {
    const int head_dim = a.cache.head_dim, floats = PartFloats(head_dim);
    for (int i = threadIdx.x; i < group.count * head_dim; i += blockDim.x) {
      const int head = i / head_dim, element = i % head_dim;
      const Merged m = MergeParts(shared + head * floats, int64_t{kHeads} * floats, kAttentionWarps,
                                  head_dim, element);
      if (a.splits == 1) {
        WriteOut(head, element, m);
        continue;
      }
      float* to = Partial(head, split);
      to[element] = m.value;
      if (element == 0) {
        to[head_dim] = m.max;
        to[head_dim + 1] = m.sum;
      }
    }
  }

  // By the last of the token's and group's blocks.
  __device__ __forceinline__ void MergeSplits(unsigned* ticket) const {
    __shared__ bool last;
    const int head_dim = a.cache.head_dim;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(ticket, 1u) == static_cast<unsigned>(a.splits) - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int i = threadIdx.x; i < group.count * head_dim; i += blockDim.x) {
      const int head = i / head_dim, element = i % head_dim;
      WriteOut(head, element,
               MergeParts(Partial(head, 0), PartFloats(head_dim), a.splits, head_dim, element));
    }
    if (threadIdx.x == 0) *ticket = 0;
  }
};

// Grid: token, group of heads, part of the sequence.
template <class E, int kHeads, int kOctets>
__global__ void __launch_bounds__(kAttentionWarps * 32, 1)
    AttentionKernel(AttentionArguments a, int parts, int lanes, bool aligned) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t token = blockIdx.x;
  const HeadGroup group = GroupOf(a, blockIdx.y, parts, kHeads);
  if (group.count <= 0) return;
  const int64_t position = a.tokens.positions[token];
  const int64_t first = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
  // Parts of at least 64 positions: the last of a short sequence may be empty.
  const int64_t count = position + 1 - first;
  const int64_t each = max((count + a.splits - 1) / a.splits, static_cast<int64_t>(64));
  const int64_t begin = first + blockIdx.z * each;
  const int64_t end = min(begin + each, position + 1);

  const int64_t sequence = a.tokens.sequences[token];
  using Bits = typename E::Bits;
  const AttentionBlock<E, kHeads, kOctets> block = {
      a,
      token,
      group,
      lanes,
      aligned,
      RowsOf(a.cache, sequence, group.kv_head),
      FirstOf<Bits>(a.cache, a.cache.keys, sequence),
      FirstOf<Bits>(a.cache, a.cache.values, sequence)};
  RunningSoftmax<kHeads, kOctets> softmax;
  softmax.Clear();
  block.Attend(begin, end, softmax);
  float* shared = DynamicShared<float>();
  block.Share(softmax, shared);
  __syncthreads();
  block.Finish(shared, blockIdx.z);
  if (a.splits > 1) block.MergeSplits(a.tickets + token * gridDim.y + blockIdx.y);
}

// The split of a launch's work.
struct AttentionPlan {
  int heads;   // of a block: 1, 2, 4 or 8
  int parts;   // blocks of heads per KV head
  int groups;  // blocks of heads
  int lanes;
  bool aligned;
};

template <class E, int kHeads, int kOctets = 1>
cudaError_t LaunchAttention(const Stream& stream, const AttentionArguments& a,
                            const AttentionPlan& plan) {
  const size_t floats = static_cast<size_t>(kAttentionWarps) * kHeads * (a.cache.head_dim + 2);
  const Grid grid = {dim3(static_cast<unsigned>(a.tokens.count), plan.groups, a.splits),
                     dim3(kAttentionWarps * 32), floats * sizeof(float)};
  return Launch(stream, grid, &AttentionKernel<E, kHeads, kOctets>, a, plan.parts, plan.lanes,
                plan.aligned);
}

template <class E>
cudaError_t LaunchAttentionOf(const Stream& stream, const AttentionArguments& a,
                              const AttentionPlan& plan) {
  switch (plan.heads) {
    case 1:
      return LaunchAttention<E, 1>(stream, a, plan);
    case 2:
      return LaunchAttention<E, 2>(stream, a, plan);
    case 4:
      return LaunchAttention<E, 4>(stream, a, plan);
    default:
      return LaunchAttention<E, 8>(stream, a, plan);
  }
}

// Each in a file of its own: they compile for long.
cudaError_t LaunchAttentionF32(const Stream&, const AttentionArguments&, const AttentionPlan&);
cudaError_t LaunchAttentionF16(const Stream&, const AttentionArguments&, const AttentionPlan&);
cudaError_t LaunchAttentionBf16(const Stream&, const AttentionArguments&, const AttentionPlan&);
cudaError_t LaunchAttentionE4M3(const Stream&, const AttentionArguments&, const AttentionPlan&);
cudaError_t LaunchAttentionQ8_0(const Stream&, const AttentionArguments&, const AttentionPlan&);
// Of heads of more than kNarrowHeadDim elements, of any type.
cudaError_t LaunchAttentionWide(const Stream&, const AttentionArguments&, const AttentionPlan&);
constexpr int kNarrowHeadDim = 256;
constexpr int kWideHeads = 2;  // at once: what registers hold

}  // namespace tprun::cuda
