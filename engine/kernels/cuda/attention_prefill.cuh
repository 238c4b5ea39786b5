#pragma once

#include <cstdint>

#include "engine/kernels/cuda/attention.cuh"

// Attention of many neighbouring tokens of a sequence, in the tensor cores (FlashAttention-2, arXiv
// 2307.08691): a block has 64 rows, each a token and a query head of one KV head, 16 to a warp, and
// goes through the keys and values in tiles, which all its rows share. To be as exact as the kernel
// for single tokens, q is taken as the sum of two (f16) or three (bf16) terms and the weights as
// the sum of two; sums are in f32.

namespace tprun::cuda {

constexpr int kPrefillWarps = 4;
constexpr int kPrefillRows = 16 * kPrefillWarps;

struct PrefillF16 : F16Element {
  static constexpr int kQueryTerms = 2;
  static constexpr bool kNormalize = true;  // q to [1, 2), for f16's range
  __device__ static __forceinline__ void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4],
                                                     const uint32_t (&b)[2]) {
    MultiplyAddF16(d, a, b);
  }
};

struct PrefillBf16 : Bf16Element {
  static constexpr int kQueryTerms = 3;
  static constexpr bool kNormalize = false;
  __device__ static __forceinline__ void MultiplyAdd(float (&d)[4], const uint32_t (&a)[4],
                                                     const uint32_t (&b)[2]) {
    MultiplyAddBf16(d, a, b);
  }
};

// Shared memory of a block, in 16-bit elements. Rows of q and keys, read 16 bytes a lane, are an
// odd number of 64 bytes; rows of values, read 8 at a time, an odd number of 16 bytes.
template <class E, int kDim>
struct PrefillShape {
  static constexpr int kKeys = kDim > 128 ? 32 : 64;
  static constexpr int kQueryStride = kDim + (kDim % 64 == 0 ? 32 : 0);
  static constexpr int kKeyStride = kQueryStride;
  static constexpr int kValueStride = kDim + 8;
  static constexpr int kQueries = E::kQueryTerms * kPrefillRows * kQueryStride;
  static constexpr int kKeyElements = kKeys * kKeyStride;
  static constexpr int kValueElements = kKeys * kValueStride;
  static constexpr size_t kSharedBytes =
      2 * (kQueries + kKeyElements + kValueElements) + kPrefillRows * sizeof(float);
};

struct PrefillArguments {
  AttentionArguments a;
  int64_t first_token;     // of the run, in q and out
  int64_t first_position;  // of the run
  int tokens;              // of the run
  int sequence;
};

// Which row of q a row of the block is.
struct PrefillRow {
  int token;  // in the run
  int head;   // in the group
};
__device__ __forceinline__ PrefillRow RowOf(int64_t row, const HeadGroup& group, int tokens) {
  const int64_t last = int64_t{tokens} * group.count - 1;
  row = row < last ? row : last;  // rows beyond the last repeat it
  return {static_cast<int>(row / group.count), static_cast<int>(row % group.count)};
}

template <class E, int kDim>
struct PrefillBlock {
  using Shape = PrefillShape<E, kDim>;
  static constexpr int kKeyTiles = Shape::kKeys / 8;

  const PrefillArguments& p;
  HeadGroup group;
  int64_t first_row;
  uint16_t* queries;  // [term, row, dim]
  uint16_t* keys;     // [key, dim]
  uint16_t* values;
  float* row_scales;  // what undoes a row's normalization

  // The warp's 16 rows of q to shared memory, in terms.
  __device__ __forceinline__ void LoadQueries(int warp, int lane) const {
    const float scale = p.a.softcap > 0 ? p.a.scale : p.a.scale * kLog2e;
    for (int r = warp * 16; r < warp * 16 + 16; ++r) {
      const PrefillRow row = RowOf(first_row + r, group, p.tokens);
      const float* from = p.a.q + (p.first_token + row.token) * p.a.q_stride +
                          int64_t{group.first + row.head} * kDim;
      float x[kDim / 32];
      float largest = 0;
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        x[i] = from[i * 32 + lane] * scale;
        largest = fmaxf(largest, fabsf(x[i]));
      }
      float up = 1, down = 1;
      if (E::kNormalize) {
#pragma unroll
        for (int bits = 16; bits > 0; bits /= 2) {
          largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bits));
        }
        int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
        exponent = min(max(exponent, -126), 126);
        up = __uint_as_float(static_cast<uint32_t>(127 - exponent) << 23);
        down = __uint_as_float(static_cast<uint32_t>(127 + exponent) << 23);
      }
      if (lane == 0) row_scales[r] = down;
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        float rest = x[i] * up;
#pragma unroll
        for (int term = 0; term < E::kQueryTerms; ++term) {
          const uint16_t bits = E::Store(rest);
          queries[(term * kPrefillRows + r) * Shape::kQueryStride + i * 32 + lane] = bits;
          rest -= E::Load(bits);
        }
      }
    }
  }

  // Keys or values of positions [first, first + kKeys); zeros from `end` on.
  __device__ __forceinline__ void LoadTile(const uint16_t* from, uint16_t* to, int stride,
                                           int64_t first, int64_t end) const {
    constexpr int kRowVectors = kDim / 8;
    for (int i = threadIdx.x; i < Shape::kKeys * kRowVectors; i += kPrefillWarps * 32) {
      const int key = i / kRowVectors, column = i % kRowVectors * 8;
      uint4 bits = make_uint4(0, 0, 0, 0);
      if (first + key < end) {
        const int64_t row = CacheRowOf(first + key, p.a.cache.capacity);
        bits = *reinterpret_cast<const uint4*>(from + row * kDim + column);
      }
      *reinterpret_cast<uint4*>(to + key * stride + column) = bits;
    }
  }

  // scores = q keys^T for the warp's rows. Columns are taken in the order in which a lane's 16
  // bytes hold them, the same for both.
  __device__ __forceinline__ void Scores(int warp, int lane, float (&scores)[kKeyTiles][4]) const {
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
      scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0;
    }
    const uint16_t* q = queries + (warp * 16 + lane / 4) * Shape::kQueryStride + lane % 4 * 8;
    const uint16_t* k = keys + lane / 4 * Shape::kKeyStride + lane % 4 * 8;
#pragma unroll 1
    for (int c = 0; c < kDim; c += 32) {
#pragma unroll
      for (int term = 0; term < E::kQueryTerms; ++term) {
        const uint16_t* rows = q + term * kPrefillRows * Shape::kQueryStride + c;
        const uint4 upper = *reinterpret_cast<const uint4*>(rows);
        const uint4 lower = *reinterpret_cast<const uint4*>(rows + 8 * Shape::kQueryStride);
        const uint32_t a0[4] = {upper.x, lower.x, upper.y, lower.y};
        const uint32_t a1[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
        for (int j = 0; j < kKeyTiles; ++j) {
          const uint4 b = *reinterpret_cast<const uint4*>(k + j * 8 * Shape::kKeyStride + c);
          const uint32_t b0[2] = {b.x, b.y}, b1[2] = {b.z, b.w};
          E::MultiplyAdd(scores[j], a0, b0);
          E::MultiplyAdd(scores[j], a1, b1);
        }
      }
    }
  }

  // value += weights values; the scores' layout is that of the left factor.
  __device__ __forceinline__ void AddValues(int lane, const float (&weights)[kKeyTiles][4],
                                            float (&value)[kDim / 8][4]) const {
#pragma unroll
    for (int j = 0; j < kKeyTiles; j += 2) {
      float rest[8] = {weights[j][0],     weights[j][1],     weights[j][2],     weights[j][3],
                       weights[j + 1][0], weights[j + 1][1], weights[j + 1][2], weights[j + 1][3]};
      uint32_t a[2][4];
#pragma unroll
      for (int term = 0; term < 2; ++term) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint32_t low = E::Store(rest[2 * i]), high = E::Store(rest[2 * i + 1]);
          a[term][i] = low | high << 16;
          rest[2 * i] -= E::Load(static_cast<uint16_t>(low));
          rest[2 * i + 1] -= E::Load(static_cast<uint16_t>(high));
        }
      }
      const uint16_t* row = values + (j * 8 + lane % 16) * Shape::kValueStride + lane / 16 * 8;
#pragma unroll
      for (int d = 0; d < kDim; d += 16) {
        uint32_t tiles[4];
        LoadTransposed(tiles, row + d);
        const uint32_t b0[2] = {tiles[0], tiles[1]}, b1[2] = {tiles[2], tiles[3]};
#pragma unroll
        for (int term = 0; term < 2; ++term) {
          E::MultiplyAdd(value[d / 8], a[term], b0);
          E::MultiplyAdd(value[d / 8 + 1], a[term], b1);
        }
      }
    }
  }
};

// A row's running softmax, in the four lanes that share it.
struct RowSoftmax {
  int64_t first, last;  // positions that it sees
  float scale;
  float max, sum;

  // Scores of `kTiles` tiles become weights, at [j][offset] and [j][offset + 1]; returns by what
  // older sums shrink.
  template <int kTiles>
  __device__ __forceinline__ float Update(float (&scores)[kTiles][4], int offset, int64_t key,
                                          float softcap) {
    float largest = max;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int i = offset; i < offset + 2; ++i) {
        float score = scores[j][i] * scale;
        if (softcap > 0) score = softcap * tanhf(score / softcap) * kLog2e;
        const int64_t position = key + j * 8 + i - offset;
        score = position >= first && position <= last ? score : kLowest;
        scores[j][i] = score;
        largest = fmaxf(largest, score);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
    const float old = exp2f(max - largest);
    max = largest;
    float total = 0;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
#pragma unroll
      for (int i = offset; i < offset + 2; ++i) {
        // A row that has seen nothing yet has no weights.
        scores[j][i] = scores[j][i] > kLowest ? exp2f(scores[j][i] - largest) : 0.0f;
        total += scores[j][i];
      }
    }
    sum = sum * old + total;
    return old;
  }

  __device__ __forceinline__ float Total() const {
    float total = sum + __shfl_xor_sync(kAllLanes, sum, 1);
    return total + __shfl_xor_sync(kAllLanes, total, 2);
  }
};

// Grid: rows, group of heads (all of a KV head).
template <class E, int kDim>
__global__ void __launch_bounds__(kPrefillWarps * 32, 1) PrefillKernel(PrefillArguments p) {
  using Shape = PrefillShape<E, kDim>;
  using Block = PrefillBlock<E, kDim>;
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const HeadGroup group = GroupOf(p.a, blockIdx.y, 1, p.a.query_heads);
  // The last rows first: they see most.
  const int64_t first_row = int64_t{gridDim.x - 1 - blockIdx.x} * kPrefillRows;
  if (first_row >= int64_t{p.tokens} * group.count) return;
  uint16_t* shared = DynamicShared<uint16_t>();
  const Block block = {p,
                       group,
                       first_row,
                       shared,
                       shared + Shape::kQueries,
                       shared + Shape::kQueries + Shape::kKeyElements,
                       reinterpret_cast<float*>(shared + Shape::kQueries + Shape::kKeyElements +
                                                Shape::kValueElements)};
  block.LoadQueries(warp, lane);
  __syncwarp();
  RowSoftmax rows[2];
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + h * 8 + lane / 4;
    const int64_t position = p.first_position + RowOf(first_row + r, group, p.tokens).token;
    rows[h].last = position;
    rows[h].first = p.a.window > 0 && position >= p.a.window ? position - p.a.window + 1 : 0;
    rows[h].scale = block.row_scales[r];
    rows[h].max = kLowest;
    rows[h].sum = 0;
  }
  const int64_t earliest = p.first_position + RowOf(first_row, group, p.tokens).token;
  const int64_t begin = p.a.window > 0 && earliest >= p.a.window ? earliest - p.a.window + 1 : 0;
  const int64_t end =
      p.first_position + RowOf(first_row + kPrefillRows - 1, group, p.tokens).token + 1;
  const int64_t head = group.kv_head * p.a.cache.capacity * kDim;
  const int64_t sequence = p.sequence * p.a.cache.sequence_stride;
  const auto of_head = [&](void* data) {
    const char* base = static_cast<const char*>(data) + sequence;
    return reinterpret_cast<const uint16_t*>(base) + head;
  };
  float value[kDim / 8][4] = {};
  for (int64_t first = begin; first < end; first += Shape::kKeys) {
    __syncthreads();
    block.LoadTile(of_head(p.a.cache.keys), block.keys, Shape::kKeyStride, first, end);
    block.LoadTile(of_head(p.a.cache.values), block.values, Shape::kValueStride, first, end);
    __syncthreads();
    float scores[Block::kKeyTiles][4];
    block.Scores(warp, lane, scores);
    const int64_t key = first + lane % 4 * 2;
    const float upper = rows[0].Update(scores, 0, key, p.a.softcap);
    const float lower = rows[1].Update(scores, 2, key, p.a.softcap);
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
      value[d][0] *= upper, value[d][1] *= upper;
      value[d][2] *= lower, value[d][3] *= lower;
    }
    block.AddValues(lane, scores, value);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float total = rows[h].Total();
    const int64_t r = first_row + warp * 16 + h * 8 + lane / 4;
    if (r >= int64_t{p.tokens} * group.count) continue;
    const PrefillRow row = RowOf(r, group, p.tokens);
    const float inverse = 1.0f / Divisor(p.a, group.first + row.head, rows[h].max, total);
    float* out = p.a.out +
                 ((p.first_token + row.token) * p.a.query_heads + group.first + row.head) * kDim +
                 lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
      out[d * 8] = value[d][2 * h] * inverse;
      out[d * 8 + 1] = value[d][2 * h + 1] * inverse;
    }
  }
}

template <class E, int kDim>
cudaError_t LaunchPrefill(const Stream& stream, const PrefillArguments& p, int groups,
                          int most_heads) {
  const int64_t rows = int64_t{p.tokens} * most_heads;
  const Grid grid = {dim3(static_cast<unsigned>((rows + kPrefillRows - 1) / kPrefillRows),
                          static_cast<unsigned>(groups)),
                     dim3(kPrefillWarps * 32), PrefillShape<E, kDim>::kSharedBytes};
  return Launch(stream, grid, &PrefillKernel<E, kDim>, p);
}

// False when there is no kernel for the head size, or the GPU has too little shared memory for it.
template <class E>
bool PrefillTakes(int head_dim, size_t most_shared_bytes) {
  switch (head_dim) {
    case 64:
      return PrefillShape<E, 64>::kSharedBytes <= most_shared_bytes;
    case 96:
      return PrefillShape<E, 96>::kSharedBytes <= most_shared_bytes;
    case 128:
      return PrefillShape<E, 128>::kSharedBytes <= most_shared_bytes;
    case 256:
      return PrefillShape<E, 256>::kSharedBytes <= most_shared_bytes;
    default:
      return false;
  }
}

template <class E>
cudaError_t LaunchPrefillOf(const Stream& stream, const PrefillArguments& p, int groups,
                            int most_heads) {
  switch (p.a.cache.head_dim) {
    case 64:
      return LaunchPrefill<E, 64>(stream, p, groups, most_heads);
    case 96:
      return LaunchPrefill<E, 96>(stream, p, groups, most_heads);
    case 128:
      return LaunchPrefill<E, 128>(stream, p, groups, most_heads);
    case 256:
      return LaunchPrefill<E, 256>(stream, p, groups, most_heads);
    default:
      return cudaErrorInvalidValue;
  }
}

// Each in a file of its own: they compile for long.
cudaError_t LaunchPrefillF16(const Stream&, const PrefillArguments&, int groups, int most_heads);
cudaError_t LaunchPrefillBf16(const Stream&, const PrefillArguments&, int groups, int most_heads);
bool PrefillTakesF16(int head_dim, size_t most_shared_bytes);
bool PrefillTakesBf16(int head_dim, size_t most_shared_bytes);

}  // namespace tprun::cuda
