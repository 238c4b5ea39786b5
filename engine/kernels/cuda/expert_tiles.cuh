#pragma once

#include <cstdint>

#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/expert_tiles.h"
#include "engine/kernels/cuda/matvec.cuh"

// A block has kTileWarps tiles of 32 rows, one to a warp, and the tokens of an item. Warps read and
// decode their weights as in matvec.cuh; x they share, in two buffers of shared memory of which one
// is filled while the other is multiplied.

namespace tprun::cuda {

constexpr int kTileWarps = 8;
constexpr int kTileThreads = kTileWarps * 32;
constexpr int kTileXTerms = 2;
constexpr int kTokenTiles = kExpertTileTokens / 8;

template <class F>
struct ExpertTileShape {
  static constexpr int kColumns = F::kChunkColumns < 64 ? F::kChunkColumns : 64;  // of a buffer
  static constexpr int kPhases = F::kChunkColumns / kColumns;                     // of a chunk
  static constexpr int kSteps = kColumns / kStepColumns;
  static constexpr int kStride = kColumns / 2 + (kColumns == 32 ? 0 : 16);  // as kXStride
  static constexpr int kTermWords = kExpertTileTokens * kStride;
  static constexpr int kBufferWords = kTileXTerms * kTermWords;
  static constexpr size_t kSharedBytes = (2 * kBufferWords + 2 * kExpertTileTokens) * 4;
  static constexpr int kChunksAhead = F::kMins || F::kTerms > 1 ? 1 : 2;
  // Groups of four columns that a thread brings to a buffer.
  static constexpr int kFours = kExpertTileTokens * kColumns / 4 / kTileThreads;
};

// x of a buffer, on its way: group i is columns 4 * (thread % groups of a row) of a token.
template <class F>
struct TileX {
  using Shape = ExpertTileShape<F>;
  static constexpr int kRowFours = Shape::kColumns / 4;
  float4 fours[Shape::kFours];

  __device__ static __forceinline__ int TokenOf(int i) {
    return (static_cast<int>(threadIdx.x) + i * kTileThreads) / kRowFours;
  }
  __device__ static __forceinline__ int ColumnOf() {
    return static_cast<int>(threadIdx.x) % kRowFours * 4;
  }

  __device__ __forceinline__ void Load(const MatVecArguments& a, const int* x_rows, int tokens,
                                       int phase) {
    const int column = phase * Shape::kColumns + ColumnOf();
#pragma unroll
    for (int i = 0; i < Shape::kFours; ++i) {
      fours[i] = make_float4(0, 0, 0, 0);
      const int token = TokenOf(i);
      if (token >= tokens || column >= a.columns) continue;
      fours[i] = *reinterpret_cast<const float4*>(a.x + x_rows[token] * a.stack.x_stride + column);
    }
  }

  // Zeros for tokens that are not there: the tiles of the last are whole.
  __device__ __forceinline__ void Store(uint32_t* buffer) const {
#pragma unroll
    for (int i = 0; i < Shape::kFours; ++i) {
      float rest[4] = {fours[i].x, fours[i].y, fours[i].z, fours[i].w};
      uint32_t* to = buffer + TokenOf(i) * Shape::kStride + ColumnOf() / 2;
#pragma unroll
      for (int term = 0; term < kTileXTerms; ++term) {
        uint2* words = reinterpret_cast<uint2*>(to + term * Shape::kTermWords);
        *words = make_uint2(TakeTwo(rest), TakeTwo(rest + 2));
      }
    }
  }
  // Two values rounded to bf16, which are taken from them.
  __device__ static __forceinline__ uint32_t TakeTwo(float* rest) {
    const uint16_t low = Bf16Element::Store(rest[0]), high = Bf16Element::Store(rest[1]);
    rest[0] -= Bf16Element::Load(low);
    rest[1] -= Bf16Element::Load(high);
    return low | uint32_t{high} << 16;
  }
};

// A warp's tile of 32 rows by all tokens.
template <class F>
struct ExpertTileWarp {
  using Shape = ExpertTileShape<F>;
  using Few = MatVecWarp<F, 1>;
  using Chunk = typename Few::Chunk;

  Few weights;  // reads them; its sums are not used
  float sum[kRowTiles][kTokenTiles][4];

  // Step `step` of the chunk, whose columns begin at `words` of the buffer.
  __device__ __forceinline__ void Step(const Chunk& chunk, int step, const uint32_t* words,
                                       int token_tiles, int lane) {
    KeepLoadsHere();
    const typename F::Chunk(&w)[2 * kRowTiles] = chunk.of_row;
    uint32_t a[kRowTiles][F::kTerms][2][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int term = 0; term < F::kTerms; ++term) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t(&to)[4] = a[m][term][half];
          to[0] = F::Pair(w[2 * m], step, 2 * half, term);
          to[1] = F::Pair(w[2 * m + 1], step, 2 * half, term);
          to[2] = F::Pair(w[2 * m], step, 2 * half + 1, term);
          to[3] = F::Pair(w[2 * m + 1], step, 2 * half + 1, term);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      if (n >= token_tiles) break;
      uint32_t b[kTileXTerms][2][2];
#pragma unroll
      for (int term = 0; term < kTileXTerms; ++term) {
        const uint32_t* row = words + (n * 8 + lane / 4) * Shape::kStride;
        const uint4 x = Few::XWords(row + term * Shape::kTermWords, lane % 4);
        b[term][0][0] = x.x, b[term][0][1] = x.y, b[term][1][0] = x.z, b[term][1][1] = x.w;
      }
      float mins[4];
      if constexpr (F::kMins) SumX(b, mins);
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) Multiply(w, step, a[m], b, m, n, mins);
    }
  }

 private:
  // The sums of x, in every row of a product with ones.
  __device__ static __forceinline__ void SumX(const uint32_t (&b)[kTileXTerms][2][2],
                                              float (&sums)[4]) {
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    MultiplyBf16(sums, ones, b[0][0]);
    MultiplyAddBf16(sums, ones, b[0][1]);
#pragma unroll
    for (int term = 1; term < kTileXTerms; ++term) {
      MultiplyAddBf16(sums, ones, b[term][0]);
      MultiplyAddBf16(sums, ones, b[term][1]);
    }
  }

  // sum += a b of one tile, scaled as the format's are.
  __device__ __forceinline__ void Multiply(const typename F::Chunk (&w)[2 * kRowTiles], int step,
                                           const uint32_t (&a)[F::kTerms][2][4],
                                           const uint32_t (&b)[kTileXTerms][2][2], int m, int n,
                                           const float (&mins)[4]) {
    float part[4] = {0, 0, 0, 0};
    float(&to)[4] = F::kScaled ? part : sum[m][n];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int term = 0; term < F::kTerms; ++term) {
#pragma unroll
        for (int x_term = 0; x_term < kTileXTerms; ++x_term) {
          MultiplyAddBf16(to, a[term][half], b[x_term][half]);
        }
      }
      if constexpr (F::kHalfScales) {
        AddScaled(m, n, F::Scale(w[2 * m], step, half), F::Scale(w[2 * m + 1], step, half), part);
        part[0] = part[1] = part[2] = part[3] = 0;
      }
    }
    if constexpr (F::kScaled && !F::kHalfScales) {
      AddScaled(m, n, F::Scale(w[2 * m], step), F::Scale(w[2 * m + 1], step), part);
    }
    if constexpr (F::kMins) {
      AddScaled(m, n, -F::Min(w[2 * m], step), -F::Min(w[2 * m + 1], step), mins);
    }
  }

  __device__ __forceinline__ void AddScaled(int m, int n, float upper, float lower,
                                            const float (&part)[4]) {
    sum[m][n][0] += upper * part[0];
    sum[m][n][1] += upper * part[1];
    sum[m][n][2] += lower * part[2];
    sum[m][n][3] += lower * part[3];
  }
};

// The warp's sums to the rows of the output that the item names.
template <class F>
__device__ __forceinline__ void WriteTile(const ExpertTileWarp<F>& tile, const MatVecOutput& output,
                                          const int* out_rows, int tokens, int lane) {
  const bool gated = output.gate != Gate::kNone;
#pragma unroll
  for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = n * 8 + lane % 4 * 2 + i % 2;
      if (token >= tokens) continue;
      const int row = i / 2 * 8 + lane / 4;
      const auto sum = [&](int r) { return r < 16 ? tile.sum[0][n][i] : tile.sum[1][n][i]; };
      output.Write(out_rows[token], row, sum);
      if (!gated) output.Write(out_rows[token], row + 16, sum);
    }
  }
}

// Grid: item, tiles of rows. Blocks of the same rows and different tokens of an expert run at about
// the same time, so that the weights come from memory once.
template <class F, bool kWhole>
__global__ void __launch_bounds__(kTileThreads, 1) ExpertTileKernel(MatVecArguments a, int tiles) {
  using Shape = ExpertTileShape<F>;
  LetNextKernelStart();
  WaitForPreviousKernel();
  if (static_cast<int>(blockIdx.x) >= *a.stack.count) return;
  const StackItem item = a.stack.list[blockIdx.x];
  uint32_t* shared = DynamicShared<uint32_t>();
  int* x_rows = reinterpret_cast<int*>(shared + 2 * Shape::kBufferWords);
  int* out_rows = x_rows + kExpertTileTokens;
  for (int t = threadIdx.x; t < item.visits; t += kTileThreads) {
    const int visit = a.stack.visits[item.first_visit + t];
    x_rows[t] = a.stack.x_by_slot ? visit : visit / a.stack.slots;
    out_rows[t] = visit;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  const int wanted = blockIdx.y * kTileWarps + threadIdx.x / 32;
  const int tile = min(wanted, tiles - 1);  // warps beyond the last repeat it, for the barriers
  const int64_t data_at = item.matrix * a.stack.matrix_bytes;
  const auto row = [&](int h) { return FindRow<F>(a, data_at, tile, h, lane); };
  const int columns = static_cast<int>(a.columns);
  ExpertTileWarp<F> part = {{{row(0), row(1), row(2), row(3)}, columns, nullptr, {}}, {}};
  typename ExpertTileWarp<F>::Chunk ahead[Shape::kChunksAhead];
#pragma unroll
  for (int i = 0; i < Shape::kChunksAhead; ++i)
    part.weights.template Load<kWhole>(i, lane % 4, ahead[i]);
  const int chunks = (columns + F::kChunkColumns - 1) / F::kChunkColumns;
  const int token_tiles = (item.visits + 7) / 8;
  TileX<F> x;
  x.Load(a, x_rows, item.visits, 0);
  int buffer = 0;
  for (int first = 0; first < chunks; first += Shape::kChunksAhead) {
#pragma unroll
    for (int i = 0; i < Shape::kChunksAhead; ++i) {
      const int chunk = first + i;
      if (chunk >= chunks) break;
#pragma unroll
      for (int phase = 0; phase < Shape::kPhases; ++phase) {
        uint32_t* words = shared + buffer * Shape::kBufferWords;
        x.Store(words);
        __syncthreads();
        x.Load(a, x_rows, item.visits, chunk * Shape::kPhases + phase + 1);
#pragma unroll
        for (int s = 0; s < Shape::kSteps; ++s) {
          part.Step(ahead[i], phase * Shape::kSteps + s, words + s * kStepColumns / 2, token_tiles,
                    lane);
        }
        buffer ^= 1;
      }
      part.weights.template Load<kWhole>(chunk + Shape::kChunksAhead, lane % 4, ahead[i]);
    }
  }
  if (wanted >= tiles) return;
  WriteTile(part, OutputOf(a, tile, item.matrix, 0), out_rows, item.visits, lane);
}

template <class F, bool kWhole>
cudaError_t LaunchExpertTiles(const Stream& stream, const MatVecArguments& arguments) {
  const int64_t rows = arguments.targets[0].rows;
  const int tile_rows = arguments.gate == Gate::kNone ? kTileRows : kTileRows / 2;
  const int tiles = static_cast<int>((rows + tile_rows - 1) / tile_rows);
  const Grid grid = {dim3(static_cast<unsigned>(arguments.stack.items),
                          static_cast<unsigned>((tiles + kTileWarps - 1) / kTileWarps)),
                     dim3(kTileThreads), ExpertTileShape<F>::kSharedBytes};
  return Launch(stream, grid, &ExpertTileKernel<F, kWhole>, arguments, tiles);
}

template <class F>
cudaError_t LaunchExpertTilesOf(const Stream& stream, const MatVecArguments& arguments) {
  if constexpr (!F::kAlwaysWhole) {
    if (arguments.columns % F::kChunkColumns != 0) {
      return LaunchExpertTiles<F, false>(stream, arguments);
    }
  }
  return LaunchExpertTiles<F, true>(stream, arguments);
}

}  // namespace tprun::cuda
