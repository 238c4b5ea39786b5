#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "engine/kernels/cpu_peaks.h"
#include "engine/kernels/kernels.h"

namespace tprun {

// Where the time of one rank goes: what its ops took, by name. For ranks whose ops end when they
// return (CPU). One thread at a time.
//
//   OpProfile profile;
//   auto kernels = ProfileKernels(MakeCpuKernels(&pool), &profile);
//   ... profile.Take() ...
class OpProfile {
 public:
  struct Op {
    int64_t calls = 0;
    double seconds = 0;
    double bytes = 0;       // weights, KV cache and activations, each once per call
    double operations = 0;  // two per product; 0 where it is not arithmetic that counts
    cpu::Arithmetic arithmetic = cpu::Arithmetic::kF32;  // that they are done in
    std::vector<float> samples;  // seconds of each call of an exchange; else empty
  };
  using Ops = std::map<std::string, Op>;

  // Counts a call; keep: as a sample.
  void Add(const std::string& name, const Op& call, bool keep);
  // What was added since the last call.
  Ops Take() { return std::exchange(ops_, {}); }

 private:
  Ops ops_;
};

// The same ops, timed; `profile` outlives them. activations: as the kernels take them.
std::unique_ptr<Kernels> ProfileKernels(std::unique_ptr<Kernels> kernels, Activations activations,
                                        OpProfile* profile);
// The same group and those split off it; sums and gathers are timed. Both outlive it.
std::unique_ptr<Communicator> ProfileCommunicator(Communicator* comm, OpProfile* profile);

}  // namespace tprun
