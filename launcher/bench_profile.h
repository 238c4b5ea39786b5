#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "engine/kernels/cpu_peaks.h"
#include "launcher/op_profile.h"

namespace tprun {

// What `tprun bench --profile` adds: where a rank's time goes, beside the limits of its device.
struct BenchProfile {
  double bandwidth = 0;  // of this rank, bytes/s
  cpu::CpuPeaks peaks;
  OpProfile::Ops prefill;  // of `prefills`
  OpProfile::Ops decode;   // of `steps`
  int64_t prefills = 0;
  int64_t steps = 0;
};

std::string ProfileText(const BenchProfile& profile);
Json ProfileJson(const BenchProfile& profile);

}  // namespace tprun
