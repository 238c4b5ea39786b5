#include "engine/runtime/generate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

constexpr int32_t kStop = -1;  // instead of a token id

// What all ranks have to know of rank 0's request.
struct Request {
  std::vector<int32_t> prompt;
  SamplerOptions sampler;
  int64_t reuse = 0;
  bool may_stop = false;
};

absl::StatusOr<Request> ShareRequest(Communicator& world, absl::Span<const int32_t> prompt,
                                     const GenerateOptions& options) {
  int64_t header[] = {static_cast<int64_t>(prompt.size()), options.reuse,
                      options.stop != nullptr ? 1 : 0};
  RETURN_IF_ERROR(world.Broadcast(header, sizeof(header), 0));
  Request request;
  request.sampler = options.sampler;
  RETURN_IF_ERROR(world.Broadcast(&request.sampler, sizeof(request.sampler), 0));
  request.prompt.assign(prompt.begin(), prompt.end());
  request.prompt.resize(header[0]);
  request.reuse = header[1];
  request.may_stop = header[2] != 0;
  const int64_t bytes = header[0] * static_cast<int64_t>(sizeof(int32_t));
  RETURN_IF_ERROR(world.Broadcast(request.prompt.data(), bytes, 0));
  return request;
}

// Rank 0's answer for all ranks.
StopCheck SharedStop(Communicator& world, const Request& request, const GenerateOptions& options) {
  if (!request.may_stop) return nullptr;
  return [&world, &options]() -> absl::StatusOr<bool> {
    int32_t stop = world.rank() == 0 && options.stop() ? 1 : 0;
    RETURN_IF_ERROR(world.Broadcast(&stop, sizeof(stop), 0));
    return stop != 0;
  };
}

absl::Status CheckReuse(int64_t reuse, int64_t prompt) {
  if (reuse >= 0 && reuse < prompt) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tokens to take from the cache: wanted 0 to ", prompt - 1, ", found ", reuse));
}

// Puts tokens through the model; every rank asks for the same draw.
class Stepper {
 public:
  Stepper(Engine& engine, const SamplerOptions& options)
      : engine_(engine), greedy_(options.greedy()), sampler_(options) {}

  absl::Status Run(int64_t first_position, absl::Span<const int32_t> tokens,
                   const StopCheck& stop) {
    if (greedy_) {
      return engine_.Forward({{0, first_position, tokens}}, ForwardOutput::kGreedy, stop);
    }
    engine_.SetSampling({sampler_.Next()});
    return engine_.Forward({{0, first_position, tokens}}, ForwardOutput::kSampled, stop);
  }

 private:
  Engine& engine_;
  const bool greedy_;
  Sampler sampler_;
};

// Rank 0's part of a step: the next token, or kStop.
class Chooser {
 public:
  Chooser(const GenerateOptions& options, const OnToken& on_token, GenerateResult& result)
      : options_(options), on_token_(on_token), result_(result) {}

  absl::StatusOr<int32_t> Next(const Engine& engine, bool room) {
    if (static_cast<int64_t>(result_.ids.size()) >= options_.max_tokens) return kStop;
    const int32_t id = engine.chosen_ids()[0];
    if (id < 0) return NoFiniteLogit();
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
  absl::Status sound = absl::OkStatus();
  if (first_rank) sound = CheckPromptLength(prompt.size(), context);
  if (first_rank && sound.ok()) sound = CheckReuse(options.reuse, prompt.size());
  RETURN_IF_ERROR(AgreeOnStatus(world, sound));
  ASSIGN_OR_RETURN(Request request, ShareRequest(world, prompt, options));
  request.reuse = engine.Reusable(0, request.reuse);
  std::vector<int32_t>& history = request.prompt;
  GenerateResult result;
  result.prompt_tokens = history.size();
  result.fresh_tokens = result.prompt_tokens - request.reuse;
  Chooser chooser(options, on_token, result);
  absl::Time start = absl::Now();
  const auto fresh = absl::MakeConstSpan(history).subspan(request.reuse);
  const StopCheck stop = SharedStop(world, request, options);
  const auto reused = absl::MakeConstSpan(history).first(request.reuse);
  if (!request.sampler.greedy()) RETURN_IF_ERROR(engine.SetSeen(0, reused));
  Stepper stepper(engine, request.sampler);
  const absl::Status prefill = stepper.Run(request.reuse, fresh, stop);
  if (stop != nullptr && absl::IsCancelled(prefill)) {
    result.stopped = true;
    result.prefill_seconds = absl::ToDoubleSeconds(absl::Now() - start);
    return result;
  }
  RETURN_IF_ERROR(prefill);
  while (true) {
    int32_t next = kStop;
    if (first_rank) {
      const bool room = static_cast<int64_t>(history.size()) < context;
      ASSIGN_OR_RETURN(next, chooser.Next(engine, room));
    }
    RETURN_IF_ERROR(world.Broadcast(&next, sizeof(next), 0));
    if (result.prefill_seconds == 0) {
      result.prefill_seconds = absl::ToDoubleSeconds(absl::Now() - start);
      start = absl::Now();
    }
    if (next == kStop) break;
    RETURN_IF_ERROR(stepper.Run(static_cast<int64_t>(history.size()), {&next, 1}, nullptr));
    history.push_back(next);
    ++result.decode_steps;
  }
  result.decode_seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return result;
}

}  // namespace tprun
