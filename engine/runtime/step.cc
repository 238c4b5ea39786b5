#include "engine/runtime/step.h"

#include <algorithm>

namespace tprun {
namespace {

// Appends tokens [begin, end) of `run`; inputs are one array per kind until the step is complete.
struct StepBuilder {
  Step step;
  std::vector<int32_t> ids, sequences, positions;

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }

  void Append(const SequenceRun& run, int64_t begin, int64_t end) {
    step.runs.push_back({run.sequence, run.first_position + begin, end - begin});
    for (int64_t i = begin; i < end; ++i) {
      ids.push_back(run.tokens[i]);
      sequences.push_back(run.sequence);
      positions.push_back(static_cast<int32_t>(run.first_position + i));
    }
    if (end < static_cast<int64_t>(run.tokens.size())) return;
    const int64_t last = tokens() - 1;
    ++step.ended;
    if (!step.ends.empty() && step.ends.back().end == last) {
      ++step.ends.back().end;
    } else {
      step.ends.push_back({last, last + 1});
    }
  }

  Step Finish() && {
    step.all_end = step.ended == tokens();
    step.inputs = std::move(ids);
    step.inputs.insert(step.inputs.end(), sequences.begin(), sequences.end());
    step.inputs.insert(step.inputs.end(), positions.begin(), positions.end());
    return std::move(step);
  }
};

}  // namespace

std::vector<Step> CutIntoSteps(absl::Span<const SequenceRun> runs, int64_t chunk) {
  std::vector<Step> steps;
  StepBuilder builder;
  int64_t ended = 0;
  const auto finish = [&] {
    builder.step.first_ended = ended;
    ended += builder.step.ended;
    steps.push_back(std::move(builder).Finish());
    builder = StepBuilder();
  };
  for (const SequenceRun& run : runs) {
    const int64_t count = run.tokens.size();
    for (int64_t begin = 0; begin < count;) {
      const int64_t end = std::min(count, begin + chunk - builder.tokens());
      builder.Append(run, begin, end);
      begin = end;
      if (builder.tokens() == chunk) finish();
    }
  }
  if (builder.tokens() > 0) finish();
  return steps;
}

}  // namespace tprun
