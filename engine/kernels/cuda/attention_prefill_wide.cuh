#pragma once

#include <cstdint>

#include "engine/kernels/cuda/attention_tiles.cuh"

// The kernel of attention_prefill.cuh for heads whose sums do not fit the registers of a few warps,
// as those of latent attention: a warp has 64 columns of the head, its part of q in registers, and
// its part of the output. A block has 32 rows, or 16 where q has three terms; a tile of 32 keys is
// read from shared memory by all of its warps, which add up their parts of the scores there. Where
// the values are the keys, a tile is staged once.

namespace tprun::cuda {

constexpr int kWideColumns = 64;  // of a warp
constexpr int kWideKeys = 32;     // a lane to each
constexpr int kMostWideWarps = 9;
constexpr int kWideBlocks = kWideColumns / kBlock;
// Floats from row to row of scores: so that the lanes of a tile's sums write to 32 banks.
constexpr int kScoreStride = kWideKeys + 4;

inline int WideWarps(int head_dim) { return (head_dim + kWideColumns - 1) / kWideColumns; }

// Shared memory of a block: 16-bit elements, then floats.
template <class E>
struct WideShape {
  // What 168 registers hold: nine warps leave no more to a thread than twelve.
  static constexpr int kRowTiles = E::kQueryTerms == 2 ? 2 : 1;
  static constexpr int kRows = 16 * kRowTiles;
  int warps;
  // Rows are an odd number of 16 bytes apart.
  __host__ __device__ int stride() const { return warps * kWideColumns + 8; }
  __host__ __device__ int tile() const { return kWideKeys * stride(); }
  __host__ __device__ int scales() const {
    return E::kScaled ? warps * kWideBlocks * kWideKeys : 0;
  }
  __host__ __device__ int scores() const { return warps * kRows * kScoreStride; }
  size_t bytes() const {
    const int floats = scales() + scores() + kRows * (kScoreStride + 5);
    return tile() * sizeof(uint16_t) + floats * sizeof(float);
  }
};

template <class E>
struct WideBlock {
  using Bits = typename E::Rows::Bits;
  static constexpr int kRowTiles = WideShape<E>::kRowTiles;
  static constexpr int kRows = WideShape<E>::kRows;
  // A lane's part of q: [term, 16 rows, 16 columns], the left factors of the tensor cores.
  using Queries = uint32_t[E::kQueryTerms][kRowTiles][kWideColumns / 16][4];
  using Sums = float[kRowTiles][kWideColumns / 8][4];  // [16 rows, 8 columns]

  const PrefillArguments& p;
  HeadGroup group;
  int64_t first_row;
  WideShape<E> shape;
  int warp, lane;
  uint16_t* tile;  // [key, column]
  float* scales;   // [block, key]
  float* scores;   // [warp, row, key]: each warp's part
  float* weights;  // [row, key]
  // Of each row: what normalizes q and what undoes it, the softmax so far, and by what sums shrink.
  float* up;
  float* down;
  float* max;
  float* sum;
  float* shrink;

  __device__ __forceinline__ WideBlock(const PrefillArguments& arguments, const HeadGroup& heads,
                                       int64_t row)
      : p(arguments),
        group(heads),
        first_row(row),
        shape{static_cast<int>(blockDim.x) / 32},
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        tile(DynamicShared<uint16_t>()),
        scales(reinterpret_cast<float*>(tile + shape.tile())),
        scores(scales + shape.scales()),
        weights(scores + shape.scores()),
        up(weights + kRows * kScoreStride),
        down(up + kRows),
        max(down + kRows),
        sum(max + kRows),
        shrink(sum + kRows) {}

  __device__ __forceinline__ const float* Query(int row) const {
    const PrefillRow at = RowOf(first_row + row, group, p.tokens);
    return p.a.q + (p.first_token + at.token) * p.a.q_stride +
           int64_t{group.first + at.head} * p.a.cache.head_dim;
  }
  __device__ __forceinline__ float Scale() const {
    return p.a.softcap > 0 ? p.a.scale : p.a.scale * kLog2e;
  }

  // A warp to a row.
  __device__ __forceinline__ void Begin() const {
    for (int r = warp; r < kRows; r += shape.warps) {
      float largest = 0;
      if constexpr (E::kNormalize) {
        const float* q = Query(r);
        for (int i = lane; i < p.a.cache.head_dim; i += 32) {
          largest = fmaxf(largest, fabsf(q[i] * Scale()));
        }
      }
      const Normalization normalization = NormalizationOf<E>(largest);
      if (lane > 0) continue;
      up[r] = normalization.up;
      down[r] = normalization.down;
      max[r] = kLowest;
      sum[r] = 0;
    }
  }

  // Columns are taken in the order in which 16 bytes of a lane hold them, as those of keys.
  __device__ __forceinline__ void LoadQueries(Queries& q) const {
#pragma unroll
    for (int i = 0; i < 4 * kRowTiles; ++i) {
      const int m = i / 4, c = i / 2 % 2, half = i % 2;
      const int row = m * 16 + half * 8 + lane / 4;
      const int column = warp * kWideColumns + c * 32 + lane % 4 * 8;
      const float* from = Query(row) + column;
      const float scale = Scale(), normalize = up[row];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const bool inside = column < p.a.cache.head_dim;  // which is a multiple of 8
        float low = inside ? from[2 * pair] * scale * normalize : 0.0f;
        float high = inside ? from[2 * pair + 1] * scale * normalize : 0.0f;
#pragma unroll
        for (int term = 0; term < E::kQueryTerms; ++term) {
          const uint16_t low_bits = E::Store(low), high_bits = E::Store(high);
          q[term][m][c * 2 + pair / 2][pair % 2 * 2 + half] = low_bits | uint32_t{high_bits} << 16;
          low -= E::Load(low_bits);
          high -= E::Load(high_bits);
        }
      }
    }
  }

  // Keys or values of positions [first, first + kWideKeys); zeros from `end` on.
  __device__ __forceinline__ void LoadTile(const Bits* from, int64_t first, int64_t end) const {
    const int vectors = shape.warps * kWideColumns / 8;  // of a row: a quarter of the threads
    const int column = threadIdx.x % vectors * 8;
    for (int key = threadIdx.x / vectors; key < kWideKeys; key += 4) {
      uint4 eight = make_uint4(0, 0, 0, 0);
      float scale = 0;
      if (first + key < end && column < p.a.cache.head_dim) {
        const int64_t position = CacheRowOf(first + key, p.a.cache.capacity);
        const Bits* row = E::Rows::RowAt(from, position, p.a.cache.head_dim);
        eight = E::Eight(row, column);
        if constexpr (E::kScaled) scale = E::Scale(row, column / kBlock);
      }
      *reinterpret_cast<uint4*>(tile + key * shape.stride() + column) = eight;
      if (E::kScaled && column % kBlock == 0) scales[column / kBlock * kWideKeys + key] = scale;
    }
  }

  // The key of a tile's eight that lanes g, of the right factor, or columns g, of the sums, have:
  // in this order no two of the eight lanes that read together read from one bank.
  __device__ static __forceinline__ int KeyOf(int g) { return g / 2 + g % 2 * 4; }

  // The warp's part of the scores: q keys^T over its columns.
  __device__ __forceinline__ void Scores(const Queries& q) const {
    const uint16_t* keys =
        tile + KeyOf(lane / 4) * shape.stride() + warp * kWideColumns + lane % 4 * 8;
#pragma unroll 1
    for (int j = 0; j < kWideKeys / 8; ++j) {
      float sums[kRowTiles][4] = {};
#pragma unroll
      for (int c = 0; c < kWideColumns / 32; ++c) {
        float part[kRowTiles][4] = {};
        const auto add = [&](float(&to)[kRowTiles][4]) {
          const auto* at = reinterpret_cast<const uint4*>(keys + j * 8 * shape.stride() + c * 32);
          const uint32_t b0[2] = {at->x, at->y}, b1[2] = {at->z, at->w};
#pragma unroll
          for (int i = 0; i < kRowTiles * E::kQueryTerms; ++i) {
            const int term = i / kRowTiles, m = i % kRowTiles;
            E::MultiplyAdd(to[m], q[term][m][2 * c], b0);
            E::MultiplyAdd(to[m], q[term][m][2 * c + 1], b1);
          }
        };
        if constexpr (E::kScaled) {
          add(part);
          const float* scale = scales + (warp * kWideBlocks + c) * kWideKeys + j * 8;
#pragma unroll
          for (int i = 0; i < 4 * kRowTiles; ++i) {
            sums[i / 4][i % 4] += part[i / 4][i % 4] * scale[KeyOf(lane % 4 * 2 + i % 2)];
          }
        } else {
          add(sums);
        }
      }
      float* to = scores + (warp * kRows + lane / 4) * kScoreStride + j * 8;
#pragma unroll
      for (int i = 0; i < 4 * kRowTiles; ++i) {
        to[i / 2 * 8 * kScoreStride + KeyOf(lane % 4 * 2 + i % 2)] = sums[i / 4][i % 4];
      }
    }
  }

  // The weights of the keys from `first` on, and what they make of the rows' softmax: a warp to a
  // row.
  __device__ __forceinline__ void FindWeights(int64_t first) const {
    for (int r = warp; r < kRows; r += shape.warps) {
      float score = 0;
      for (int w = 0; w < shape.warps; ++w) {
        score += scores[(w * kRows + r) * kScoreStride + lane];
      }
      score *= down[r];
      if (p.a.softcap > 0) score = p.a.softcap * tanhf(score / p.a.softcap) * kLog2e;
      const int64_t position = p.first_position + RowOf(first_row + r, group, p.tokens).token;
      const bool seen = first + lane <= position && first + lane >= FirstSeen(p, position);
      const float old_max = max[r];
      float new_max = seen ? fmaxf(old_max, score) : old_max;
#pragma unroll
      for (int bits = 16; bits > 0; bits /= 2) {
        new_max = fmaxf(new_max, __shfl_xor_sync(kAllLanes, new_max, bits));
      }
      const float weight = seen ? exp2f(score - new_max) : 0.0f;
      weights[r * kScoreStride + lane] = weight;
      const float total = SumOfWarp(weight), old = exp2f(old_max - new_max);
      if (lane > 0) continue;
      max[r] = new_max;
      sum[r] = sum[r] * old + total;
      shrink[r] = old;
    }
  }

  // The left factor for the weights of keys [j * 8, j * 8 + 16) of rows [m * 16, m * 16 + 16), and
  // columns that are 32 * c further than the warp's first.
  __device__ __forceinline__ void WeightsOf(int j, int m, int c, uint32_t (&a)[2][4]) const {
    float two[2][4];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int key = (j + i / 4) * 8 + lane % 4 * 2 + i % 2;
      const int row = m * 16 + i / 2 % 2 * 8 + lane / 4;
      two[i / 4][i % 4] = weights[row * kScoreStride + key];
      if constexpr (E::kScaled) {
        two[i / 4][i % 4] *= scales[(warp * kWideBlocks + c) * kWideKeys + key];
      }
    }
    SplitWeights<E>(two, a);
  }

  // value = value, shrunk, + weights values, over the warp's columns.
  __device__ __forceinline__ void AddValues(Sums& value) const {
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      const float by = shrink[i * 8 + lane / 4];
#pragma unroll
      for (int d = 0; d < kWideColumns / 8; ++d) {
        value[i / 2][d][i % 2 * 2] *= by;
        value[i / 2][d][i % 2 * 2 + 1] *= by;
      }
    }
#pragma unroll 1
    for (int j = 0; j < kWideKeys / 8; j += 2) {
      uint32_t a[kRowTiles][2][4];
      const uint16_t* row =
          tile + (j * 8 + lane % 16) * shape.stride() + warp * kWideColumns + lane / 16 * 8;
#pragma unroll
      for (int d = 0; d < kWideColumns / 8; d += 2) {
        if (d == 0 || (E::kScaled && d * 8 % kBlock == 0)) {
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) WeightsOf(j, m, d * 8 / kBlock, a[m]);
        }
        uint32_t tiles[4];
        LoadTransposed(tiles, row + d * 8);
        const uint32_t b0[2] = {tiles[0], tiles[1]}, b1[2] = {tiles[2], tiles[3]};
#pragma unroll
        for (int i = 0; i < 2 * kRowTiles; ++i) {
          const int term = i / kRowTiles, m = i % kRowTiles;
          E::MultiplyAdd(value[m][d], a[m][term], b0);
          E::MultiplyAdd(value[m][d + 1], a[m][term], b1);
        }
      }
    }
  }

  __device__ __forceinline__ void WriteOut(const Sums& value) const {
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      const int r = i * 8 + lane / 4;
      if (first_row + r >= int64_t{p.tokens} * group.count) continue;
      const PrefillRow row = RowOf(first_row + r, group, p.tokens);
      const int head = group.first + row.head, head_dim = p.a.cache.head_dim;
      const float inverse = 1.0f / Divisor(p.a, head, max[r], sum[r]);
      float* out = p.a.out + ((p.first_token + row.token) * p.a.query_heads + head) * head_dim;
#pragma unroll
      for (int d = 0; d < kWideColumns / 8; ++d) {
        const int column = warp * kWideColumns + d * 8;
        if (column >= head_dim) break;
        out[column + lane % 4 * 2] = value[i / 2][d][i % 2 * 2] * inverse;
        out[column + lane % 4 * 2 + 1] = value[i / 2][d][i % 2 * 2 + 1] * inverse;
      }
    }
  }
};

// Grid: rows, group of heads (all of a KV head). A warp for every 64 columns.
template <class E>
__global__ void __launch_bounds__(kMostWideWarps * 32, 1) WidePrefillKernel(PrefillArguments p) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const HeadGroup group = GroupOf(p.a, blockIdx.y, 1, p.a.query_heads);
  // The last rows first: they see most.
  const int64_t first_row = int64_t{gridDim.x - 1 - blockIdx.x} * WideBlock<E>::kRows;
  if (first_row >= int64_t{p.tokens} * group.count) return;
  const WideBlock<E> block(p, group, first_row);
  block.Begin();
  __syncthreads();
  typename WideBlock<E>::Queries q;
  block.LoadQueries(q);
  typename WideBlock<E>::Sums value = {};
  const Positions seen = SeenBy(p, group, first_row, WideBlock<E>::kRows);
  const auto* keys = RowsOfHead<E>(p, group.kv_head, p.a.cache.keys);
  const auto* values = RowsOfHead<E>(p, group.kv_head, p.a.cache.values);
  for (int64_t first = seen.begin; first < seen.end; first += kWideKeys) {
    __syncthreads();
    block.LoadTile(keys, first, seen.end);
    __syncthreads();
    block.Scores(q);
    __syncthreads();
    block.FindWeights(first);
    if (values != keys) block.LoadTile(values, first, seen.end);
    __syncthreads();
    block.AddValues(value);
  }
  block.WriteOut(value);
}

template <class E>
bool WidePrefillTakes(int head_dim, size_t most_shared_bytes) {
  const WideShape<E> shape = {WideWarps(head_dim)};
  return shape.warps <= kMostWideWarps && shape.bytes() <= most_shared_bytes;
}

template <class E>
cudaError_t LaunchWidePrefillOf(const Stream& stream, const PrefillArguments& p, int groups,
                                int most_heads) {
  const WideShape<E> shape = {WideWarps(p.a.cache.head_dim)};
  const int64_t rows = int64_t{p.tokens} * most_heads;
  const Grid grid = {dim3(static_cast<unsigned>((rows + shape.kRows - 1) / shape.kRows),
                          static_cast<unsigned>(groups)),
                     dim3(shape.warps * 32), shape.bytes()};
  return Launch(stream, grid, &WidePrefillKernel<E>, p);
}

// Of any type.
cudaError_t LaunchWidePrefill(const Stream&, const PrefillArguments&, int groups, int most_heads);

}  // namespace tprun::cuda
