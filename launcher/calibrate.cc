#include "launcher/calibrate.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/cuda_module.h"
#include "comm/device.h"
#include "engine/format/weight_format.h"
#include "launcher/measure.h"

namespace tprun {
namespace {

constexpr int64_t kColumns = 4096;
constexpr int64_t kPrefillTokens = 256;
constexpr int64_t kPrefillRows = 1024;
// Of the weights at decode: larger than the caches of what the figures are for.
constexpr int64_t kCpuWeightBytes = 64 * kMiB;
constexpr int64_t kGpuWeightBytes = 512 * kMiB;
constexpr double kBudget = 0.1;  // seconds for each figure
constexpr int kKvHeads = 8;
constexpr int kQueryHeads = 32;
constexpr int kHeadDim = 128;
constexpr double kLeastEfficiency = 0.001;

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

// Times ops on one device. All memory is the device's.
class Bench {
 public:
  Bench(Device& device, Kernels& kernels) : device_(device), kernels_(kernels) {}

  // The median (or the least) of the repeats that the budget allows, after one to warm up; of what
  // takes longer than all of it one run is enough.
  template <typename Op>
  absl::StatusOr<double> Seconds(const Op& op, bool least = false) {
    std::vector<double> times;
    const double until = Now() + kBudget;
    while (times.size() < 2 || (Now() < until && times.size() < 1000)) {
      const double begin = Now();
      RETURN_IF_ERROR(op());
      RETURN_IF_ERROR(device_.Synchronize());
      times.push_back(std::max(Now() - begin, 1e-9));
      if (times[0] > kBudget) return times[0];
    }
    std::sort(times.begin() + 1, times.end());
    return times[least ? 1 : 1 + (times.size() - 1) / 2];
  }

  absl::StatusOr<std::unique_ptr<Buffer>> Upload(const void* data, int64_t bytes) {
    ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer, device_.Allocate(bytes));
    RETURN_IF_ERROR(device_.CopyFromHost(buffer->data(), data, bytes));
    return buffer;
  }

  // A matrix of `rows` rows whose values repeat: what they are does not change how long it takes.
  absl::StatusOr<std::unique_ptr<Buffer>> Matrix(const WeightFormat& format, int64_t rows,
                                                 int64_t columns) {
    constexpr int64_t kDistinctRows = 16;
    const std::vector<float> values = RandomValues(kDistinctRows * columns);
    const int64_t part = format.Bytes(kDistinctRows * columns);
    std::vector<char> data(format.Bytes(rows * columns));
    format.quantize(values.data(), data.data(), kDistinctRows * columns);
    for (int64_t done = part; done < static_cast<int64_t>(data.size()); done += part) {
      std::copy_n(data.data(), std::min<int64_t>(part, data.size() - done), data.data() + done);
    }
    ASSIGN_OR_RETURN(std::unique_ptr<Buffer> buffer,
                     Upload(data.data(), static_cast<int64_t>(data.size())));
    RETURN_IF_ERROR(kernels_.ArrangeWeights(format, buffer->data(), rows, columns));
    return buffer;
  }

  absl::StatusOr<double> MatMul(const WeightFormat& format, int64_t rows, int64_t tokens) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> weights, Matrix(format, rows, kColumns));
    const std::vector<float> values = RandomValues(tokens * kColumns);
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> x,
                     Upload(values.data(), tokens * kColumns * sizeof(float)));
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> out,
                     device_.Allocate(tokens * rows * sizeof(float)));
    const WeightMatrix matrix = {weights->data(), &format, rows, kColumns};
    return Seconds([&] {
      return kernels_.MatMul(static_cast<const float*>(x->data()), matrix, nullptr, tokens,
                             static_cast<float*>(out->data()), rows);
    });
  }

  // `tokens` queries after `depth` positions in a cache of `type`.
  absl::StatusOr<double> Attention(const WeightFormat& type, int64_t depth, int64_t tokens) {
    const int64_t positions = depth + tokens;
    const int64_t half = kKvHeads * positions * type.Bytes(kHeadDim);
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> cache, device_.Allocate(2 * half));
    const std::vector<char> zeros(2 * half, 0);
    RETURN_IF_ERROR(device_.CopyFromHost(cache->data(), zeros.data(), 2 * half));
    const int64_t width = int64_t{kQueryHeads} * kHeadDim;
    const std::vector<float> values = RandomValues(tokens * width);
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> q,
                     Upload(values.data(), tokens * width * sizeof(float)));
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> out,
                     device_.Allocate(tokens * width * sizeof(float)));
    std::vector<int32_t> inputs(2 * tokens, 0);  // sequences, then positions
    for (int64_t i = 0; i < tokens; ++i) inputs[tokens + i] = static_cast<int32_t>(depth + i);
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> where,
                     Upload(inputs.data(), 2 * tokens * sizeof(int32_t)));
    const TokenRun run = {0, depth, tokens};
    const auto* numbers = static_cast<const int32_t*>(where->data());
    const TokenBatch batch = {tokens, {&run, 1}, numbers, numbers + tokens};
    KvCacheView view;
    view.keys = cache->data();
    view.values = static_cast<char*>(cache->data()) + half;
    view.format = &type;
    view.capacity = positions;
    view.kv_heads = kKvHeads;
    view.head_dim = kHeadDim;
    view.sequence_stride = half;
    AttentionShape shape;
    shape.query_heads = kQueryHeads;
    shape.queries_per_kv_head = kQueryHeads / kKvHeads;
    shape.scale = 0.088f;
    return Seconds([&] {
      return kernels_.Attention(static_cast<const float*>(q->data()), width, batch, view, shape,
                                static_cast<float*>(out->data()));
    });
  }

  // Of a block that has next to nothing to compute: the ops of an MLP on one token with a few
  // matrix rows for each thread, many blocks in a row. What is left is starting and joining; the
  // least of it, as whoever else runs on the machine delays threads by much more.
  absl::StatusOr<double> BlockSeconds() {
    // Few where nothing is launched: the shorter, the likelier that nobody else came between.
    const int in_a_row = device_.host_accessible() ? 4 : 50;
    constexpr int64_t kFew = 64;
    constexpr int64_t kRows = 256;
    ASSIGN_OR_RETURN(const std::unique_ptr<Buffer> weights, Matrix(kF32Format, kRows, kFew));
    const std::vector<float> zeros(kRows, 0.0f);
    std::vector<std::unique_ptr<Buffer>> rows;
    for (int i = 0; i < 5; ++i) {
      ASSIGN_OR_RETURN(std::unique_ptr<Buffer> row, Upload(zeros.data(), kRows * sizeof(float)));
      rows.push_back(std::move(row));
    }
    const auto row = [&](int i) { return static_cast<float*>(rows[i]->data()); };
    const WeightMatrix matrix = {weights->data(), &kF32Format, kRows, kFew};
    const NormSpec norm;
    const auto block = [&]() -> absl::Status {
      RETURN_IF_ERROR(kernels_.AddRmsNorm(row(0), row(1), row(4), 1, kFew, norm, row(2)));
      RETURN_IF_ERROR(
          kernels_.GatedMatMul(row(2), matrix, matrix, Activation::kSilu, 1, row(3), row(1)));
      return kernels_.MatMul(row(3), matrix, nullptr, 1, row(1), kRows);
    };
    ASSIGN_OR_RETURN(const double seconds, Seconds(
                                               [&]() -> absl::Status {
                                                 for (int i = 0; i < in_a_row; ++i)
                                                   RETURN_IF_ERROR(block());
                                                 return absl::OkStatus();
                                               },
                                               /*least=*/true));
    return seconds / in_a_row;
  }

 private:
  Device& device_;
  Kernels& kernels_;
};

// The parts of a device's rates that two runs reached, as a calibration file may say them.
Efficiency Reached(const DeviceRates& rates, double bytes, double bytes_seconds, double ops,
                   double ops_seconds) {
  return {
      std::clamp(bytes / (bytes_seconds * rates.bandwidth_bytes_per_s), kLeastEfficiency,
                 kMostEfficiency.memory),
      std::clamp(ops / (ops_seconds * rates.ops_per_s), kLeastEfficiency, kMostEfficiency.compute)};
}

std::string Source() {
  return absl::StrCat("tprun bench --calibrate, ",
                      absl::FormatTime("%Y-%m-%d", absl::Now(), absl::UTCTimeZone()));
}

absl::StatusOr<EfficiencyRule> MatMulRule(Bench& bench, const WeightFormat& format,
                                          const DeviceRates& rates) {
  const int64_t wanted = rates.kind == DeviceKind::kCpu ? kCpuWeightBytes : kGpuWeightBytes;
  const int64_t rows = wanted / format.Bytes(kColumns) / 16 * 16;
  ASSIGN_OR_RETURN(const double decode, bench.MatMul(format, rows, 1));
  ASSIGN_OR_RETURN(const double prefill, bench.MatMul(format, kPrefillRows, kPrefillTokens));
  const auto bytes = static_cast<double>(format.Bytes(rows * kColumns));
  const double ops = 2.0 * kPrefillTokens * kPrefillRows * kColumns;
  return EfficiencyRule{rates.name, "matmul", std::string(format.name),
                        Reached(rates, bytes, decode, ops, prefill), Source()};
}

absl::StatusOr<EfficiencyRule> AttentionRule(Bench& bench, const WeightFormat& type,
                                             const DeviceRates& rates) {
  // At decode a cache of 64 MiB and more in f16, so that it comes from memory.
  const int64_t depth = rates.kind == DeviceKind::kCpu ? 16384 : 65536;
  constexpr int64_t kPrompt = 512;
  ASSIGN_OR_RETURN(const double decode, bench.Attention(type, depth, 1));
  ASSIGN_OR_RETURN(const double prefill, bench.Attention(type, 0, kPrompt));
  const double bytes = 2.0 * kKvHeads * static_cast<double>((depth + 1) * type.Bytes(kHeadDim));
  const double ops = 4.0 * kQueryHeads * kHeadDim * kPrompt * (kPrompt + 1) / 2;
  return EfficiencyRule{rates.name, "attention", std::string(type.name),
                        Reached(rates, bytes, decode, ops, prefill), Source()};
}

}  // namespace

absl::StatusOr<DeviceCalibration> CalibrateDevice(
    Device& device, Kernels& kernels, const DeviceRates& rates,
    const std::function<void(const std::string&)>& tell) {
  if (rates.bandwidth_bytes_per_s <= 0 || rates.ops_per_s <= 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(rates.name, ": its memory bandwidth is not known"));
  }
  Bench bench(device, kernels);
  DeviceCalibration result;
  for (const WeightFormat* format : AllWeightFormats()) {
    if (!format->decodable() || format->quantize == nullptr) continue;
    tell(absl::StrCat(device.name(), ": products with ", format->name));
    absl::StatusOr<EfficiencyRule> rule = MatMulRule(bench, *format, rates);
    if (absl::IsUnimplemented(rule.status())) continue;  // this back end has no kernel for it
    RETURN_IF_ERROR(rule.status());
    result.rules.push_back(*std::move(rule));
  }
  for (const WeightFormat* type :
       {&kF32Format, &kF16Format, &kBF16Format, &kE4M3Format, &kQ8_0Format}) {
    if (!kernels.CheckHasCacheOf(*type).ok()) continue;
    tell(absl::StrCat(device.name(), ": attention over ", type->name));
    ASSIGN_OR_RETURN(EfficiencyRule rule, AttentionRule(bench, *type, rates));
    result.rules.push_back(std::move(rule));
  }
  ASSIGN_OR_RETURN(result.block_seconds, bench.BlockSeconds());
  return result;
}

namespace {

absl::Status CalibrateCpu(DeviceInfo& cpu, const std::function<void(const std::string&)>& tell,
                          Coefficients& coefficients) {
  tell("memory of the CPU");
  cpu.measured.memory_bandwidth_bytes_per_s = MeasureMemoryBandwidth(cpu.threads);
  ThreadPool pool(std::clamp(cpu.threads, 1, 1024));
  const std::unique_ptr<Device> device = MakeCpuDevice();
  const std::unique_ptr<Kernels> kernels = MakeCpuKernels(&pool, Activations::kInt16);
  ASSIGN_OR_RETURN(DeviceCalibration measured,
                   CalibrateDevice(*device, *kernels, RatesOf(cpu), tell));
  coefficients.cpu_block_seconds = measured.block_seconds;
  for (EfficiencyRule& rule : measured.rules) coefficients.rules.push_back(std::move(rule));
  return absl::OkStatus();
}

absl::Status CalibrateGpu(const CudaModule& module, int index, DeviceInfo& gpu,
                          const std::function<void(const std::string&)>& tell,
                          Coefficients& coefficients) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, module.open_device(index));
  ASSIGN_OR_RETURN(const std::unique_ptr<Kernels> kernels, module.make_kernels(*device, false));
  ASSIGN_OR_RETURN(const int64_t free, device->FreeMemory());
  ASSIGN_OR_RETURN(gpu.measured.memory_bandwidth_bytes_per_s,
                   device->MeasureCopyBandwidth(std::min<int64_t>(int64_t{1} << 29, free / 4)));
  ASSIGN_OR_RETURN(DeviceCalibration measured,
                   CalibrateDevice(*device, *kernels, RatesOf(gpu), tell));
  coefficients.gpu_block_seconds = measured.block_seconds;
  for (EfficiencyRule& rule : measured.rules) coefficients.rules.push_back(std::move(rule));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Coefficients> CalibrateMachine(Topology& topology,
                                              const std::function<void(const std::string&)>& tell) {
  Coefficients coefficients = DefaultCoefficients();
  const absl::StatusOr<const CudaModule*> module = LoadCudaModule();
  int gpu = 0;
  for (DeviceInfo& device : topology.devices) {
    if (device.kind == DeviceKind::kCpu) {
      RETURN_IF_ERROR(CalibrateCpu(device, tell, coefficients));
    } else if (module.ok()) {
      const int index = gpu++;
      const absl::Status status = CalibrateGpu(**module, index, device, tell, coefficients);
      if (!status.ok()) tell(absl::StrCat(device.id, ": left out: ", status.message()));
    } else {
      tell(absl::StrCat(device.id, ": left out: ", module.status().message()));
    }
  }
  coefficients.source = Source();
  return coefficients;
}

}  // namespace tprun
