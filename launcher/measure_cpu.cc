#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/format/weight_format.h"
#include "engine/kernels/kernels.h"
#include "launcher/measure.h"

namespace tprun {
namespace {

constexpr int64_t kTokens = 256, kRows = 2048, kColumns = 2048;
constexpr double kBudget = 0.2;  // seconds per format

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> RandomValues(int64_t count) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> values(-1, 1);
  std::vector<float> result(count);
  for (float& value : result) value = values(random);
  return result;
}

// Best of the repeats that the budget allows, at least two; 0 if the product fails.
double MatmulRate(Kernels& kernels, const WeightFormat& format, const std::vector<float>& x,
                  const std::vector<float>& weights) {
  std::vector<char> encoded(format.Bytes(kRows * kColumns));
  format.quantize(weights.data(), encoded.data(), kRows * kColumns);
  if (!kernels.ArrangeWeights(format, encoded.data(), kRows, kColumns).ok()) return 0;
  const WeightMatrix matrix = {encoded.data(), &format, kRows, kColumns};
  std::vector<float> out(kTokens * kRows);
  double best = 0;
  const double until = Now() + kBudget;
  for (int i = 0; i < 2 || Now() < until; ++i) {
    const double begin = Now();
    if (!kernels.MatMul(x.data(), matrix, nullptr, kTokens, out.data(), kRows).ok()) return 0;
    best = std::max(best, 2.0 * kTokens * kRows * kColumns / std::max(Now() - begin, 1e-9));
  }
  return best;
}

}  // namespace

std::map<std::string, double> MeasureCpuMatmul(int threads) {
  ThreadPool pool(std::clamp(threads, 1, 1024));
  const std::unique_ptr<Kernels> kernels = MakeCpuKernels(&pool, Activations::kInt16);
  const std::vector<float> x = RandomValues(kTokens * kColumns);
  const std::vector<float> weights = RandomValues(kRows * kColumns);
  std::map<std::string, double> rates;
  for (const WeightFormat* format : {&kF32Format, &kBF16Format, &kQ8_0Format, &kQ4_0Format}) {
    const double rate = MatmulRate(*kernels, *format, x, weights);
    if (rate > 0) rates[std::string(format->name)] = rate;
  }
  return rates;
}

void MeasureCpu(DeviceInfo& cpu) {
  cpu.measured.memory_bandwidth_bytes_per_s = MeasureMemoryBandwidth(cpu.threads);
  cpu.measured.matmul_ops_per_s = MeasureCpuMatmul(cpu.threads);
}

}  // namespace tprun
