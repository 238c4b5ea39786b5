#include "engine/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

absl::Status CheckRange(absl::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, ": wanted ", low, " to ", high, ", found ", value));
}

}  // namespace

absl::Status ValidateSampler(const SamplerOptions& options) {
  RETURN_IF_ERROR(CheckRange("temperature", options.temperature, 0, 100));
  RETURN_IF_ERROR(CheckRange("top_k", options.top_k, 0, 1 << 30));
  RETURN_IF_ERROR(CheckRange("top_p", options.top_p, 0, 1));
  RETURN_IF_ERROR(CheckRange("min_p", options.min_p, 0, 1));
  return CheckRange("repetition_penalty", options.repetition_penalty, 0.01, 100);
}

absl::Status NoFiniteLogit() {
  return absl::InternalError("the model gave no finite logit: its weights may be damaged");
}

std::vector<Sampler::Candidate> Sampler::Candidates(absl::Span<const float> logits,
                                                    absl::Span<const int32_t> history) const {
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  std::unordered_set<int32_t> seen;
  if (options_.repetition_penalty != 1) seen.insert(history.begin(), history.end());
  for (size_t id = 0; id < logits.size(); ++id) {
    float logit = logits[id];
    if (!std::isfinite(logit)) continue;
    if (!seen.empty() && seen.count(static_cast<int32_t>(id)) > 0) {
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    }
    candidates.push_back({static_cast<int32_t>(id), logit, 0});
  }
  return candidates;
}

// Sorts by likelihood, sets probabilities and cuts the tail off.
void Sampler::KeepMostLikely(std::vector<Candidate>& candidates) const {
  const auto more_likely = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const size_t top_k = options_.top_k > 0 ? options_.top_k : candidates.size();
  const size_t keep = std::min(top_k, candidates.size());
  std::partial_sort(candidates.begin(), candidates.begin() + keep, candidates.end(), more_likely);
  candidates.resize(keep);
  double sum = 0;
  const double best = candidates[0].logit;
  for (Candidate& candidate : candidates) {
    candidate.probability = std::exp((candidate.logit - best) / options_.temperature);
    sum += candidate.probability;
  }
  double cumulated = 0;
  size_t kept = 0;
  // The best is kept always; probabilities fall, so each filter cuts a tail.
  while (kept < candidates.size()) {
    const double probability = candidates[kept].probability;
    if (kept > 0 && (cumulated >= options_.top_p * sum || probability < options_.min_p)) break;
    cumulated += probability;
    ++kept;
  }
  candidates.resize(kept);
}

absl::StatusOr<int32_t> Sampler::Sample(absl::Span<const float> logits,
                                        absl::Span<const int32_t> history) {
  std::vector<Candidate> candidates = Candidates(logits, history);
  if (candidates.empty()) return NoFiniteLogit();
  if (options_.temperature == 0) {
    return std::max_element(
               candidates.begin(), candidates.end(),
               [](const Candidate& a, const Candidate& b) { return a.logit < b.logit; })
        ->id;
  }
  KeepMostLikely(candidates);
  double sum = 0;
  for (const Candidate& candidate : candidates) sum += candidate.probability;
  // 53 random bits, so that the draw is the same with every standard library.
  double draw = static_cast<double>(random_() >> 11) * 0x1.0p-53 * sum;
  for (const Candidate& candidate : candidates) {
    draw -= candidate.probability;
    if (draw < 0) return candidate.id;
  }
  return candidates.back().id;
}

}  // namespace tprun
