// Mixtures of experts apart from their products: who goes where, and the sum of what comes back.

#include "engine/kernels/cuda/experts.h"

#include "engine/kernels/cuda/activations.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/reduce.cuh"

namespace tprun::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kGroupThreads = 1024;

// The best of a warp's values, the lower id among equals; id -1: none.
struct Candidate {
  double value;
  int id;
};
__device__ __forceinline__ bool IsBetter(const Candidate& a, const Candidate& b) {
  if (a.id < 0 || b.id < 0) return b.id < 0 && a.id >= 0;
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// Of `count` values in shared memory; NaN has been taken already.
__device__ __forceinline__ Candidate BestOfWarp(const double* values, int count) {
  Candidate best = {0, -1};
  for (int i = threadIdx.x; i < count; i += 32) {
    const Candidate here = {values[i], i};
    if (values[i] == values[i] && IsBetter(here, best)) best = here;
  }
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    const Candidate other = {__shfl_xor_sync(kAllLanes, best.value, bits),
                             __shfl_xor_sync(kAllLanes, best.id, bits)};
    if (IsBetter(other, best)) best = other;
  }
  return best;
}

__device__ __forceinline__ double SumOfLanes(double value) {
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
  return value;
}

// Scores of the token's logits, in double as on the CPU: close calls go the same way.
__device__ __forceinline__ void FindScores(const RouterArguments& a, const float* logits,
                                           double* scores) {
  const int lane = threadIdx.x;
  float max = -INFINITY;
  for (int e = lane; e < a.count; e += 32) max = fmaxf(max, logits[e]);
#pragma unroll
  for (int bits = 16; bits > 0; bits /= 2) {
    max = fmaxf(max, __shfl_xor_sync(kAllLanes, max, bits));
  }
  double sum = 0;
  for (int e = lane; e < a.count; e += 32) {
    const double logit = logits[e];
    scores[e] = a.sigmoid ? 1 / (1 + exp(-logit)) : exp(logit - max);
    sum += scores[e];
  }
  sum = SumOfLanes(sum);
  if (a.sigmoid) return;
  for (int e = lane; e < a.count; e += 32) scores[e] /= sum;
}

// Experts outside the best groups become -infinity. A group counts by its best expert, with a bias
// by the sum of its two best.
__device__ __forceinline__ void KeepBestGroups(const RouterArguments& a, double* choice,
                                               double* of_group) {
  const int size = a.count / a.groups;
  for (int g = threadIdx.x; g < a.groups; g += 32) {
    double first = -INFINITY, second = -INFINITY;
    for (int i = 0; i < size; ++i) {
      const double value = choice[g * size + i];
      second = value > first ? first : value > second ? value : second;
      first = value > first ? value : first;
    }
    const double both = a.choice_bias != nullptr && size > 1 ? first + second : first;
    of_group[g] = both == both ? both : -INFINITY;  // of infinities of either sign
  }
  __syncwarp();
  for (int k = 0; k < a.groups_per_token; ++k) {
    const Candidate best = BestOfWarp(of_group, a.groups);
    __syncwarp();
    if (threadIdx.x == 0) of_group[best.id] = NAN;  // kept
    __syncwarp();
  }
  for (int e = threadIdx.x; e < a.count; e += 32) {
    if (of_group[e / size] == of_group[e / size]) choice[e] = -INFINITY;
  }
  __syncwarp();
}

// Block: a warp for a token.
__global__ void __launch_bounds__(32) RouteKernel(RouterArguments a) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int lane = threadIdx.x;
  double* scores = DynamicShared<double>();
  double* choice = scores + a.count;
  FindScores(a, a.logits + static_cast<int64_t>(blockIdx.x) * a.count, scores);
  for (int e = lane; e < a.count; e += 32) {
    const double value = scores[e] + (a.choice_bias == nullptr ? 0.0 : a.choice_bias[e]);
    choice[e] = value == value ? value : -INFINITY;  // NaN has no place in an order
  }
  __syncwarp();
  if (a.groups_per_token < a.groups) KeepBestGroups(a, choice, choice + a.count);
  int32_t* ids = a.ids + static_cast<int64_t>(blockIdx.x) * a.per_token;
  float* weights = a.weights + static_cast<int64_t>(blockIdx.x) * a.per_token;
  double sum = 0;
  for (int k = 0; k < a.per_token; ++k) {
    const Candidate best = BestOfWarp(choice, a.count);
    sum += scores[best.id];
    __syncwarp();
    if (lane == 0) {
      ids[k] = best.id;
      choice[best.id] = NAN;  // taken
    }
    __syncwarp();
  }
  const double scale = a.scale / (a.normalize ? sum + 1e-20 : 1);
  for (int k = lane; k < a.per_token; k += 32) {
    weights[k] = static_cast<float>(scores[ids[k]] * scale);
  }
}

// Calls visit(expert, slot) for the choices of token t that are here.
template <class Visit>
__device__ __forceinline__ void ForSlotsOf(const Choice& c, int64_t t, const Visit& visit) {
  int slot = 0;
  for (int k = 0; k < c.per_token && slot < c.slots; ++k) {
    const int expert = c.ids[t * c.per_token + k] - c.first_expert;
    if (expert >= 0 && expert < c.experts) visit(expert, slot++, k);
  }
}

// By the first warp: where each expert's visits begin, in `begins`, and the items.
__device__ __forceinline__ void CutIntoItems(const Choice& c, const int* counts, int* begins,
                                             const VisitLists& to) {
  const int lane = threadIdx.x, each = (c.experts + 31) / 32;
  const int first = lane * each, end = min(first + each, c.experts);
  int visits = 0, items = 0;
  for (int e = first; e < end; ++e) {
    visits += counts[e];
    items += (counts[e] + to.most - 1) / to.most;
  }
  int visits_before = 0, items_before = 0, items_in_all = 0;
  for (int other = 0; other < 32; ++other) {
    const int of_lane = __shfl_sync(kAllLanes, visits, other);
    const int items_of_lane = __shfl_sync(kAllLanes, items, other);
    if (other < lane) {
      visits_before += of_lane;
      items_before += items_of_lane;
    }
    items_in_all += items_of_lane;
  }
  for (int e = first; e < end; ++e) {
    begins[e] = visits_before;
    for (int done = 0; done < counts[e]; done += to.most) {
      to.list[items_before++] = {e, visits_before + done, min(counts[e] - done, to.most), 0};
    }
    visits_before += counts[e];
  }
  if (lane == 0) *to.count = items_in_all;
}

// One block. Visits of an expert are in any order: each has a column of its own in a product, so
// that the order changes no result.
__global__ void __launch_bounds__(kGroupThreads) GroupChoicesKernel(Choice c, VisitLists to) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  int* counts = DynamicShared<int>();
  int* begins = counts + c.experts;
  for (int e = threadIdx.x; e < c.experts; e += kGroupThreads) counts[e] = 0;
  __syncthreads();
  for (int64_t t = threadIdx.x; t < c.tokens; t += kGroupThreads) {
    ForSlotsOf(c, t, [&](int expert, int, int) { atomicAdd(counts + expert, 1); });
  }
  __syncthreads();
  if (threadIdx.x < 32) CutIntoItems(c, counts, begins, to);
  __syncthreads();
  for (int64_t t = threadIdx.x; t < c.tokens; t += kGroupThreads) {
    ForSlotsOf(c, t, [&](int expert, int slot, int) {
      to.visits[atomicAdd(begins + expert, 1)] = static_cast<int32_t>(t * c.slots + slot);
    });
  }
}

// Block: part of a token's slots.
__global__ void __launch_bounds__(kThreads)
    ActivateSlotsKernel(Gate kind, float* gate, const float* up, int64_t columns, Choice c) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t t = blockIdx.x, i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i >= columns) return;
  ForSlotsOf(c, t, [&](int, int slot, int) {
    const int64_t at = (t * c.slots + slot) * columns + i;
    gate[at] = Gated(kind, gate[at], up[at]);
  });
}

__global__ void __launch_bounds__(kThreads)
    SumSlotsKernel(const float* y, int64_t columns, Choice c, float* out) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t t = blockIdx.x, i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i >= columns) return;
  float sum = out[t * columns + i];
  ForSlotsOf(c, t, [&](int, int slot, int k) {
    sum += c.weights[t * c.per_token + k] * y[(t * c.slots + slot) * columns + i];
  });
  out[t * columns + i] = sum;
}

__global__ void __launch_bounds__(kThreads)
    SigmoidScaleKernel(float* x, const float* gate, int64_t columns) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t t = blockIdx.x, i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i < columns) x[t * columns + i] *= 1.0f / (1.0f + expf(-gate[t]));
}

Grid GridOf(int64_t tokens, int64_t columns) {
  return {dim3(static_cast<unsigned>(tokens),
               static_cast<unsigned>((columns + kThreads - 1) / kThreads)),
          dim3(kThreads)};
}

}  // namespace

cudaError_t RouteExperts(const Stream& stream, const RouterArguments& arguments, int64_t tokens) {
  const size_t doubles = 2 * static_cast<size_t>(arguments.count) + arguments.groups;
  const Grid grid = {dim3(static_cast<unsigned>(tokens)), dim3(32), doubles * sizeof(double)};
  return Launch(stream, grid, &RouteKernel, arguments);
}

cudaError_t GroupChoices(const Stream& stream, const Choice& choice, const VisitLists& to) {
  const Grid grid = {dim3(1), dim3(kGroupThreads), 2 * sizeof(int) * choice.experts};
  return Launch(stream, grid, &GroupChoicesKernel, choice, to);
}

cudaError_t ActivateSlots(const Stream& stream, Gate kind, float* gate, const float* up,
                          int64_t columns, const Choice& choice) {
  return Launch(stream, GridOf(choice.tokens, columns), &ActivateSlotsKernel, kind, gate, up,
                columns, choice);
}

cudaError_t SumSlots(const Stream& stream, const float* y, int64_t columns, const Choice& choice,
                     float* out) {
  return Launch(stream, GridOf(choice.tokens, columns), &SumSlotsKernel, y, columns, choice, out);
}

cudaError_t SigmoidScale(const Stream& stream, float* x, const float* gate, int64_t tokens,
                         int64_t columns) {
  return Launch(stream, GridOf(tokens, columns), &SigmoidScaleKernel, x, gate, columns);
}

}  // namespace tprun::cuda
