#include "engine/runtime/generate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr int32_t kStop = -1;  // instead of a token id

// Rank 0's prompt on every rank.
absl::StatusOr<std::vector<int32_t>> SharePrompt(Communicator& world,
                                                 absl::Span<const int32_t> prompt) {
  int64_t count = prompt.size();
  RETURN_IF_ERROR(world.Broadcast(&count, sizeof(count), 0));
  std::vector<int32_t> ids(prompt.begin(), prompt.end());
  ids.resize(count);
  RETURN_IF_ERROR(world.Broadcast(ids.data(), count * static_cast<int64_t>(sizeof(int32_t)), 0));
  return ids;
}

// Rank 0's part of a step: draws the next token, or kStop.
class Chooser {
 public:
  Chooser(const GenerateOptions& options, const OnToken& on_token, GenerateResult& result)
      : options_(options), on_token_(on_token), result_(result), sampler_(options.sampler) {}

  absl::StatusOr<int32_t> Next(absl::Span<const float> logits, absl::Span<const int32_t> history,
                               bool room) {
    if (static_cast<int64_t>(result_.ids.size()) >= options_.max_tokens) return kStop;
    ASSIGN_OR_RETURN(const int32_t id, sampler_.Sample(logits, history));
    const auto& ends = options_.end_ids;
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) {
      result_.ended = true;
      return kStop;
    }
    result_.ids.push_back(id);
    const bool go_on = !on_token_ || on_token_(id);
    const bool more = static_cast<int64_t>(result_.ids.size()) < options_.max_tokens;
    return go_on && room && more ? id : kStop;
  }

 private:
  const GenerateOptions& options_;
  const OnToken& on_token_;
  GenerateResult& result_;
  Sampler sampler_;
};

}  // namespace

absl::Status CheckPromptLength(int64_t tokens, int64_t context) {
  if (tokens == 0) return absl::InvalidArgumentError("the prompt has no tokens");
  if (tokens < context) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the prompt has ", tokens, " tokens, but the context of ", context,
      " leaves room for at most ", context - 1, "; shorten the prompt or give a larger --context"));
}

absl::StatusOr<GenerateResult> Generate(Engine& engine, Communicator& world,
                                        absl::Span<const int32_t> prompt,
                                        const GenerateOptions& options, const OnToken& on_token) {
  const bool first_rank = world.rank() == 0;
  const int64_t context = engine.options().context;
  RETURN_IF_ERROR(AgreeOnStatus(
      world, first_rank ? CheckPromptLength(prompt.size(), context) : absl::OkStatus()));
  ASSIGN_OR_RETURN(std::vector<int32_t> history, SharePrompt(world, prompt));
  GenerateResult result;
  result.prompt_tokens = history.size();
  Chooser chooser(options, on_token, result);
  absl::Time start = absl::Now();
  RETURN_IF_ERROR(engine.Forward(history, 0, 0));
  while (true) {
    int32_t next = kStop;
    if (first_rank) {
      const bool room = static_cast<int64_t>(history.size()) < context;
      ASSIGN_OR_RETURN(next, chooser.Next(engine.logits(), history, room));
    }
    RETURN_IF_ERROR(world.Broadcast(&next, sizeof(next), 0));
    if (result.prefill_seconds == 0) {
      result.prefill_seconds = absl::ToDoubleSeconds(absl::Now() - start);
      start = absl::Now();
    }
    if (next == kStop) break;
    RETURN_IF_ERROR(engine.Forward({&next, 1}, history.size(), 0));
    history.push_back(next);
    ++result.decode_steps;
  }
  result.decode_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return result;
}

}  // namespace tprun
