#include "engine/kernels/plain_matmul.h"

#include <algorithm>
#include <optional>

namespace tprun::cpu {
namespace {

constexpr int64_t kChunkTokens = 512;  // that are packed at a time
// Of a token in a block of columns: of 512 tokens that is half a MiB, which stays in L2.
constexpr int64_t kBlockElements = 256;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
T* AtLeast(int64_t count, std::vector<T>& buffer) {
  if (static_cast<int64_t>(buffer.size()) < count) buffer.resize(count);
  return buffer.data();
}

}  // namespace

bool PlainMatMul::Takes(absl::Span<const Projection> projections) {
  return std::all_of(projections.begin(), projections.end(), [](const Projection& p) {
    const WeightFormat& format = *p.weight.format;
    return !PlainUnits(format, 2 * format.block_elements).empty();
  });
}

PackedTokens PlainMatMul::Pack(const float* x, int64_t columns, int64_t tokens, bool bf16) {
  const int64_t elements = bf16 ? CeilDivide(columns, 2) : columns;  // of a token
  const int64_t block = tokens <= kFewTokens ? std::max<int64_t>(elements, 1) : kBlockElements;
  const int64_t blocks = CeilDivide(elements, block);
  uint32_t* const packed = AtLeast(blocks * tokens * block, packed_[bf16 ? 1 : 0]);
  const int64_t most = MostPlainTokens();
  pool_->ParallelFor(tokens, most, [&](int64_t begin, int64_t end, int worker) {
    std::vector<uint32_t>& rounded = rounded_[worker];
    if (bf16) AtLeast(most * elements, rounded);
    std::vector<const uint32_t*> rows(most), at(most);
    for (int64_t t = begin; t < end; t += most) {
      const int64_t count = std::min(most, end - t);
      for (int64_t i = 0; i < count; ++i) {
        const float* from = x + (t + i) * columns;
        rows[i] = reinterpret_cast<const uint32_t*>(from);
        if (!bf16) continue;
        RoundToPairs(from, columns, rounded.data() + i * elements);
        rows[i] = rounded.data() + i * elements;
      }
      for (int64_t b = 0; b < blocks; ++b) {
        for (int64_t i = 0; i < count; ++i) at[i] = rows[i] + b * block;
        InterleaveGroups(at.data(), count, std::min(block, elements - b * block), block,
                         packed + (b * tokens + t) * block);
      }
    }
  });
  return {packed, tokens, block, block * (bf16 ? 2 : 1), bf16};
}

void PlainMatMul::Run(const float* x, absl::Span<const Projection> projections, int64_t tokens) {
  if (projections.empty()) return;
  const int64_t columns = projections[0].weight.columns;
  for (int64_t first = 0; first < tokens; first += kChunkTokens) {
    RunChunk(x + first * columns, projections, std::min(kChunkTokens, tokens - first), first);
  }
}

// Tokens [first, first + tokens); x is that of the first.
void PlainMatMul::RunChunk(const float* x, absl::Span<const Projection> projections, int64_t tokens,
                           int64_t first) {
  const int64_t columns = projections[0].weight.columns;
  std::optional<PackedTokens> packed[2];  // as they are, rounded
  std::vector<PlainProblem> problems;
  std::vector<int64_t> first_tiles = {0};
  for (const Projection& p : projections) {
    const bool bf16 = round_ && p.weight.format == &kBF16Format;
    std::optional<PackedTokens>& own = packed[bf16 ? 1 : 0];
    if (!own.has_value()) own = Pack(x, columns, tokens, bf16);
    problems.push_back({*own, p.weight, p.bias, p.out + first * p.out_stride, p.out_stride});
    first_tiles.push_back(first_tiles.back() + CeilDivide(p.weight.rows, kTileRows));
  }
  const int64_t tiles = first_tiles.back();
  // Two tiles share the loads of activations where tokens are many.
  const int64_t grain = tokens > kFewTokens && tiles >= 4 * pool_->num_threads() ? 2 : 1;
  if (tokens <= kFewTokens) ahead_->Begin(projections);
  pool_->ParallelFor(tiles, grain, [&](int64_t begin, int64_t end, int worker) {
    float* scratch = AtLeast(PlainScratchFloats(tokens, columns), scratch_[worker]);
    for (size_t i = 0; i < problems.size(); ++i) {
      const int64_t from = std::max(begin, first_tiles[i]), to = std::min(end, first_tiles[i + 1]);
      if (from >= to) continue;
      MultiplyPlainTiles(problems[i], from - first_tiles[i], to - first_tiles[i], scratch);
    }
  });
}

}  // namespace tprun::cpu
