#include "partition/cost_model.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/dtype.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "partition/calibration.h"
#include "topology/gpu_catalogue.h"

namespace tprun {
namespace {

// Without a known peak. CPU: two fused multiply-adds per cycle and core at 2.5 GHz, 8 floats wide
// with AVX2, 16 with AVX-512. GPU: operations per byte of memory bandwidth in 16-bit tensor
// operations; 76 is an RTX 3090 (71 TFLOP/s at 936 GB/s, NVIDIA GA102 white paper), the least of
// the cards in clusters/gpus.yaml that have them at full rate.
constexpr double kCpuClock = 2.5e9;
constexpr double kGpuOpsPerByte = 76;

// Before Volta (7.0) there are no tensor cores: 32-bit operations, 26 per byte on a GTX 1080 Ti.
constexpr double kOldGpuOpsPerByte = 26;
constexpr double kFirstTensorCores = 7.0;

double EstimatedOps(const DeviceInfo& device) {
  if (device.kind == DeviceKind::kCpu) {
    const bool wide = std::any_of(device.isa.begin(), device.isa.end(),
                                  [](const std::string& isa) { return isa == "avx512f"; });
    return std::max(1, device.cores) * kCpuClock * (wide ? 64 : 32);
  }
  const double capability = std::atof(device.compute_capability.c_str());
  const bool old = capability > 0 && capability < kFirstTensorCores;
  return MemoryBandwidth(device) * (old ? kOldGpuOpsPerByte : kGpuOpsPerByte);
}

// CPU kernels multiply in f32, GPUs in their 16-bit types.
double PeakOps(const DeviceInfo& device) {
  double peak = 0;
  for (const auto& table : {device.peak_ops_per_s, device.measured.matmul_ops_per_s}) {
    for (const auto& [type, rate] : table) {
      const bool used =
          device.kind == DeviceKind::kCpu ? type == "f32" : (type == "bf16" || type == "f16");
      if (used) peak = std::max(peak, rate);
    }
  }
  return peak > 0 ? peak : EstimatedOps(device);
}

// "sm_86" is compute capability 8.6. Asked for very often: nothing is allocated.
bool IsArchitecture(absl::string_view pattern, absl::string_view capability) {
  if (!absl::ConsumePrefix(&pattern, "sm_") || capability.empty()) return false;
  size_t at = 0;
  for (char c : capability) {
    if (c == '.') continue;
    if (at >= pattern.size() || pattern[at++] != c) return false;
  }
  return at == pattern.size();
}

// How closely a rule's device pattern describes `device`: 0 for any, -1 for another.
int DeviceMatch(absl::string_view pattern, const DeviceRates& device) {
  if (pattern.empty()) return 0;
  if (pattern == (device.kind == DeviceKind::kCpu ? "cpu" : "gpu")) return 1;
  if (device.kind == DeviceKind::kGpu && IsArchitecture(pattern, device.compute_capability)) {
    return 2;
  }
  return pattern == device.name ? 3 : -1;
}

void AddMatrix(const WeightFormat* format, double bytes, double ops, BlockWork& work) {
  for (MatrixWork& matrix : work.matrices) {
    if (matrix.format != format) continue;
    matrix.bytes += bytes;
    matrix.ops += ops;
    return;
  }
  work.matrices.push_back({format, bytes, ops});
}

// The part of a tensor's bytes that a pass reads, and of its elements that a token multiplies with.
struct Use {
  double bytes = 1;
  double ops = 1;
};

Use UseOf(const ModelSpec& spec, const TensorSpec& tensor, const Pass& pass) {
  const bool looked_up = spec.blocks[tensor.block].kind == BlockKind::kEmbed;
  if (looked_up && tensor.shape.size() > 1) {
    return {std::min(1.0, static_cast<double>(pass.tokens) / static_cast<double>(tensor.shape[0])),
            0};
  }
  // A stack per step (Moshi's depth transformer) is not routed: every step has its own.
  if (tensor.experts == 0 || spec.blocks[tensor.block].kind != BlockKind::kMlp ||
      spec.layers[spec.blocks[tensor.block].layer].mlp.experts.count == 0) {
    return {};
  }
  const double count = tensor.experts;
  const int chosen = spec.layers[spec.blocks[tensor.block].layer].mlp.experts.per_token;
  const double distinct = ExpectedDistinctExperts(count, chosen, static_cast<double>(pass.tokens));
  return {distinct / count, chosen / count};
}

// Positions that a token attends to, on average over the tokens of one sequence in the pass.
double AttendedPositions(const AttentionSpec& attention, double depth, double tokens) {
  const double all = depth + (tokens + 1) / 2;
  return attention.window > 0 ? std::min(all, static_cast<double>(attention.window)) : all;
}

void AddAttention(const ModelSpec& spec, int block, const Placement& placement, int index,
                  const WeightFormat& kv_type, const Pass& pass, BlockWork& work) {
  if (placement.shares[index] == 0) return;
  const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
  const double query_heads = QueryHeads(spec, block, placement, index).size();
  const double kv_heads = KvHeads(spec, block, placement, index).size();
  const double per_position = kv_heads * attention.cache_per_kv_head() + attention.latent_cache();
  const double tokens = static_cast<double>(pass.tokens) / pass.sequences;
  const double depth = pass.depth;
  double positions = depth + tokens;  // a kernel reads the cache once for all tokens of a pass
  if (attention.window > 0) positions = std::min(positions, attention.window + tokens);
  work.kv_bytes += per_position * positions * pass.sequences *
                   static_cast<double>(kv_type.block_bytes) /
                   static_cast<double>(kv_type.block_elements);
  const double per_head = attention.is_latent()
                              ? attention.latent_cache() + attention.latent.kv_rank
                              : attention.head_dim + attention.values();
  work.attention_ops +=
      2 * query_heads * per_head * pass.tokens * AttendedPositions(attention, depth, tokens);
}

// Without the file every efficiency is 1, and the source says why.
Coefficients ReadDefaults() {
  const auto read = []() -> absl::StatusOr<Coefficients> {
    ASSIGN_OR_RETURN(const std::string folder, ClustersDirectory());
    ASSIGN_OR_RETURN(const Json json, ReadJsonFile(JoinPath(folder, "devices/efficiencies.json")));
    return CoefficientsFromJson(json);
  };
  absl::StatusOr<Coefficients> coefficients = read();
  if (coefficients.ok()) return *std::move(coefficients);
  Coefficients none;
  none.source = absl::StrCat("no defaults: ", absl::string_view(coefficients.status().message()));
  return none;
}

}  // namespace

Coefficients DefaultCoefficients() {
  static const Coefficients* const defaults = new Coefficients(ReadDefaults());
  return *defaults;
}

void UseBandwidths(const Coefficients& coefficients, Topology& topology) {
  for (DeviceInfo& device : topology.devices) {
    const auto measured = coefficients.bandwidth_bytes_per_s.find(device.name);
    double& bandwidth = device.measured.memory_bandwidth_bytes_per_s;
    if (bandwidth <= 0 && measured != coefficients.bandwidth_bytes_per_s.end()) {
      bandwidth = measured->second;
    }
  }
}

absl::string_view KernelFamilyName(KernelFamily family) {
  return family == KernelFamily::kMatMul ? "matmul" : "attention";
}

DeviceRates RatesOf(const DeviceInfo& device, int parts) {
  DeviceRates rates = {device.kind, device.name, device.compute_capability};
  rates.bandwidth_bytes_per_s = MemoryBandwidth(device) / parts;
  rates.ops_per_s = PeakOps(device) / parts;
  return rates;
}

Efficiency EfficiencyOf(const Coefficients& coefficients, const DeviceRates& device,
                        KernelFamily family, absl::string_view format) {
  Efficiency best = {1, 1};
  std::tuple<int, bool, bool> best_match = {-1, false, false};
  for (const EfficiencyRule& rule : coefficients.rules) {
    const int match = DeviceMatch(rule.device, device);
    const bool family_fits = rule.family.empty() || rule.family == KernelFamilyName(family);
    const bool format_fits = rule.format.empty() || rule.format == format;
    if (match < 0 || !family_fits || !format_fits) continue;
    const std::tuple<int, bool, bool> rank = {match, !rule.family.empty(), !rule.format.empty()};
    if (rank < best_match) continue;
    best_match = rank;
    best = rule.efficiency;
  }
  return best;
}

Coefficients CoefficientsFor(const Coefficients& coefficients, const DeviceRates& device) {
  Coefficients result = coefficients;
  const auto others = [&](const EfficiencyRule& rule) {
    return DeviceMatch(rule.device, device) < 0;
  };
  result.rules.erase(std::remove_if(result.rules.begin(), result.rules.end(), others),
                     result.rules.end());
  return result;
}

double ExpectedDistinctExperts(double count, double per_token, double tokens) {
  if (count <= 0) return 0;
  return count * (1 - std::pow(std::max(0.0, 1 - per_token / count), tokens));
}

BlockWork WorkOf(const ModelSpec& spec, int block, const Placement& placement, int index,
                 const WeightFormat& kv_type, const Pass& pass) {
  BlockWork work;
  if (placement.shares[index] == 0) return work;
  const Block& what = spec.blocks[block];
  Pass rows = pass;  // the head runs for the last token of each sequence only
  if (what.kind == BlockKind::kHead) rows.tokens = std::min(pass.tokens, pass.sequences);
  const auto first =
      std::lower_bound(spec.tensors.begin(), spec.tensors.end(), block,
                       [](const TensorSpec& tensor, int wanted) { return tensor.block < wanted; });
  for (auto tensor = first; tensor != spec.tensors.end() && tensor->block == block; ++tensor) {
    const Shard shard = ShardOf(spec, *tensor, placement, index);
    const Use use = UseOf(spec, *tensor, rows);
    const double elements =
        static_cast<double>(shard.rows.size()) * static_cast<double>(shard.columns.size());
    const bool matrix = tensor->shape.size() > 1;
    AddMatrix(&StoredFormat(*tensor), use.bytes * static_cast<double>(ShardBytes(*tensor, shard)),
              matrix ? 2 * elements * use.ops * static_cast<double>(rows.tokens) : 0, work);
  }
  if (what.kind == BlockKind::kAttention) {
    AddAttention(spec, block, placement, index, kv_type, pass, work);
  }
  const bool in_layer = what.kind == BlockKind::kAttention || what.kind == BlockKind::kMlp;
  if (in_layer) work.steps = spec.layers[what.layer].steps;
  return work;
}

BlockWork WorkOf(const ModelSpec& spec, int block, const Placement& placement, int index,
                 const EngineOptions& options, const Pass& pass) {
  return WorkOf(spec, block, placement, index, *options.kv_type, pass);
}

double BlockSeconds(const Coefficients& coefficients, const DeviceRates& device,
                    const BlockWork& work, absl::string_view kv_type) {
  if (work.matrices.empty() || device.bandwidth_bytes_per_s <= 0) return 0;
  const auto seconds = [&](const Efficiency& efficiency, double bytes, double ops) {
    return std::max(bytes / (device.bandwidth_bytes_per_s * efficiency.memory),
                    ops / (device.ops_per_s * efficiency.compute));
  };
  double total = work.steps * (device.kind == DeviceKind::kCpu ? coefficients.cpu_block_seconds
                                                               : coefficients.gpu_block_seconds);
  for (const MatrixWork& matrix : work.matrices) {
    const Efficiency efficiency =
        EfficiencyOf(coefficients, device, KernelFamily::kMatMul, matrix.format->name);
    total += seconds(efficiency, matrix.bytes, matrix.ops);
  }
  if (work.kv_bytes > 0) {
    const Efficiency efficiency =
        EfficiencyOf(coefficients, device, KernelFamily::kAttention, kv_type);
    total += seconds(efficiency, work.kv_bytes, work.attention_ops);
  }
  return total;
}

}  // namespace tprun
