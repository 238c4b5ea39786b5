#pragma once

#include <cstdint>
#include <type_traits>

#include "engine/kernels/cuda/activations.cuh"
#include "engine/kernels/cuda/k_formats.cuh"
#include "engine/kernels/cuda/matvec.h"
#include "engine/kernels/cuda/stack.cuh"

// The product of a matrix with a few tokens, at the speed of the memory. A block of warps has a
// tile of 32 rows; its warps share the columns, and so may several blocks (gridDim.y). Weights go
// from memory to registers, are decoded to bf16 there and multiplied in the tensor cores, whose 8
// columns take the three bf16 terms of each token's x. The next chunks' weights are on their way
// while one is computed. Of a stack of matrices each has blocks of its own (stack.h).

namespace tprun::cuda {

constexpr int kTileRows = 32;
constexpr int kRowTiles = kTileRows / 16;
constexpr int kXTerms = 3;                    // 3 x 8 bits are the 24 of an f32
constexpr int kReduceStride = kTileRows + 4;  // floats; keeps the lanes' writes in different banks

template <class F, int kTokens>
struct MatVecShape {
  static_assert(!F::kScaled || F::kTerms == 1);
  static constexpr int kColumns = F::kChunkColumns;
  static constexpr int kMostWarps = kTokens == 1 ? 16 : 8;  // 128 registers a thread, or 255
  static constexpr int kColumnTiles = (kTokens * kXTerms + 7) / 8;
  // A row of x's terms in shared memory, in 32-bit words: an odd number of 64 bytes, so that two
  // rows lie in different banks.
  static constexpr int kXStride = kColumns / 2 + (kColumns == 32 ? 0 : 16);
  static constexpr int kXWords = kTokens * kXTerms * kXStride;  // of a warp
  static constexpr int kReduceFloats = kColumnTiles * 8 * kReduceStride;
  static constexpr size_t SharedBytes(int warps) {
    return static_cast<size_t>(warps) * 4 * (kXWords > kReduceFloats ? kXWords : kReduceFloats);
  }
};

// One matrix's tile in a launch for several.
__device__ __forceinline__ MatVecTarget TargetOf(const MatVecArguments& a, int tile) {
  MatVecTarget target = a.targets[0];
#pragma unroll
  for (int i = 1; i < kMostProjections; ++i) {
    if (i < a.count && tile >= a.targets[i].first_tile) target = a.targets[i];
  }
  return target;
}

// The rows of x: one after another, or in a stack where an item says, which is in shared memory.
struct DenseRows {
  const float* x;
  int64_t columns;
  int tokens;
  __device__ __forceinline__ bool Has(int t) const { return t < tokens; }
  __device__ __forceinline__ const float* At(int t) const { return x + t * columns; }
};
struct StackedRows {
  const float* const* rows;  // nullptr: none
  __device__ __forceinline__ bool Has(int t) const { return rows[t] != nullptr; }
  __device__ __forceinline__ const float* At(int t) const { return rows[t]; }
};

// A lane's part of x for a chunk: some neighbouring columns of each token.
template <class F, int kTokens>
struct XValues {
  static constexpr int kValues = F::kChunkColumns / 32;
  float values[kTokens][kValues];

  template <class Rows>
  __device__ __forceinline__ void Load(const Rows& rows, int columns, int chunk, int lane) {
    const int column = chunk * F::kChunkColumns + lane * kValues;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int i = 0; i < kValues; ++i) values[t][i] = 0;
      if (!rows.Has(t) || column >= columns) continue;
      const float* at = rows.At(t) + column;
      if constexpr (kValues == 1) {
        values[t][0] = *at;
      } else if constexpr (kValues == 2) {
        const float2 two = *reinterpret_cast<const float2*>(at);
        values[t][0] = two.x, values[t][1] = two.y;
      } else {
        const float4 four = *reinterpret_cast<const float4*>(at);
        values[t][0] = four.x, values[t][1] = four.y;
        values[t][2] = four.z, values[t][3] = four.w;
      }
    }
  }

  // The three terms of each, to [token, term][column].
  __device__ __forceinline__ void Store(uint32_t* words, int lane) {
    constexpr int kStride = MatVecShape<F, kTokens>::kXStride;
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
#pragma unroll
      for (int term = 0; term < kXTerms; ++term) {
        uint32_t* row = words + (t * kXTerms + term) * kStride;
        if constexpr (kValues == 1) {
          reinterpret_cast<uint16_t*>(row)[lane] =
              static_cast<uint16_t>(__float_as_uint(values[t][0]) >> 16);
        } else if constexpr (kValues == 2) {
          row[lane] = PackUpper(values[t][0], values[t][1]);
        } else {
          reinterpret_cast<uint2*>(row)[lane] = make_uint2(PackUpper(values[t][0], values[t][1]),
                                                           PackUpper(values[t][2], values[t][3]));
        }
#pragma unroll
        for (int i = 0; i < kValues; ++i) values[t][i] -= Truncated(values[t][i]);
      }
    }
  }
};

// A warp's part of a tile.
template <class F, int kTokens>
struct MatVecWarp {
  using Shape = MatVecShape<F, kTokens>;

  F rows[2 * kRowTiles];  // lane / 4, and 8, 16, 24 rows below
  int columns;
  uint32_t* x_words;  // shared
  float sum[kRowTiles][Shape::kColumnTiles][4];

  struct Chunk {
    typename F::Chunk of_row[2 * kRowTiles];
  };

  // Any chunk; of one beyond the last nothing is used.
  template <bool kWhole>
  __device__ __forceinline__ void Load(int chunk, int q, Chunk& to) const {
    if (kWhole) chunk = min(chunk, columns / F::kChunkColumns - 1);
#pragma unroll
    for (int h = 0; h < 2 * kRowTiles; ++h) {
      to.of_row[h] = rows[h].template Load<kWhole>(chunk, q, columns);
    }
  }

  template <bool kUnpack>
  __device__ __forceinline__ void Compute(Chunk& chunk, int lane) {
    if constexpr (kUnpack) {
#pragma unroll
      for (int h = 0; h < 2 * kRowTiles; ++h) F::Unpack(chunk.of_row[h]);
    }
#pragma unroll
    for (int step = 0; step < F::kChunkColumns / kStepColumns; ++step) {
      Step(chunk.of_row, step, step * kStepColumns / 2, lane);
    }
  }

  // 32 columns: two tiles of 16. The words of x at `word` and on.
  __device__ __forceinline__ void Step(const typename F::Chunk (&w)[2 * kRowTiles], int step,
                                       int word, int lane) {
    KeepLoadsHere();
    uint4 xs[Shape::kColumnTiles];
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
      const int row = n * 8 + lane / 4;
      xs[n] = make_uint4(0, 0, 0, 0);
      if (row < kTokens * kXTerms) xs[n] = XWords(x_words + row * Shape::kXStride + word, lane % 4);
    }
    // What mins are multiplied by: the sums of x, in every row of a product with ones.
    float x_sums[Shape::kColumnTiles][4];
    if (F::kMins) {
#pragma unroll
      for (int n = 0; n < Shape::kColumnTiles; ++n) {
        const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
        const uint32_t first[2] = {xs[n].x, xs[n].y}, second[2] = {xs[n].z, xs[n].w};
        MultiplyBf16(x_sums[n], ones, first);
        MultiplyAddBf16(x_sums[n], ones, second);
      }
    }
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      float part[Shape::kColumnTiles][4];
#pragma unroll
      for (int term = 0; term < F::kTerms; ++term) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const uint32_t a[4] = {F::Pair(w[2 * m], step, 2 * half, term),
                                 F::Pair(w[2 * m + 1], step, 2 * half, term),
                                 F::Pair(w[2 * m], step, 2 * half + 1, term),
                                 F::Pair(w[2 * m + 1], step, 2 * half + 1, term)};
#pragma unroll
          for (int n = 0; n < Shape::kColumnTiles; ++n) {
            const uint32_t b[2] = {half == 0 ? xs[n].x : xs[n].z, half == 0 ? xs[n].y : xs[n].w};
            if (!F::kScaled) {
              MultiplyAddBf16(sum[m][n], a, b);
            } else if (half == 0 || F::kHalfScales) {
              MultiplyBf16(part[n], a, b);
            } else {
              MultiplyAddBf16(part[n], a, b);
            }
          }
          if constexpr (F::kHalfScales) {
            AddScaled(m, F::Scale(w[2 * m], step, half), F::Scale(w[2 * m + 1], step, half), part);
          }
        }
      }
      if constexpr (F::kScaled && !F::kHalfScales) {
        AddScaled(m, F::Scale(w[2 * m], step), F::Scale(w[2 * m + 1], step), part);
      }
      if constexpr (F::kMins) {
        AddScaled(m, -F::Min(w[2 * m], step), -F::Min(w[2 * m + 1], step), x_sums);
      }
    }
  }

  // x of a lane's 8 columns of a step, as pairs.
  __device__ static __forceinline__ uint4 XWords(const uint32_t* step, int q) {
    if (!F::kHalfScales) return *reinterpret_cast<const uint4*>(step + 4 * q);
    const uint2 first = *reinterpret_cast<const uint2*>(step + 2 * q);
    const uint2 second = *reinterpret_cast<const uint2*>(step + 8 + 2 * q);
    return make_uint4(first.x, first.y, second.x, second.y);
  }

  // sum[m] += part, rows of the upper half times `upper`, the others times `lower`.
  __device__ __forceinline__ void AddScaled(int m, float upper, float lower,
                                            const float (&part)[Shape::kColumnTiles][4]) {
#pragma unroll
    for (int n = 0; n < Shape::kColumnTiles; ++n) {
      sum[m][n][0] += upper * part[n][0];
      sum[m][n][1] += upper * part[n][1];
      sum[m][n][2] += lower * part[n][2];
      sum[m][n][3] += lower * part[n][3];
    }
  }

  // The sums to shared memory [token, term][row].
  __device__ __forceinline__ void StoreSums(float* to, int lane) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < Shape::kColumnTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = m * 16 + i / 2 * 8 + lane / 4, column = n * 8 + lane % 4 * 2 + i % 2;
          to[column * kReduceStride + row] = sum[m][n][i];
        }
      }
    }
  }
};

// The block's sum of token t and row r, over its warps and the terms of x.
template <class F, int kTokens>
__device__ __forceinline__ float SumOfWarps(const float* sums, int warps, int t, int r) {
  float total = 0;
  for (int w = 0; w < warps; ++w) {
    const float* of_warp = sums + w * MatVecShape<F, kTokens>::kReduceFloats;
#pragma unroll
    for (int term = kXTerms - 1; term >= 0; --term) {
      total += of_warp[(t * kXTerms + term) * kReduceStride + r];
    }
  }
  return total;
}

// Where a tile's sums go.
struct MatVecOutput {
  MatVecTarget target;
  Gate gate;
  int64_t first_row;
  int rows;              // of the output
  const float* up_bias;  // with a gate

  // To row t of the output, and of the tile's row r. `sum(r)` is the sum of a row of the tile.
  template <class Sum>
  __device__ __forceinline__ void Write(int t, int r, const Sum& sum) const {
    if (first_row + r >= target.rows) return;
    float value = sum(r);
    if (target.bias != nullptr) value += target.bias[first_row + r];
    if (gate != Gate::kNone) {
      float up = sum(r + rows);
      if (up_bias != nullptr) up += up_bias[first_row + r];
      value = Gated(gate, value, up);
    }
    target.out[t * target.out_stride + first_row + r] = value;
  }
};

__device__ __forceinline__ MatVecOutput OutputOf(const MatVecArguments& a, int tile) {
  if (a.gate == Gate::kNone) {
    const MatVecTarget target = TargetOf(a, tile);
    return {target, a.gate, int64_t{tile - target.first_tile} * kTileRows, kTileRows, nullptr};
  }
  return {a.targets[0], a.gate, int64_t{tile} * (kTileRows / 2), kTileRows / 2, a.targets[1].bias};
}

// Of a matrix of a stack.
__device__ __forceinline__ MatVecOutput OutputOf(const MatVecArguments& a, int tile, int64_t matrix,
                                                 int64_t out_at) {
  MatVecOutput output = OutputOf(a, tile);
  if (output.target.bias != nullptr) output.target.bias += matrix * output.target.rows;
  if (output.up_bias != nullptr) output.up_bias += matrix * output.target.rows;
  output.target.out += out_at;
  return output;
}

// The lane's row of the tile: lane / 4, and 8 h below.
template <class F>
__device__ __forceinline__ F FindRow(const MatVecArguments& a, int64_t data_at, int tile, int h,
                                     int lane) {
  MatVecTarget target;
  int64_t row;
  if (a.gate == Gate::kNone) {
    target = TargetOf(a, tile);
    row = int64_t{tile - target.first_tile} * kTileRows + 8 * h;
  } else {
    target = h < kRowTiles ? a.targets[0] : a.targets[1];
    row = int64_t{tile} * (kTileRows / 2) + 8 * (h % kRowTiles);
  }
  row += lane / 4;
  return F::Find(static_cast<const uint8_t*>(target.data) + data_at, target.rows, a.columns,
                 row < target.rows ? row : target.rows - 1);
}

// Adds up the parts of the blocks of a tile, in the block that comes last; always in one order.
__device__ __forceinline__ void AddBlocks(const MatVecArguments& a, int tile) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(a.work.tickets + tile, 1u) == gridDim.y - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  const MatVecOutput output = OutputOf(a, tile);
  const int floats = kTileRows * a.tokens;
  const float* partial = a.work.partial + int64_t{tile} * gridDim.y * floats;
  for (int i = threadIdx.x; i < output.rows * a.tokens; i += blockDim.x) {
    const int t = i / output.rows;
    output.Write(t, i % output.rows, [&](int r) {
      float total = 0;
      for (unsigned part = 0; part < gridDim.y; ++part) {
        total += __ldcg(partial + part * floats + t * kTileRows + r);
      }
      return total;
    });
  }
  if (threadIdx.x == 0) a.work.tickets[tile] = 0;
}

// The block's sums, over its warps: to the output, or to where AddBlocks finds them.
template <class F, int kTokens, bool kStacked>
__device__ __forceinline__ void FinishTile(const MatVecArguments& a, int tile, const float* sums) {
  const int warps = blockDim.x / 32;
  if constexpr (kStacked) {
    const auto item = RowsOfItem<kTokens>(a.stack);  // again: it would have taken registers
    const MatVecOutput output = OutputOf(a, tile, item.matrix, item.out_at);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= item.tokens) break;
      for (int r = threadIdx.x; r < output.rows; r += blockDim.x) {
        output.Write(item.out_row[t], r,
                     [&](int row) { return SumOfWarps<F, kTokens>(sums, warps, t, row); });
      }
    }
    return;
  }
  if (gridDim.y == 1) {
    const MatVecOutput output = OutputOf(a, tile);
    for (int i = threadIdx.x; i < output.rows * a.tokens; i += blockDim.x) {
      const int t = i / output.rows;
      output.Write(t, i % output.rows,
                   [&](int r) { return SumOfWarps<F, kTokens>(sums, warps, t, r); });
    }
    return;
  }
  const int floats = kTileRows * a.tokens;
  float* partial = a.work.partial + (int64_t{tile} * gridDim.y + blockIdx.y) * floats;
  for (int i = threadIdx.x; i < floats; i += blockDim.x) {
    partial[i] = SumOfWarps<F, kTokens>(sums, warps, i / kTileRows, i % kTileRows);
  }
  AddBlocks(a, tile);
}

// kWhole: rows are whole chunks. kStacked: a stack of matrices, which an earlier kernel may choose.
template <class F, int kTokens, bool kWhole, bool kStacked>
__global__ void __launch_bounds__(MatVecShape<F, kTokens>::kMostWarps * 32, 1)
    MatVecKernel(MatVecArguments a) {
  using Shape = MatVecShape<F, kTokens>;
  LetNextKernelStart();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const int tile = blockIdx.x, columns = static_cast<int>(a.columns);
  __shared__ const float* x_rows[kTokens];
  int64_t data_at = 0;
  if constexpr (kStacked) {
    WaitForPreviousKernel();
    const auto item = RowsOfItem<kTokens>(a.stack);
    if (item.tokens == 0) return;
    if (threadIdx.x == 0) {
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        const float* of_token = a.x + item.x_at + item.x_row[t] * a.stack.x_stride;
        x_rows[t] = t < item.tokens ? of_token : nullptr;
      }
    }
    __syncthreads();
    data_at = item.matrix * a.stack.matrix_bytes;
  }
  const std::conditional_t<kStacked, StackedRows, DenseRows> x_from = [&] {
    if constexpr (kStacked) {
      return StackedRows{x_rows};
    } else {
      return DenseRows{a.x, a.columns, a.tokens};
    }
  }();
  const auto row = [&](int h) { return FindRow<F>(a, data_at, tile, h, lane); };
  float* shared = DynamicShared<float>();
  MatVecWarp<F, kTokens> part = {{row(0), row(1), row(2), row(3)},
                                 columns,
                                 reinterpret_cast<uint32_t*>(shared) + warp * Shape::kXWords,
                                 {}};
  const int chunks = (columns + Shape::kColumns - 1) / Shape::kColumns;
  const int step = gridDim.y * warps;
  const int first = blockIdx.y * warps + warp;
  typename MatVecWarp<F, kTokens>::Chunk ahead[F::kChunksAhead];
#pragma unroll
  for (int i = 0; i < F::kChunksAhead; ++i)
    part.template Load<kWhole>(first + i * step, lane % 4, ahead[i]);
  if (!kStacked) WaitForPreviousKernel();
  // What the compiler finds registers for: x of the next chunk ahead too; scales and mins unpacked
  // once, which helps where many sums fill the registers and otherwise takes more of them.
  constexpr bool kXAhead =
      kTokens * F::kChunkColumns <= 256 && !(kTightRegisters && (F::kMins || kStacked));
  constexpr bool kUnpack = F::kMins && (kTokens > 4 || (kTightRegisters && kStacked));
  XValues<F, kTokens> x;
  if (kXAhead) x.Load(x_from, columns, first, lane);
  for (int chunk = first; chunk < chunks;) {
#pragma unroll
    for (int i = 0; i < F::kChunksAhead; ++i) {
      if (chunk >= chunks) break;
      if (!kXAhead) x.Load(x_from, columns, chunk, lane);
      x.Store(part.x_words, lane);
      __syncwarp();
      if (kXAhead) x.Load(x_from, columns, chunk + step, lane);
      part.template Compute<kUnpack>(ahead[i], lane);
      part.template Load<kWhole>(chunk + F::kChunksAhead * step, lane % 4, ahead[i]);
      __syncwarp();
      chunk += step;
    }
  }
  __syncthreads();
  part.StoreSums(shared + warp * Shape::kReduceFloats, lane);
  __syncthreads();
  FinishTile<F, kTokens, kStacked>(a, tile, shared);
}

template <class F, int kTokens, bool kWhole = true, bool kStacked = false>
cudaError_t LaunchMatVec(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  using Shape = MatVecShape<F, kTokens>;
  const int64_t chunks = (arguments.columns + Shape::kColumns - 1) / Shape::kColumns;
  const int items = kStacked ? arguments.stack.items : 1;
  // Few tiles: more warps each, then more blocks, as long as every warp has a chunk.
  const int64_t wanted = int64_t{2} * stream.multiprocessors;
  int64_t warps = int64_t{tiles} * items >= wanted ? 8 : Shape::kMostWarps;
  while (warps > 1 && warps >= 2 * chunks) warps /= 2;
  int64_t splits = kStacked ? 1 : stream.multiprocessors / tiles;
  splits = splits < chunks / warps ? splits : chunks / warps;
  splits = splits < kMatVecTickets / tiles ? splits : kMatVecTickets / tiles;
  splits = splits < 1 ? 1 : splits > 8 ? 8 : splits;
  const Grid grid = {dim3(tiles, static_cast<unsigned>(splits), static_cast<unsigned>(items)),
                     dim3(static_cast<unsigned>(warps * 32)),
                     Shape::SharedBytes(static_cast<int>(warps))};
  return Launch(stream, grid, &MatVecKernel<F, kTokens, kWhole, kStacked>, arguments);
}

template <class F>
cudaError_t LaunchMatVecOf(const Stream& stream, int tiles, const MatVecArguments& arguments) {
  const bool stacked = arguments.stack.items > 0;
  if constexpr (!F::kAlwaysWhole) {
    if (arguments.columns % F::kChunkColumns != 0) {
      return stacked ? LaunchMatVec<F, kMostMatVecTokens, false, true>(stream, tiles, arguments)
                     : LaunchMatVec<F, kMostMatVecTokens, false>(stream, tiles, arguments);
    }
  }
  if (stacked) {
    return arguments.tokens <= 1
               ? LaunchMatVec<F, 1, true, true>(stream, tiles, arguments)
               : LaunchMatVec<F, kMostMatVecTokens, true, true>(stream, tiles, arguments);
  }
  if (arguments.tokens <= 1) return LaunchMatVec<F, 1>(stream, tiles, arguments);
  if (arguments.tokens <= 2) return LaunchMatVec<F, 2>(stream, tiles, arguments);
  if (arguments.tokens <= 4) return LaunchMatVec<F, 4>(stream, tiles, arguments);
  return LaunchMatVec<F, kMostMatVecTokens>(stream, tiles, arguments);
}

}  // namespace tprun::cuda
