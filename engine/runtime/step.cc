#include "engine/runtime/step.h"

#include <algorithm>

namespace tprun {
namespace {

// Appends tokens [begin, end) of `run`; inputs are one array per kind until the step is complete.
struct StepBuilder {
  Step step;
  std::vector<std::vector<int32_t>> ids;  // of each stream
  std::vector<int32_t> sequences, positions;

  explicit StepBuilder(int streams) : ids(streams) { step.streams = streams; }

  int64_t tokens() const { return static_cast<int64_t>(sequences.size()); }

  void Append(const SequenceRun& run, int64_t begin, int64_t end) {
    step.runs.push_back({run.sequence, run.first_position + begin, end - begin});
    for (int64_t i = begin; i < end; ++i) {
      for (size_t s = 0; s < ids.size(); ++s) ids[s].push_back(run.tokens[i * ids.size() + s]);
      sequences.push_back(run.sequence);
      positions.push_back(static_cast<int32_t>(run.first_position + i));
    }
    if (end < static_cast<int64_t>(run.tokens.size() / ids.size())) return;
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
    for (const std::vector<int32_t>& stream : ids) {
      step.inputs.insert(step.inputs.end(), stream.begin(), stream.end());
    }
    step.inputs.insert(step.inputs.end(), sequences.begin(), sequences.end());
    step.inputs.insert(step.inputs.end(), positions.begin(), positions.end());
    return std::move(step);
  }
};

}  // namespace

std::vector<Step> CutIntoSteps(absl::Span<const SequenceRun> runs, int64_t chunk, int streams) {
  std::vector<Step> steps;
  StepBuilder builder(streams);
  int64_t ended = 0;
  const auto finish = [&] {
    builder.step.first_ended = ended;
    ended += builder.step.ended;
    steps.push_back(std::move(builder).Finish());
    builder = StepBuilder(streams);
  };
  for (const SequenceRun& run : runs) {
    const auto count = static_cast<int64_t>(run.tokens.size()) / streams;
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
