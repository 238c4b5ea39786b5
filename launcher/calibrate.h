#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "comm/device.h"
#include "engine/kernels/kernels.h"
#include "partition/cost_model.h"
#include "topology/topology.h"

namespace tprun {

// What `tprun bench --calibrate` does: runs the engine's own kernels on this machine's devices,
// each some tenths of a second, and writes how much of the devices' rates they reach.

// Rules for one device, named after it: matrix products of every weight format that can be made
// (decode: one token times a matrix larger than any cache; prefill: 256 tokens), attention over a
// KV cache of every type; and the time that a block takes whatever it computes.
struct DeviceCalibration {
  std::vector<EfficiencyRule> rules;
  double block_seconds = 0;
};
// `rates` are those that plans take for the device (RatesOf).
absl::StatusOr<DeviceCalibration> CalibrateDevice(
    Device& device, Kernels& kernels, const DeviceRates& rates,
    const std::function<void(const std::string&)>& tell);

// All GPUs that there are kernels for, and the CPU: the default coefficients with what was measured
// in their place. Memory bandwidths of `topology` are replaced by measured ones.
absl::StatusOr<Coefficients> CalibrateMachine(Topology& topology,
                                              const std::function<void(const std::string&)>& tell);

}  // namespace tprun
