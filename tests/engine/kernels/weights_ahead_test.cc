#include "engine/kernels/weights_ahead.h"

#include <cstdint>
#include <vector>

#include "engine/format/weight_format.h"
#include "gtest/gtest.h"

namespace tprun::cpu {
namespace {

constexpr int64_t kColumns = 64;
constexpr int64_t kTileBytes = 16 * kColumns * 4;

using Starts = std::vector<const char*>;

// A product with matrices of so many rows, one behind the other at `data`.
std::vector<Projection> Product(const std::vector<char>& data, const std::vector<int64_t>& rows) {
  std::vector<Projection> result;
  const char* at = data.data();
  for (int64_t count : rows) {
    result.push_back({{at, &kF32Format, count, kColumns}, nullptr, nullptr, count});
    at += (count + 15) / 16 * kTileBytes;
  }
  return result;
}

TEST(WeightsAhead, KnowsTheNextProductFromTheStepsBefore) {
  ThreadPool pool(3);
  WeightsAhead ahead(&pool);
  const std::vector<char> a(9 * kTileBytes), b(5 * kTileBytes), c(kTileBytes);
  const auto product_a = Product(a, {32, 20, 80});  // 2 + 2 + 5 tiles
  const auto product_b = Product(b, {70});          // 5 tiles, of which worker 2 has one
  const auto product_c = Product(c, {4});           // one, for the caller
  for (int step = 0; step < 4; ++step) {
    const bool known = step >= 2;
    EXPECT_EQ(
        ahead.Begin(product_a),
        known ? Starts({nullptr, b.data() + 2 * kTileBytes, b.data() + 4 * kTileBytes}) : Starts());
    EXPECT_EQ(ahead.Begin(product_b), known ? Starts(3, nullptr) : Starts());
    EXPECT_EQ(
        ahead.Begin(product_c),
        known ? Starts({nullptr, a.data() + 3 * kTileBytes, a.data() + 6 * kTileBytes}) : Starts());
  }
}

TEST(WeightsAhead, ExpectsNothingWhereTheOrderChanges) {
  ThreadPool pool(2);
  WeightsAhead ahead(&pool);
  const std::vector<char> router(2 * kTileBytes), one(2 * kTileBytes), other(2 * kTileBytes);
  for (int step = 0; step < 6; ++step) {
    EXPECT_EQ(ahead.Begin(Product(router, {32})), Starts()) << step;
    ahead.Begin(Product(step % 2 == 0 ? one : other, {32}));
  }
}

}  // namespace
}  // namespace tprun::cpu
