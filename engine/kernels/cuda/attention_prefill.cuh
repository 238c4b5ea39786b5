#pragma once

#include <cstdint>

#include "engine/kernels/cuda/attention_tiles.cuh"

// Attention of many neighbouring tokens of a sequence, in the tensor cores (FlashAttention-2, arXiv
// 2307.08691): a block has 64 rows, each a token and a query head of one KV head, 16 to a warp, and
// goes through the keys and values in tiles, which all its rows share. Heads of kDim elements or of
// fewer, a multiple of 8: the rest is zeros.

namespace tprun::cuda {

constexpr int kPrefillWarps = 4;
constexpr int kPrefillRows = 16 * kPrefillWarps;

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
  static constexpr int kScales = E::kScaled ? kKeys * (kDim / kBlock) : 0;  // of keys, or of values
  static constexpr int kRowScales = E::kNormalize ? kPrefillRows : 0;
  static constexpr size_t kSharedBytes =
      2 * (kQueries + kKeyElements + kValueElements) + (kRowScales + 2 * kScales) * sizeof(float);
};

template <class E, int kDim>
struct PrefillBlock {
  using Shape = PrefillShape<E, kDim>;
  using Bits = typename E::Rows::Bits;
  static constexpr int kKeyTiles = Shape::kKeys / 8;

  const PrefillArguments& p;
  HeadGroup group;
  int64_t first_row;
  uint16_t* queries;  // [term, row, dim]
  uint16_t* keys;     // [key, dim]
  uint16_t* values;
  float* row_scales;  // what undoes a row's normalization
  float* key_scales;  // [block, key]
  float* value_scales;

  // The warp's 16 rows of q to shared memory, in terms.
  __device__ __forceinline__ void LoadQueries(int warp, int lane) const {
    const float scale = p.a.softcap > 0 ? p.a.scale : p.a.scale * kLog2e;
    const int head_dim = p.a.cache.head_dim;
    for (int r = warp * 16; r < warp * 16 + 16; ++r) {
      const PrefillRow row = RowOf(first_row + r, group, p.tokens);
      const float* from = p.a.q + (p.first_token + row.token) * p.a.q_stride +
                          int64_t{group.first + row.head} * head_dim;
      float x[kDim / 32];
      float largest = 0;
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        x[i] = i * 32 + lane < head_dim ? from[i * 32 + lane] * scale : 0.0f;
        largest = fmaxf(largest, fabsf(x[i]));
      }
      const Normalization normalization = NormalizationOf<E>(largest);
      if (E::kNormalize && lane == 0) row_scales[r] = normalization.down;
#pragma unroll
      for (int i = 0; i < kDim / 32; ++i) {
        float rest = x[i] * normalization.up;
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
  __device__ __forceinline__ void LoadTile(const Bits* from, uint16_t* to, int stride,
                                           float* scales, int64_t first, int64_t end) const {
    constexpr int kRowVectors = kDim / 8;
    const int head_dim = p.a.cache.head_dim;
    for (int i = threadIdx.x; i < Shape::kKeys * kRowVectors; i += kPrefillWarps * 32) {
      const int key = i / kRowVectors, column = i % kRowVectors * 8;
      uint4 eight = make_uint4(0, 0, 0, 0);
      float scale = 0;
      if (first + key < end && column < head_dim) {
        const int64_t position = CacheRowOf(first + key, p.a.cache.capacity);
        const Bits* row = E::Rows::RowAt(from, position, head_dim);
        eight = E::Eight(row, column);
        if constexpr (E::kScaled) scale = E::Scale(row, column / kBlock);
      }
      *reinterpret_cast<uint4*>(to + key * stride + column) = eight;
      if (E::kScaled && column % kBlock == 0) scales[column / kBlock * Shape::kKeys + key] = scale;
    }
  }

  // scores = q keys^T for the warp's rows.
  __device__ __forceinline__ void Scores(int warp, int lane, float (&scores)[kKeyTiles][4]) const {
    Clear(scores);
#pragma unroll 1
    for (int c = 0; c < kDim; c += 32) {
      if constexpr (E::kScaled) {
        float part[kKeyTiles][4];
        Clear(part);
        AddScores(warp, lane, c, part);
#pragma unroll
        for (int j = 0; j < kKeyTiles; ++j) {
          const float2 scale = ScalesOf(key_scales, c, j, lane);
#pragma unroll
          for (int i = 0; i < 4; ++i) scores[j][i] += part[j][i] * (i % 2 == 0 ? scale.x : scale.y);
        }
      } else {
        AddScores(warp, lane, c, scores);
      }
    }
  }

  __device__ static __forceinline__ void Clear(float (&scores)[kKeyTiles][4]) {
#pragma unroll
    for (int j = 0; j < kKeyTiles; ++j) {
      scores[j][0] = scores[j][1] = scores[j][2] = scores[j][3] = 0;
    }
  }

  // Of the lane's two keys of tile j, for column c.
  __device__ __forceinline__ float2 ScalesOf(const float* scales, int c, int j, int lane) const {
    const float* at = scales + c / kBlock * Shape::kKeys + j * 8 + lane % 4 * 2;
    return *reinterpret_cast<const float2*>(at);
  }

  // Of columns [c, c + 32), which are taken in the order in which a lane's 16 bytes hold them, the
  // same for both.
  __device__ __forceinline__ void AddScores(int warp, int lane, int c,
                                            float (&scores)[kKeyTiles][4]) const {
    const uint16_t* q = queries + (warp * 16 + lane / 4) * Shape::kQueryStride + lane % 4 * 8 + c;
    const uint16_t* k = keys + lane / 4 * Shape::kKeyStride + lane % 4 * 8 + c;
#pragma unroll
    for (int term = 0; term < E::kQueryTerms; ++term) {
      const uint16_t* rows = q + term * kPrefillRows * Shape::kQueryStride;
      const uint4 upper = *reinterpret_cast<const uint4*>(rows);
      const uint4 lower = *reinterpret_cast<const uint4*>(rows + 8 * Shape::kQueryStride);
      const uint32_t a0[4] = {upper.x, lower.x, upper.y, lower.y};
      const uint32_t a1[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
      for (int j = 0; j < kKeyTiles; ++j) {
        const uint4 b = *reinterpret_cast<const uint4*>(k + j * 8 * Shape::kKeyStride);
        const uint32_t b0[2] = {b.x, b.y}, b1[2] = {b.z, b.w};
        E::MultiplyAdd(scores[j], a0, b0);
        E::MultiplyAdd(scores[j], a1, b1);
      }
    }
  }

  // value += weights values; the scores' layout is that of the left factor.
  __device__ __forceinline__ void AddValues(int lane, const float (&weights)[kKeyTiles][4],
                                            float (&value)[kDim / 8][4]) const {
#pragma unroll
    for (int j = 0; j < kKeyTiles; j += 2) {
      uint32_t a[2][4];
      const uint16_t* row = values + (j * 8 + lane % 16) * Shape::kValueStride + lane / 16 * 8;
#pragma unroll
      for (int d = 0; d < kDim; d += 16) {
        if (d == 0 || (E::kScaled && d % kBlock == 0)) FindWeights(lane, j, d, weights, a);
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

  // The weights of tiles j and j + 1, for the block of columns d: times the values' scales.
  __device__ __forceinline__ void FindWeights(int lane, int j, int d,
                                              const float (&weights)[kKeyTiles][4],
                                              uint32_t (&a)[2][4]) const {
    float two[2][4];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      float2 scale = make_float2(1, 1);
      if constexpr (E::kScaled) scale = ScalesOf(value_scales, d, j + tile, lane);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        two[tile][i] = weights[j + tile][i] * (i % 2 == 0 ? scale.x : scale.y);
      }
    }
    SplitWeights<E>(two, a);
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
  uint16_t* queries = DynamicShared<uint16_t>();
  uint16_t* keys = queries + Shape::kQueries;
  uint16_t* values = keys + Shape::kKeyElements;
  auto* floats = reinterpret_cast<float*>(values + Shape::kValueElements);
  float* key_scales = floats + Shape::kRowScales;
  const Block block = {
      p, group, first_row, queries, keys, values, floats, key_scales, key_scales + Shape::kScales};
  block.LoadQueries(warp, lane);
  __syncwarp();
  RowSoftmax rows[2];
  for (int h = 0; h < 2; ++h) {
    const int r = warp * 16 + h * 8 + lane / 4;
    const int64_t position = p.first_position + RowOf(first_row + r, group, p.tokens).token;
    rows[h].last = position;
    rows[h].first = FirstSeen(p, position);
    rows[h].scale = E::kNormalize ? block.row_scales[r] : 1.0f;
    rows[h].max = kLowest;
    rows[h].sum = 0;
  }
  const Positions seen = SeenBy(p, group, first_row, kPrefillRows);
  const auto* cache_keys = RowsOfHead<E>(p, group.kv_head, p.a.cache.keys);
  const auto* cache_values = RowsOfHead<E>(p, group.kv_head, p.a.cache.values);
  float value[kDim / 8][4] = {};
  for (int64_t first = seen.begin; first < seen.end; first += Shape::kKeys) {
    __syncthreads();
    block.LoadTile(cache_keys, keys, Shape::kKeyStride, key_scales, first, seen.end);
    block.LoadTile(cache_values, values, Shape::kValueStride, block.value_scales, first, seen.end);
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
    const int64_t out_row = (p.first_token + row.token) * p.a.query_heads + group.first + row.head;
    float* out = p.a.out + out_row * p.a.cache.head_dim + lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) {
      if (d * 8 >= p.a.cache.head_dim) break;
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

// Calls with(std::integral_constant<int, kDim>) for the kernel that takes heads of head_dim.
template <class Result, class With>
Result WithPrefillDim(int head_dim, Result none, const With& with) {
  if (head_dim <= 64) return with(std::integral_constant<int, 64>());
  if (head_dim <= 96) return with(std::integral_constant<int, 96>());
  if (head_dim <= 128) return with(std::integral_constant<int, 128>());
  if (head_dim <= 256) return with(std::integral_constant<int, 256>());
  return none;
}

// False when there is no kernel for the head size, or the GPU has too little shared memory for it.
template <class E>
bool PrefillTakes(int head_dim, size_t most_shared_bytes) {
  return WithPrefillDim(head_dim, false, [&](auto dim) {
    return PrefillShape<E, dim()>::kSharedBytes <= most_shared_bytes;
  });
}

template <class E>
cudaError_t LaunchPrefillOf(const Stream& stream, const PrefillArguments& p, int groups,
                            int most_heads) {
  return WithPrefillDim(p.a.cache.head_dim, cudaErrorInvalidValue, [&](auto dim) {
    return LaunchPrefill<E, dim()>(stream, p, groups, most_heads);
  });
}

// Each in a file of its own: they compile for long.
cudaError_t LaunchPrefillF16(const Stream&, const PrefillArguments&, int groups, int most_heads);
cudaError_t LaunchPrefillBf16(const Stream&, const PrefillArguments&, int groups, int most_heads);
cudaError_t LaunchPrefillE4M3(const Stream&, const PrefillArguments&, int groups, int most_heads);
cudaError_t LaunchPrefillQ8_0(const Stream&, const PrefillArguments&, int groups, int most_heads);

}  // namespace tprun::cuda
