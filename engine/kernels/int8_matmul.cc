#include "engine/kernels/int8_matmul.h"

#include <algorithm>

namespace tprun::cpu {
namespace {

constexpr int64_t kChunkTokens = 512;           // that are quantised at a time
constexpr int64_t kQuantizeGrain = 8192;        // values that are worth a worker
constexpr int64_t kFewTokens = 8;               // one pass over the weights for all
constexpr int64_t kL2Bytes = int64_t{1} << 20;  // of activations, a worker's part of L2

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool QuantizeAlike(const Int8Format& a, const Int8Format& b) {
  return a.format->block_elements == b.format->block_elements && a.offset == b.offset &&
         a.halves == b.halves && a.pairs == b.pairs && a.byte_minima == b.byte_minima;
}

// Tokens that a worker goes over with all its rows before it takes the next.
int64_t TokensAtOnce(int64_t tokens, int64_t columns) {
  const int64_t bytes = std::max<int64_t>(PanelsOf(columns), 1) * sizeof(Int8Panel);
  const int64_t most = std::clamp<int64_t>(kL2Bytes / bytes, 32, kInt8Tokens);
  return CeilDivide(tokens, CeilDivide(tokens, most));
}

}  // namespace

const Int8Format* FindInt8Format(const WeightFormat& format) {
  for (const auto find : {FindInt8Block, FindInt8KQuant, FindInt8Group}) {
    if (const Int8Format* found = find(format)) return found;
  }
  return nullptr;
}

bool Int8MatMul::Takes(absl::Span<const Projection> projections) {
  return std::all_of(projections.begin(), projections.end(), [](const Projection& p) {
    return FindInt8Format(*p.weight.format) != nullptr;
  });
}

const Int8Panel* Int8MatMul::Quantize(const Int8Format& format, const float* x, int64_t columns,
                                      int64_t tokens, std::vector<Int8Panel>& out) {
  const auto panels = static_cast<size_t>(PanelsOf(columns) * tokens + kPanelsBehind);
  if (out.size() < panels) out.resize(panels);
  const int64_t grain = kQuantizeGrain / std::max<int64_t>(columns, 1) + 1;
  pool_->ParallelFor(tokens, grain, [&](int64_t begin, int64_t end, int) {
    QuantizeTokens(format, planes_, x, columns, tokens, begin, end, out.data());
  });
  return out.data();
}

void Int8MatMul::Run(const float* x, absl::Span<const Projection> projections, int64_t tokens) {
  if (projections.empty()) return;
  const int64_t columns = projections[0].weight.columns;
  for (int64_t first = 0; first < tokens; first += kChunkTokens) {
    RunChunk(x + first * columns, projections, std::min(kChunkTokens, tokens - first), first);
  }
}

// Tokens [first, first + tokens); x is that of the first.
void Int8MatMul::RunChunk(const float* x, absl::Span<const Projection> projections, int64_t tokens,
                          int64_t first) {
  struct Task {
    const Int8Format* format;
    Int8Problem problem;
    int64_t first_tile;
  };
  std::vector<Task> tasks;
  int64_t tiles = 0;
  if (quantized_.size() < projections.size()) quantized_.resize(projections.size());
  const int64_t columns = projections[0].weight.columns;
  for (const Projection& p : projections) {
    const Int8Format* format = FindInt8Format(*p.weight.format);
    const auto alike = std::find_if(tasks.begin(), tasks.end(), [&](const Task& task) {
      return QuantizeAlike(*task.format, *format);
    });
    const Int8Panel* panels = alike != tasks.end()
                                  ? alike->problem.x
                                  : Quantize(*format, x, columns, tokens, quantized_[tasks.size()]);
    tasks.push_back({format,
                     {panels, tokens, p.weight, p.bias, p.out + first * p.out_stride, p.out_stride,
                      format->units},
                     tiles});
    tiles += CeilDivide(p.weight.rows, kTileRows);
  }
  const int64_t step = TokensAtOnce(tokens, columns);
  // Two tiles share the loads of activations where tokens are many.
  const int64_t grain = tokens > kFewTokens && tiles >= 4 * pool_->num_threads() ? 2 : 1;
  if (tokens <= kFewTokens) ahead_->Begin(projections);
  pool_->ParallelFor(tiles, grain, [&](int64_t begin, int64_t end, int worker) {
    std::vector<float>& scratch = scratch_[worker];
    scratch.resize(kInt8ScratchFloats + 16);
    float* aligned = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) / 4;
    for (int64_t token = 0; token < tokens; token += step) {
      for (size_t i = 0; i < tasks.size(); ++i) {
        const Task& task = tasks[i];
        const int64_t stop = i + 1 < tasks.size() ? tasks[i + 1].first_tile : tiles;
        const Int8Part part = {std::max(begin, task.first_tile) - task.first_tile,
                               std::min(end, stop) - task.first_tile, token,
                               std::min(tokens, token + step)};
        if (part.tile_begin < part.tile_end)
          task.format->multiply[planes_ - 1](task.problem, part, aligned);
      }
    }
  });
}

}  // namespace tprun::cpu
