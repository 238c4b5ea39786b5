#include "engine/kernels/cuda/best.cuh"
#include "engine/kernels/cuda/intrinsics.cuh"
#include "engine/kernels/cuda/ops.h"
#include "engine/kernels/sampling.h"

// Draws tokens as engine/kernels/sampling.cc does, without sorting: what is looked for is always
// the token at which a sum over the order (of tokens or of weights) comes to a target. Tokens are
// counted into bins of the order, the bin of the target into finer ones, until it has few tokens,
// which are compared with each other.

namespace tprun::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kBinBits = 10;
constexpr int kBins = 1 << kBinBits;
constexpr int kMostListed = 1024;
constexpr int kKeyBits = 32 + kSampleIdBits;
constexpr uint64_t kNoKey = ~uint64_t{0};
using Sum = unsigned long long;  // that there are atomics for

struct SampleMemory {
  Best of_warp[kThreads / 32];
  Sum weights[kBins];
  unsigned counts[kBins];
  uint64_t listed[kMostListed];
  unsigned listed_count;
  Sum group_weights[32];
  unsigned group_counts[32];
  int bin;
  Sum weight_before, weight;  // of the bin; at the end of the token
  Sum count_before;
  uint64_t key;
};

// A row's tokens.
struct TokenRow {
  const float* logits;
  int64_t vocab;
  float best, scale;
  // kNoKey where there is no weight.
  __device__ __forceinline__ uint64_t Key(int64_t id) const {
    const float logit = logits[id];
    if (!IsFinite(logit)) return kNoKey;
    const uint32_t distance = DistanceOf(best, logit, scale);
    return distance == kTooFar ? kNoKey : SampleKey(distance, id);
  }
};

// Penalties, in place, and the best of the row, on all threads.
__device__ Best PenaliseAndFindBest(float* logits, int64_t vocab, const SampleRequest& request,
                                    const uint32_t* seen, SampleMemory& memory) {
  Best best = {0, -1};
  for (int64_t id = threadIdx.x; id < vocab; id += kThreads) {
    float logit = logits[id];
    if (!IsFinite(logit)) continue;
    if (request.penalty != 1 && (seen[id / 32] >> (id % 32) & 1) != 0) {
      logits[id] = logit = Penalised(logit, request.penalty);
      if (!IsFinite(logit)) continue;
    }
    if (best.id < 0 || logit > best.logit) best = {logit, static_cast<int32_t>(id)};
  }
  best = BestOfWarp(best);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (lane == 0) memory.of_warp[warp] = best;
  __syncthreads();
  return BestOfWarp(memory.of_warp[lane]);
}

// Of tokens with keys in [low, low + width), into bins of 2^shift keys.
__device__ void CountIntoBins(const TokenRow& tokens, uint64_t low, uint64_t width, int shift,
                              SampleMemory& memory) {
  for (int i = threadIdx.x; i < kBins; i += kThreads) memory.weights[i] = memory.counts[i] = 0;
  __syncthreads();
  for (int64_t id = threadIdx.x; id < tokens.vocab; id += kThreads) {
    const uint64_t key = tokens.Key(id);
    if (key == kNoKey || key - low >= width) continue;
    const int bin = static_cast<int>((key - low) >> shift);
    atomicAdd(&memory.weights[bin], static_cast<Sum>(WeightOf(DistanceOfKey(key))));
    atomicAdd(&memory.counts[bin], 1u);
  }
  __syncthreads();
}

// The bin in which the sum passes `target`: memory.bin, or -1, and what lies before it added to
// weight_before and count_before.
__device__ void FindBin(uint64_t target, bool by_weight, SampleMemory& memory) {
  if (threadIdx.x < 32) {
    Sum weight = 0;
    unsigned count = 0;
    for (int i = 0; i < kBins / 32; ++i) {
      weight += memory.weights[threadIdx.x * (kBins / 32) + i];
      count += memory.counts[threadIdx.x * (kBins / 32) + i];
    }
    memory.group_weights[threadIdx.x] = weight;
    memory.group_counts[threadIdx.x] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    Sum weight = memory.weight_before, count = memory.count_before;
    const auto passes = [&](Sum more_weight, unsigned more_count) {
      const Sum sum = by_weight ? weight + more_weight : count + more_count;
      if (sum > target) return true;
      weight += more_weight;
      count += more_count;
      return false;
    };
    int group = 0;
    while (group < 32 && !passes(memory.group_weights[group], memory.group_counts[group])) ++group;
    int bin = group * (kBins / 32);
    if (group < 32) {
      while (!passes(memory.weights[bin], memory.counts[bin])) ++bin;
    }
    memory.bin = group < 32 ? bin : -1;
    memory.weight_before = weight;
    memory.count_before = count;
  }
  __syncthreads();
}

// Among the tokens of [low, low + width), at most kMostListed: memory.key and memory.weight, the
// weight up to it and with it.
__device__ void FindAmongFew(const TokenRow& tokens, uint64_t low, uint64_t width, uint64_t target,
                             bool by_weight, SampleMemory& memory) {
  if (threadIdx.x == 0) memory.listed_count = 0;
  __syncthreads();
  for (int64_t id = threadIdx.x; id < tokens.vocab; id += kThreads) {
    const uint64_t key = tokens.Key(id);
    if (key == kNoKey || key - low >= width) continue;
    memory.listed[atomicAdd(&memory.listed_count, 1u)] = key;
  }
  __syncthreads();
  const unsigned count = memory.listed_count;
  if (threadIdx.x < count) {
    const uint64_t key = memory.listed[threadIdx.x];
    Sum weight = memory.weight_before, before = memory.count_before;
    for (unsigned i = 0; i < count; ++i) {
      const uint64_t other = memory.listed[i];
      if (other >= key) continue;
      weight += WeightOf(DistanceOfKey(other));
      ++before;
    }
    const Sum own = WeightOf(DistanceOfKey(key));
    const Sum begin = by_weight ? weight : before, end = begin + (by_weight ? own : 1);
    if (begin <= target && target < end) {
      memory.key = key;
      memory.weight = weight + own;
    }
  }
  __syncthreads();
}

// The first token up to which the sum of weights, or of tokens, passes `target`: its key in
// memory.key, the weight up to it and with it as the result. Of a target beyond the last token all
// weight, and no key.
__device__ uint64_t FindToken(const TokenRow& tokens, uint64_t target, bool by_weight,
                              SampleMemory& memory) {
  __syncthreads();
  if (threadIdx.x == 0) {
    memory.weight_before = memory.count_before = 0;
    memory.key = kNoKey;
  }
  uint64_t low = 0;
  int shift = kKeyBits - kBinBits;
  uint64_t width = uint64_t{1} << kKeyBits;
  while (true) {
    CountIntoBins(tokens, low, width, shift, memory);
    FindBin(target, by_weight, memory);
    if (memory.bin < 0) return memory.weight_before;
    low += static_cast<uint64_t>(memory.bin) << shift;
    width = uint64_t{1} << shift;
    if (memory.counts[memory.bin] <= kMostListed) break;
    __syncthreads();
    shift = shift > kBinBits ? shift - kBinBits : 0;
  }
  FindAmongFew(tokens, low, width, target, by_weight, memory);
  return memory.weight;
}

// The weight of the tokens that are at most `reach` from the best.
__device__ uint64_t WeightWithin(const TokenRow& tokens, uint32_t reach, SampleMemory& memory) {
  __syncthreads();
  if (threadIdx.x == 0) memory.weight = 0;
  __syncthreads();
  Sum sum = 0;
  for (int64_t id = threadIdx.x; id < tokens.vocab; id += kThreads) {
    const uint64_t key = tokens.Key(id);
    if (key != kNoKey && DistanceOfKey(key) <= reach) sum += WeightOf(DistanceOfKey(key));
  }
  if (sum > 0) atomicAdd(&memory.weight, sum);
  __syncthreads();
  return memory.weight;
}

// A block to a row.
__global__ void __launch_bounds__(kThreads)
    SampleKernel(float* all_logits, const SampleRequest* requests, int64_t vocab,
                 const uint32_t* seen, Best* chosen) {
  __shared__ SampleMemory memory;
  LetNextKernelStart();
  WaitForPreviousKernel();
  const SampleRequest request = requests[blockIdx.x];
  float* logits = all_logits + blockIdx.x * vocab;
  Best best = PenaliseAndFindBest(logits, vocab, request,
                                  seen + request.sequence * SeenWords(vocab), memory);
  if (best.id >= 0 && request.scale != 0) {
    const TokenRow tokens = {logits, vocab, best.logit, request.scale};
    // What each filter keeps is the first part of the order, so the least weight is what all keep.
    const uint64_t most = request.top_k > 0 ? request.top_k - 1 : kNoKey;
    uint64_t kept = FindToken(tokens, most, false, memory);
    const uint64_t wanted = PartOf(kept, request.top_p);
    if (wanted < kept) kept = FindToken(tokens, wanted - 1, true, memory);
    if (request.reach != kTooFar) {
      const uint64_t within = WeightWithin(tokens, request.reach, memory);
      if (within < kept) kept = within;
    }
    FindToken(tokens, Below(request.random, kept), true, memory);
    best.id = IdOfKey(memory.key);
  }
  if (threadIdx.x == 0) chosen[blockIdx.x] = best;
}

__global__ void MarkSeenKernel(const int32_t* ids, const int32_t* sequences, int64_t tokens,
                               int64_t words, uint32_t* seen) {
  LetNextKernelStart();
  WaitForPreviousKernel();
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t < tokens) atomicOr(&seen[sequences[t] * words + ids[t] / 32], 1u << (ids[t] % 32));
}

}  // namespace

cudaError_t Sample(const Stream& stream, float* logits, const SampleRequest* requests, int64_t rows,
                   int64_t vocab, const uint32_t* seen, Best* chosen) {
  const Grid grid = {dim3(static_cast<unsigned>(rows)), dim3(kThreads)};
  return Launch(stream, grid, &SampleKernel, logits, requests, vocab, seen, chosen);
}

cudaError_t MarkSeen(const Stream& stream, const int32_t* ids, const int32_t* sequences,
                     int64_t tokens, int64_t vocab, uint32_t* seen) {
  const Grid grid = {dim3(static_cast<unsigned>((tokens + 255) / 256)), dim3(256)};
  return Launch(stream, grid, &MarkSeenKernel, ids, sequences, tokens, SeenWords(vocab), seen);
}

}  // namespace tprun::cuda
