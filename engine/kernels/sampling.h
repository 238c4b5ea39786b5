#pragma once

#include <cstdint>

// How a token is drawn from logits: in integers alone after the first rounding, so that every back
// end draws the same token whatever the order of its sums. Plain arithmetic, the same on the host
// and in kernels.
//
// A logit counts by its distance below the best, in units of 2^-26 of a halving of probability;
// tokens are ordered by distance, the lower id among equals. Its weight is 2^44 for the best and
// 2^44 * 2^(-distance / 2^26), rounded down, for another; what would be below one is never drawn.

namespace tprun {

// How one token is drawn. Made by MakeSampleRequest; plain bytes, which go to the device.
struct SampleRequest {
  float scale = 0;       // log2(e) / temperature; 0: the largest logit, the lowest id among equals
  float penalty = 1;     // divides positive and multiplies negative logits of tokens seen
  float top_p = 1;       // keep the first tokens up to this part of all weight
  int32_t top_k = 0;     // keep so many; 0: all
  uint32_t reach = ~0u;  // keep those at most so far from the best
  int32_t sequence = 0;  // whose tokens have been seen
  uint64_t random = 0;   // what decides among those that are kept
};

inline constexpr int kDistanceBits = 26;
inline constexpr int kWeightBits = 44;
inline constexpr uint32_t kTooFar = ~0u;
inline constexpr int kSampleIdBits = 24;  // ids are below 2^24

// kTooFar for a logit without weight. Both are finite, logit <= best.
constexpr uint32_t DistanceOf(float best, float logit, float scale) {
  const float halvings = (best - logit) * scale;
  if (!(halvings < static_cast<float>(kWeightBits))) return kTooFar;
  return static_cast<uint32_t>(halvings * static_cast<float>(1 << kDistanceBits));
}

// 2^-x in units of 2^-32 for x in units of 2^-32 below one: the series of exp(-x ln 2), whose terms
// have the factors ln(2)^k / k! (here times 2^32); what follows the tenth, and the roundings, are
// below 1e-8.
constexpr uint64_t HalvedBy(uint64_t x) {
  uint64_t sum = 30;
  sum = 437 - (sum * x >> 32);
  sum = 5676 - (sum * x >> 32);
  sum = 65509 - (sum * x >> 32);
  sum = 661576 - (sum * x >> 32);
  sum = 5726719 - (sum * x >> 32);
  sum = 41309549 - (sum * x >> 32);
  sum = 238388331 - (sum * x >> 32);
  sum = 1031764991 - (sum * x >> 32);
  sum = 2977044471 - (sum * x >> 32);
  return (uint64_t{1} << 32) - (sum * x >> 32);
}

constexpr uint64_t WeightOf(uint32_t distance) {
  const uint64_t part = uint64_t{distance & ((1u << kDistanceBits) - 1)} << (32 - kDistanceBits);
  return HalvedBy(part) << (kWeightBits - 32) >> (distance >> kDistanceBits);
}

constexpr float Penalised(float logit, float penalty) {
  return logit > 0 ? logit / penalty : logit * penalty;
}

// The place of a token in the order.
constexpr uint64_t SampleKey(uint32_t distance, int64_t id) {
  return uint64_t{distance} << kSampleIdBits | static_cast<uint64_t>(id);
}
constexpr uint32_t DistanceOfKey(uint64_t key) {
  return static_cast<uint32_t>(key >> kSampleIdBits);
}
constexpr int32_t IdOfKey(uint64_t key) {
  return static_cast<int32_t>(key & ((1u << kSampleIdBits) - 1));
}

// Of `weight`, what top_p asks for; at least one.
constexpr uint64_t PartOf(uint64_t weight, float top_p) {
  if (top_p >= 1) return weight;
  const auto part = static_cast<uint64_t>(static_cast<double>(top_p) * static_cast<double>(weight));
  return part < 1 ? 1 : part < weight ? part : weight;
}

// A number below `limit` (above 0), as random as `random`: the upper half of their product.
constexpr uint64_t Below(uint64_t random, uint64_t limit) {
  const uint64_t a = random >> 32, b = random & ~0u, c = limit >> 32, d = limit & ~0u;
  const uint64_t middle = a * d + (b * d >> 32);
  const uint64_t other = b * c + (middle & ~0u);
  return a * c + (middle >> 32) + (other >> 32);
}

// Words of 32 bits, one bit for each id that has been seen.
constexpr int64_t SeenWords(int64_t vocab) { return (vocab + 31) / 32; }

}  // namespace tprun
