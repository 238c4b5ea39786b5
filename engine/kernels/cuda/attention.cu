// How attention over a batch is cut into launches.

#include <algorithm>
#include <type_traits>

#include "engine/kernels/cuda/attention_prefill.cuh"
#include "engine/kernels/cuda/attention_prefill_wide.cuh"

namespace tprun::cuda {
namespace {

// From how many tokens of a sequence on their rows fill tiles well enough.
constexpr int64_t kPrefillFrom = 16;

AttentionPlan PlanOf(const AttentionArguments& a) {
  AttentionPlan plan = {};
  const int together = std::min(a.queries_per_kv_head, a.query_heads);
  plan.heads = together <= 1 ? 1 : together <= 2 ? 2 : together <= 4 ? 4 : 8;
  if (a.cache.head_dim > kNarrowHeadDim) plan.heads = kWideHeads;
  // 8 warps' sums of 8 such heads would be more than the 64 KiB of compute capability 7.5.
  if (plan.heads == 8 && a.cache.head_dim > 248) plan.heads = 4;
  plan.parts = (together + plan.heads - 1) / plan.heads;
  const int first_kv = a.first_query_head / a.queries_per_kv_head;
  const int last_kv = (a.first_query_head + a.query_heads - 1) / a.queries_per_kv_head;
  plan.groups = (last_kv - first_kv + 1) * plan.parts;
  plan.lanes = 1;
  while (plan.lanes < 32 && plan.lanes * 8 < a.cache.head_dim) plan.lanes *= 2;
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  plan.aligned = a.cache.head_dim % 8 == 0 && a.cache.sequence_stride % 16 == 0 &&
                 aligned(a.cache.keys) && aligned(a.cache.values);
  return plan;
}

// Enough blocks for the GPU, each with some hundred positions of the longest sequence there can be,
// within the workspace. Depends on nothing that changes from step to step of a captured graph.
int SplitsOf(const Stream& stream, const AttentionArguments& a, const AttentionPlan& plan) {
  const int64_t blocks = a.tokens.count * plan.groups;
  if (a.partial == nullptr || blocks > kAttentionTickets) return 1;
  const int64_t longest = a.window > 0 ? std::min(a.window, a.cache.capacity) : a.cache.capacity;
  const int64_t rows = a.tokens.count * a.query_heads;
  const int64_t most = std::min({(longest + 127) / 128, int64_t{64},
                                 kAttentionPartialFloats / (rows * (a.cache.head_dim + 2))});
  return static_cast<int>(
      std::clamp<int64_t>(2 * stream.multiprocessors / blocks, 1, std::max<int64_t>(most, 1)));
}

// Tokens [first, first + count) of the batch, each by itself.
cudaError_t SingleTokens(const Stream& stream, AttentionArguments a, int64_t first, int64_t count) {
  a.q += first * a.q_stride;
  a.out += first * a.query_heads * a.cache.head_dim;
  a.tokens = {count, a.tokens.sequences + first, a.tokens.positions + first};
  const AttentionPlan plan = PlanOf(a);
  a.splits = SplitsOf(stream, a, plan);
  if (a.cache.head_dim > kNarrowHeadDim) return LaunchAttentionWide(stream, a, plan);
  switch (a.cache.element) {
    case Element::kF32:
      return LaunchAttentionF32(stream, a, plan);
    case Element::kF16:
      return LaunchAttentionF16(stream, a, plan);
    case Element::kBF16:
      return LaunchAttentionBf16(stream, a, plan);
    case Element::kE4M3:
      return LaunchAttentionE4M3(stream, a, plan);
    case Element::kQ8_0:
      return LaunchAttentionQ8_0(stream, a, plan);
  }
  return cudaErrorInvalidValue;
}

// What a block may have: CUDA C++ Programming Guide, "Technical Specifications".
size_t MostSharedBytes(int compute_capability) {
  switch (compute_capability) {
    case 80:
    case 87:
      return 163 << 10;
    case 90:
    case 100:
    case 103:
      return 227 << 10;
    default:
      return compute_capability < 80 ? 64 << 10 : 99 << 10;
  }
}

// How many tokens of a sequence are taken: one by one or by a kernel of attention_prefill.cuh or
// attention_prefill_wide.cuh.
enum class Tiles { kNone, kNarrow, kWide };

template <class E>
Tiles TilesOf(const Stream& stream, int head_dim) {
  const int capability = stream.compute_capability;
  // Before compute capability 8.0 there are no tiles of bf16.
  if (capability < 80 && std::is_base_of_v<Bf16Element, E>) return Tiles::kNone;
  const size_t bytes = MostSharedBytes(capability);
  if (PrefillTakes<E>(head_dim, bytes)) return Tiles::kNarrow;
  return WidePrefillTakes<E>(head_dim, bytes) ? Tiles::kWide : Tiles::kNone;
}

Tiles TilesOf(const Stream& stream, const AttentionArguments& a) {
  if (!PlanOf(a).aligned) return Tiles::kNone;
  switch (a.cache.element) {
    case Element::kF32:
      return Tiles::kNone;
    case Element::kF16:
      return TilesOf<TileF16>(stream, a.cache.head_dim);
    case Element::kBF16:
      return TilesOf<TileBf16>(stream, a.cache.head_dim);
    case Element::kE4M3:
      return TilesOf<TileE4M3>(stream, a.cache.head_dim);
    case Element::kQ8_0:
      return TilesOf<TileQ8_0>(stream, a.cache.head_dim);
  }
  return Tiles::kNone;
}

cudaError_t Prefill(const Stream& stream, const AttentionArguments& a, Tiles tiles, int64_t first,
                    const Run& run) {
  const PrefillArguments arguments = {a, first, run.first_position, static_cast<int>(run.tokens),
                                      run.sequence};
  const AttentionPlan plan = PlanOf(a);
  const int groups = plan.groups / plan.parts;
  const int most_heads = std::min(a.queries_per_kv_head, a.query_heads);
  if (tiles == Tiles::kWide) return LaunchWidePrefill(stream, arguments, groups, most_heads);
  switch (a.cache.element) {
    case Element::kF32:
      return cudaErrorInvalidValue;
    case Element::kF16:
      return LaunchPrefillF16(stream, arguments, groups, most_heads);
    case Element::kBF16:
      return LaunchPrefillBf16(stream, arguments, groups, most_heads);
    case Element::kE4M3:
      return LaunchPrefillE4M3(stream, arguments, groups, most_heads);
    case Element::kQ8_0:
      return LaunchPrefillQ8_0(stream, arguments, groups, most_heads);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t Attention(const Stream& stream, const AttentionArguments& arguments, const Run* runs,
                      int count) {
  const Tiles tiles = TilesOf(stream, arguments);
  int64_t done = 0, waiting = 0;  // tokens; those waiting go one by one
  for (int i = 0; i < count; ++i) {
    if (tiles == Tiles::kNone || runs[i].tokens < kPrefillFrom) {
      waiting += runs[i].tokens;
      continue;
    }
    cudaError_t error = waiting > 0 ? SingleTokens(stream, arguments, done, waiting) : cudaSuccess;
    if (error == cudaSuccess) error = Prefill(stream, arguments, tiles, done + waiting, runs[i]);
    if (error != cudaSuccess) return error;
    done += waiting + runs[i].tokens;
    waiting = 0;
  }
  return waiting > 0 ? SingleTokens(stream, arguments, done, waiting) : cudaSuccess;
}

}  // namespace tprun::cuda
