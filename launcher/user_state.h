#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/plan.h"

namespace tprun {

// What tprun keeps for the user between runs: $XDG_STATE_HOME/tprun, or ~/.local/state/tprun
// (freedesktop.org, XDG base directories). "" where neither is known.
std::string StateDirectory();

// The calibration that plans use when none is named; "": there is none.
std::string DefaultCalibrationFile();
// Writes a file of the state directory, which is made if need be; returns its path.
absl::StatusOr<std::string> WriteStateFile(const std::string& name, const std::string& text);

// How one run compares with its plan. 0: not measured.
struct Residual {
  std::string command;  // "run", "bench"
  std::string model;
  std::string fingerprint;           // of its tensors, see ModelFingerprint
  std::vector<std::string> devices;  // of the ranks, by name
  double predicted_decode = 0;       // tokens per second
  double measured_decode = 0;
  double predicted_prefill = 0;
  double measured_prefill = 0;
  int64_t predicted_bytes = 0;  // of all ranks whose memory could be measured
  int64_t measured_bytes = 0;
};

// One line of JSON in residuals.jsonl of the state directory; the oldest lines go when it grows
// large.
absl::Status AppendResidual(const Residual& residual);
// Lines that cannot be read are passed over.
std::vector<Residual> ReadResiduals();

// "runs of this model on these devices so far: decode measured at 0.92 of what was predicted
// (median of 7 runs, half of them 0.85 to 1.01); ..."; "" without such runs. Devices count in any
// order. Without runs of this model, those of others say something if they were predicted to be
// within a factor of four as fast: a model that fits into a cache tells nothing of one that does
// not.
std::string HowPlansWere(const std::vector<Residual>& residuals, const Plan& plan);

}  // namespace tprun
