#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "partition/calibration.h"
#include "topology/gpu_catalogue.h"

namespace tprun {

// Speeds that others measured, as observations for calibration. What a row does not say is taken as
// its kind of benchmark has it (llama-bench: chunks of 512, generation from an empty cache).

struct SpeedRow {
  std::string engine;
  std::string gpu;       // as the catalogue names it
  bool prefill = false;  // else decode
  int gpus = 1;
  bool layer_split = false;  // over several GPUs, one after the other
  Observation observation;
};

// The rows of `path` that say enough: one known model in known weights on GPUs of the catalogue,
// all of it on them, one sequence at a time; runs marked faulty are left out. GPUs' arithmetic rate
// is PowerLimitedOps. InvalidArgument if the file is not as expected.
absl::StatusOr<std::vector<SpeedRow>> ReadPublishedSpeed(const std::string& path,
                                                         const GpuCatalogue& catalogue);

// What a board's power lets its arithmetic units do over a whole prefill, operations per second:
// the geometric mean of the 16-bit peak and of 1 TFLOP/s per watt. Empirical: single-GPU prefills
// of llama.cpp reach 0.25 of it, within 7 %, on seven types from the RTX 3070 to the A100, where
// they reach 0.23 to 0.45 of the peak alone.
double PowerLimitedOps(const GpuFacts& facts);

// Rows for fitting and for judging. Fitted to are the rows of one GPU type per compute capability
// (the one with most rows), thinned evenly to a third of all rows; `same_types` are their other
// rows, `other_types` those of types that were not fitted to.
struct SpeedSplit {
  std::vector<const SpeedRow*> fitted;
  std::vector<const SpeedRow*> same_types;
  std::vector<const SpeedRow*> other_types;
};
SpeedSplit SplitRows(absl::Span<const SpeedRow* const> rows);

}  // namespace tprun
