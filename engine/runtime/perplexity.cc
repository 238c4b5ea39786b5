#include "engine/runtime/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// -ln softmax(logits)[id], in double.
double NegativeLogLikelihood(absl::Span<const float> logits, int32_t id) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - top);
  return std::log(sum) + top - logits[id];
}

// Mean and deviation of what has come so far.
class Scores {
 public:
  explicit Scores(ThreadPool& pool) : pool_(pool) {}

  // `logits` [targets.size(), vocab], each row before its target.
  absl::Status Add(absl::Span<const float> logits, absl::Span<const int32_t> targets) {
    if (targets.empty()) return absl::OkStatus();
    const int64_t vocab = logits.size() / targets.size();
    std::vector<double> scores(targets.size());
    pool_.ParallelFor(targets.size(), 1, [&](int64_t begin, int64_t end, int /*worker*/) {
      for (int64_t i = begin; i < end; ++i) {
        scores[i] = NegativeLogLikelihood(logits.subspan(i * vocab, vocab), targets[i]);
      }
    });
    for (double score : scores) {
      if (!std::isfinite(score)) {
        return absl::InternalError("a logit is not finite: the weights or a kernel are at fault");
      }
      sum_ += score;
      squares_ += score * score;
    }
    count_ += scores.size();
    return absl::OkStatus();
  }

  void Tell(PerplexityResult& result) const {
    result.tokens = count_;
    if (count_ == 0) return;
    result.mean_nll = sum_ / count_;
    result.perplexity = std::exp(result.mean_nll);
    if (count_ < 2) return;
    const double variance = squares_ / count_ - result.mean_nll * result.mean_nll;
    result.standard_error = result.perplexity * std::sqrt(std::max(0.0, variance) / (count_ - 1));
  }

 private:
  ThreadPool& pool_;
  double sum_ = 0;
  double squares_ = 0;
  int64_t count_ = 0;
};

// Rank 0's request, on every rank.
struct Request {
  std::vector<int32_t> ids;
  PerplexityOptions options;
};

absl::StatusOr<Request> ShareRequest(Communicator& world, absl::Span<const int32_t> ids,
                                     const PerplexityOptions& options) {
  int64_t header[] = {static_cast<int64_t>(ids.size()), options.window, options.stride,
                      options.skip, options.bos_id};
  RETURN_IF_ERROR(world.Broadcast(header, sizeof(header), 0));
  Request request;
  request.options = {header[1], header[2], header[3], static_cast<int32_t>(header[4])};
  request.ids.assign(ids.begin(), ids.end());
  request.ids.resize(header[0]);
  const int64_t bytes = header[0] * static_cast<int64_t>(sizeof(int32_t));
  RETURN_IF_ERROR(world.Broadcast(request.ids.data(), bytes, 0));
  return request;
}

absl::Status ScoreWindow(Engine& engine, std::vector<int32_t> window,
                         const PerplexityOptions& options, Scores& scores) {
  if (options.bos_id >= 0) window[0] = options.bos_id;
  // The last token foretells one that is outside the window.
  const SequenceRun run = {0, 0, absl::MakeConstSpan(window).first(window.size() - 1)};
  const int64_t vocab = engine.spec().vocab;
  return engine.ForwardAll(
      run, options.skip, [&](int64_t first, absl::Span<const float> logits) -> absl::Status {
        const int64_t count = logits.size() / vocab;
        return scores.Add(logits, absl::MakeConstSpan(window).subspan(first + 1, count));
      });
}

}  // namespace

int64_t CountWindows(const PerplexityOptions& options, int64_t tokens) {
  return tokens < options.window ? 0 : (tokens - options.window) / options.stride + 1;
}

absl::Status CheckPerplexity(const PerplexityOptions& options, int64_t tokens) {
  if (options.window < 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("the window: wanted at least 2 tokens, found ", options.window));
  }
  if (options.stride < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the stride: wanted at least 1 token, found ", options.stride));
  }
  if (options.skip < 0 || options.skip > options.window - 2) {
    return absl::InvalidArgumentError(absl::StrCat("the skipped tokens: wanted 0 to ",
                                                   options.window - 2,
                                                   " (the window less two), found ", options.skip));
  }
  if (CountWindows(options, tokens) > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the text has ", tokens, " tokens, less than one window of ", options.window,
                   ": take a longer text or a smaller "
                   "window"));
}

absl::StatusOr<PerplexityResult> MeasurePerplexity(Engine& engine, Communicator& world,
                                                   ThreadPool& pool, absl::Span<const int32_t> ids,
                                                   const PerplexityOptions& options,
                                                   const OnWindow& on_window) {
  const bool first_rank = world.rank() == 0;
  RETURN_IF_ERROR(
      AgreeOnStatus(world, first_rank ? CheckPerplexity(options, ids.size()) : absl::OkStatus()));
  ASSIGN_OR_RETURN(const Request request, ShareRequest(world, ids, options));
  PerplexityResult result;
  Scores scores(pool);
  const absl::Time start = absl::Now();
  const int64_t windows = CountWindows(request.options, request.ids.size());
  for (int64_t i = 0; i < windows; ++i) {
    const auto begin = request.ids.begin() + i * request.options.stride;
    RETURN_IF_ERROR(
        ScoreWindow(engine, {begin, begin + request.options.window}, request.options, scores));
    scores.Tell(result);
    result.windows = i + 1;
    result.seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (first_rank && on_window) on_window(result);
  }
  return result;
}

}  // namespace tprun
