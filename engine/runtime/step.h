#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/layers.h"

namespace tprun {

// New tokens of one sequence, at positions first_position...
struct SequenceRun {
  int sequence = 0;
  int64_t first_position = 0;
  absl::Span<const int32_t> tokens;
};

// Tokens that go through the model at once.
struct Step {
  std::vector<TokenRun> runs;
  std::vector<int32_t> inputs;   // [3, tokens]: ids, sequences, positions
  std::vector<TokenRange> ends;  // the last tokens of SequenceRuns, which end here, in order
  int64_t first_ended = 0;       // the SequenceRun of the first of them
  int64_t ended = 0;             // how many
  bool all_end = false;          // the head takes every token of the step: it is a decode step
  int64_t tokens() const { return static_cast<int64_t>(inputs.size()) / 3; }
};

// Cuts the runs, in order, into steps of at most `chunk` tokens.
std::vector<Step> CutIntoSteps(absl::Span<const SequenceRun> runs, int64_t chunk);

}  // namespace tprun
