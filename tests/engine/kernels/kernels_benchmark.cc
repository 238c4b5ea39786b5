// Speed of the CPU kernels against the machine's read bandwidth and peaks, on matrices that do not
// stay in the cache. Threads: TPRUN_BENCHMARK_THREADS, else 2.
//
//   kernels_benchmark --benchmark_filter='MatMul/q8_0' --benchmark_repetitions=5

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/thread_pool.h"
#include "comm/device.h"
#include "engine/kernels/cpu_peaks.h"
#include "engine/kernels/kernels.h"
#include "topology/topology.h"

namespace tprun {
namespace {

int Threads() {
  const char* text = std::getenv("TPRUN_BENCHMARK_THREADS");
  return text == nullptr ? 2 : std::atoi(text);
}

// More than any cache here: every product takes the next of many copies.
constexpr int64_t kWeightBytes = int64_t{1} << 30;

std::vector<float> Random(int64_t count) {
  std::mt19937 random(1);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() % 2001) / 1000 - 1;
  return values;
}

// Memory as the engine has it: on huge pages where the system grants them.
std::unique_ptr<Buffer> Allocate(int64_t bytes) {
  auto buffer = MakeCpuDevice()->Allocate(bytes);
  if (!buffer.ok()) std::abort();
  return *std::move(buffer);
}

// The ceilings of the others.
void ReadBandwidth(benchmark::State& state) {
  double rate = 0;
  for (auto _ : state) rate = MeasureMemoryBandwidth(Threads());
  state.counters["bytes/s"] = rate;
}

void Peaks(benchmark::State& state) {
  ThreadPool pool(Threads());
  cpu::CpuPeaks peaks;
  for (auto _ : state) peaks = cpu::MeasureCpuPeaks(pool);
  state.counters["f32"] = peaks.f32;
  state.counters["bf16"] = peaks.bf16;
  state.counters["int8"] = peaks.int8;
}

void MatMul(benchmark::State& state, const WeightFormat* format, Activations activations,
            int64_t rows, int64_t columns, int64_t tokens) {
  const int64_t bytes = format->Bytes(rows * columns);
  const int64_t copies = kWeightBytes / bytes;
  const std::unique_ptr<Buffer> buffer = Allocate(copies * bytes);
  auto* const weights = static_cast<uint8_t*>(buffer->data());
  const std::vector<float> one = Random(rows * columns);
  format->quantize(one.data(), weights, rows * columns);
  ThreadPool pool(Threads());
  const auto kernels = MakeCpuKernels(&pool, activations);
  if (!kernels->ArrangeWeights(*format, weights, rows, columns).ok()) std::abort();
  for (int64_t i = 1; i < copies; ++i) {
    std::copy_n(weights, bytes, weights + i * bytes);
  }
  const std::vector<float> x = Random(tokens * columns);
  std::vector<float> out(tokens * rows);
  int64_t copy = 0;
  for (auto _ : state) {
    const WeightMatrix w{weights + copy * bytes, format, rows, columns};
    copy = (copy + 1) % copies;
    if (!kernels->MatMul(x.data(), w, nullptr, tokens, out.data(), rows).ok()) std::abort();
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * bytes);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * rows * columns * tokens * state.iterations(),
                                                benchmark::Counter::kIsRate);
}

// One layer of TinyLlama 1.1B: 32 heads, 4 KV heads of 64.
void Attention(benchmark::State& state, const WeightFormat* format, int64_t depth, int64_t tokens) {
  const int heads = 32, kv_heads = 4, dim = 64;
  const int64_t bytes = kv_heads * depth * format->Bytes(dim);
  const int64_t copies = 64;  // as from layer to layer: not in L2
  std::vector<uint8_t> keys(copies * bytes), values(copies * bytes);
  const std::vector<float> q = Random(tokens * heads * dim);
  std::vector<float> out(q.size());
  ThreadPool pool(Threads());
  const auto kernels = MakeCpuKernels(&pool);
  const TokenRun run = {0, depth - tokens, tokens};
  const TokenBatch batch = {.tokens = tokens, .runs = {&run, 1}};
  int64_t copy = 0;
  for (auto _ : state) {
    const KvCacheView cache{
        &keys[copy * bytes], &values[copy * bytes], format, depth, kv_heads, dim};
    copy = (copy + 1) % copies;
    const AttentionShape shape{heads, 0, 0, heads / kv_heads, 0.125f};
    if (!kernels->Attention(q.data(), heads * dim, batch, cache, shape, out.data()).ok()) {
      std::abort();
    }
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * 2 * bytes);
  state.counters["FLOP/s"] =
      benchmark::Counter(4.0 * heads * dim * tokens * (depth - tokens / 2.0) * state.iterations(),
                         benchmark::Counter::kIsRate);
}

void Register() {
  benchmark::RegisterBenchmark("ReadBandwidth", ReadBandwidth)->Iterations(1);
  benchmark::RegisterBenchmark("Peaks", Peaks)->Iterations(1);
  for (const WeightFormat* format : AllWeightFormats()) {
    if (format->quantize == nullptr) continue;  // nothing to make matrices with
    for (int64_t rows : {5632, 2048}) {
      for (int64_t tokens : {1, 8, 512}) {
        for (const Activations activations :
             {Activations::kF32, Activations::kInt16, Activations::kInt8}) {
          const bool exact = activations == Activations::kF32;
          const char* suffix = exact ? "" : activations == Activations::kInt8 ? "_int8" : "_int16";
          benchmark::RegisterBenchmark(
              absl::StrCat("MatMul/", format->name, suffix, "/", rows, "x2048/tokens:", tokens)
                  .c_str(),
              MatMul, format, activations, rows, 2048, tokens)
              ->UseRealTime();
        }
      }
    }
  }
  for (const WeightFormat* format :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    for (int64_t depth : {2048, 8192}) {
      for (int64_t tokens : {1, 512}) {
        const std::string name =
            absl::StrCat("Attention/", format->name, "/depth:", depth, "/tokens:", tokens);
        benchmark::RegisterBenchmark(name.c_str(), Attention, format, depth, tokens)->UseRealTime();
      }
    }
  }
}

}  // namespace
}  // namespace tprun

int main(int argc, char** argv) {
  tprun::Register();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
