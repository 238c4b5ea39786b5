#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/model/model_spec.h"
#include "engine/model/placement.h"
#include "engine/runtime/memory_layout.h"
#include "topology/topology.h"

namespace tprun {

// What a block of a model costs on a device: bytes moved and operations done, over the device's
// rates times the part of them that kernels reach (roofline: Williams et al., CACM 2009). Exchanges
// between devices come from topology/paths.h.

enum class KernelFamily { kMatMul, kAttention };

// The part of a device's nominal rates that kernels reach, 0 to 1; above where the nominal rate is
// an estimate, and of the peak, which is that of f32 on CPUs, where kernels multiply bytes.
struct Efficiency {
  double memory = 0;   // of the memory bandwidth
  double compute = 0;  // of the peak arithmetic rate
};
// The most of both that a calibration may say.
inline constexpr Efficiency kMostEfficiency = {2, 16};

// Holds for devices, kernel families and formats that match; of several the most specific counts
// (device before family before format), of equals the last.
struct EfficiencyRule {
  std::string device;  // "cpu", "gpu", "sm_86" (compute capability), a device's name; "": any
  std::string family;  // "matmul", "attention"; "": any
  std::string format;  // a weight format ("q4_0") or KV type ("f16"); "": any
  Efficiency efficiency;
  std::string source;  // what the figures rest on
};

// Everything in the cost model that is measured or fitted, of one engine. Replaced by a calibration
// file; see calibration.h.
struct Coefficients {
  std::string engine = "tprun";
  std::vector<EfficiencyRule> rules;
  double gpu_block_seconds = 0;  // launches and gaps of one block, whatever it computes
  double cpu_block_seconds = 0;
  double step_seconds = 0;      // of one pass: inputs, sampling
  double exchange_factor = 1;   // on topology's cost of an exchange
  double exchange_seconds = 0;  // added to each exchange: launch, synchronisation
  // What is measured is expected within [low, high] times the predicted speed.
  double low = 1;
  double high = 1;
  // Memory bandwidths that the rules rest on, by a device's name; see UseBandwidths.
  std::map<std::string, double> bandwidth_bytes_per_s;
  std::string source;
};

// Devices whose bandwidth was not measured get that of the coefficients.
void UseBandwidths(const Coefficients& coefficients, Topology& topology);

// For our own engine: clusters/devices/efficiencies.json, which has the source of every figure.
Coefficients DefaultCoefficients();

absl::string_view KernelFamilyName(KernelFamily family);

// The rates of one rank's part of a device.
struct DeviceRates {
  DeviceKind kind = DeviceKind::kGpu;
  std::string name;
  std::string compute_capability;
  double bandwidth_bytes_per_s = 0;  // 0: unknown, as are the times that follow from it
  double ops_per_s = 0;              // peak in the type that matrix multiplications use
};

// Ranks that share a device get `parts` equal parts. Unknown peaks are estimated: of a CPU from its
// cores and instruction set, of a GPU from its bandwidth.
DeviceRates RatesOf(const DeviceInfo& device, int parts = 1);

Efficiency EfficiencyOf(const Coefficients& coefficients, const DeviceRates& device,
                        KernelFamily family, absl::string_view format);

// The same coefficients with the rules for this device only: to ask for its efficiencies often.
Coefficients CoefficientsFor(const Coefficients& coefficients, const DeviceRates& device);

// One pass of tokens through the model: at decode one token of each of `sequences`, at prefill a
// chunk of one sequence's prompt.
struct Pass {
  int64_t tokens = 1;
  int64_t sequences = 1;
  int64_t depth = 0;  // positions already in the cache of each sequence
};

// Experts of `count` that are used when `tokens` tokens pick `per_token` each, as likely one as the
// other: count (1 - (1 - per_token / count)^tokens).
double ExpectedDistinctExperts(double count, double per_token, double tokens);

// What group member `index` moves and computes for one block in a pass.
struct MatrixWork {
  const WeightFormat* format = nullptr;
  double bytes = 0;  // of weights read
  double ops = 0;    // multiplications and additions
};
struct BlockWork {
  std::vector<MatrixWork> matrices;  // one per weight format
  double kv_bytes = 0;               // read and written
  double attention_ops = 0;
  int steps = 1;  // runs of the block per pass (LayerSpec::steps)
};
BlockWork WorkOf(const ModelSpec& spec, int block, const Placement& placement, int index,
                 const WeightFormat& kv_type, const Pass& pass);

// The same with the type of KV cache that the options have, also one that can only be planned.
BlockWork WorkOf(const ModelSpec& spec, int block, const Placement& placement, int index,
                 const EngineOptions& options, const Pass& pass);

// Seconds of that work, without the exchange at its end; 0 for a share of nothing.
double BlockSeconds(const Coefficients& coefficients, const DeviceRates& device,
                    const BlockWork& work, absl::string_view kv_type);

}  // namespace tprun
