#include "launcher/run_frames.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "engine/runtime/generate_frames.h"
#include "engine/tokenizer/tokenizer.h"
#include "launcher/interrupts.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

// Text tokens that stand for no text: more of it is to come, and the end of that.
constexpr int32_t kEndOfPadding = 0;
constexpr int32_t kPadding = 3;

absl::Status CodesError(const FramesRunOptions& options, int streams) {
  return absl::InvalidArgumentError(
      absl::StrCat("--codes: wanted ", options.codes.empty() ? "a JSON file" : options.codes,
                   " with a list of ", "frames, each a list of ", streams,
                   " whole numbers: what the model hears, as its codec ", "tells it"));
}

// [frames, streams] of the file.
absl::StatusOr<std::vector<int32_t>> ReadCodes(const FramesRunOptions& options, int streams) {
  std::vector<int32_t> codes;
  if (options.codes.empty()) return codes;
  const absl::StatusOr<Json> json = ReadJsonFile(options.codes);
  if (!json.ok()) return Annotate(json.status(), "--codes");
  if (!json->is_array()) return CodesError(options, streams);
  for (const Json& frame : *json) {
    if (!frame.is_array() || static_cast<int>(frame.size()) != streams) {
      return CodesError(options, streams);
    }
    for (const Json& code : frame) {
      const bool sound = code.is_number_integer() && code >= -1 && code <= 1 << 24;
      if (!sound) return CodesError(options, streams);
      codes.push_back(code.get<int32_t>());
    }
  }
  return codes;
}

absl::StatusOr<FramesOptions> ReadFrames(const FramesRunOptions& options, const ModelSpec& spec) {
  FramesOptions frames;
  frames.sampler = options.sampler;
  frames.frames = options.frames;
  const int streams = GivenStreams(spec);
  if (streams == 0 && !options.codes.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--codes: ", spec.name, " hears nothing: leave it out"));
  }
  if (streams == 0) return frames;
  if (options.codes.empty()) return CodesError(options, streams);
  ASSIGN_OR_RETURN(frames.given, ReadCodes(options, streams));
  const auto given = static_cast<int64_t>(frames.given.size()) / streams;
  frames.frames = std::min(frames.frames, given);
  frames.given.resize(frames.frames * streams);
  return frames;
}

// What the text tokens say; "" without a tokenizer.
absl::StatusOr<std::string> TextOf(const PreparedModel& model,
                                   const std::vector<std::vector<int32_t>>& frames) {
  const auto tokenizer = LoadTokenizer(*model.checkpoint);
  if (absl::IsNotFound(tokenizer.status())) return std::string();
  RETURN_IF_ERROR(tokenizer.status());
  StreamDecoder decoder(**tokenizer, /*after_prompt=*/false);
  std::string text;
  for (const auto& frame : frames) {
    const bool padding = frame[0] == kPadding || frame[0] == kEndOfPadding;
    if (!padding && frame[0] < (*tokenizer)->vocab_size()) text += decoder.Push(frame[0]);
  }
  return text + decoder.Finish();
}

}  // namespace

absl::Status CheckFramesRun(const FramesRunOptions& options, const PreparedModel& model) {
  if (options.sampler.repetition_penalty != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--repetition_penalty is not for ", model.spec.name, ", which makes sound"));
  }
  ASSIGN_OR_RETURN(const FramesOptions frames, ReadFrames(options, model.spec));
  const int64_t steps = StepsForFrames(model.spec, frames.frames);
  if (steps <= model.plan.options.context) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      frames.frames, " frames take ", steps, " steps, but the context has ",
      model.plan.options.context, ": give fewer (--max_tokens) or a larger --context"));
}

absl::Status RunFrames(const FramesRunOptions& options, RankSession& session) {
  FramesOptions frames;
  std::optional<CommandInterrupts> interrupts;
  if (session.first_rank()) {
    ASSIGN_OR_RETURN(frames, ReadFrames(options, session.model().spec));
    interrupts.emplace();
  }
  std::vector<std::vector<int32_t>> made;
  absl::Status written;
  ASSIGN_OR_RETURN(
      const FramesResult result,
      GenerateFrames(session.engine(), session.world(), frames,
                     [&](absl::Span<const int32_t> tokens) {
                       made.emplace_back(tokens.begin(), tokens.end());
                       const bool live = !options.json;
                       if (live && !WriteStdout(absl::StrCat(absl::StrJoin(tokens, " "), "\n"))) {
                         written = StdoutFailure();
                         return false;
                       }
                       return !interrupts->Came();
                     }));
  if (!session.first_rank()) return absl::OkStatus();
  RETURN_IF_ERROR(written);
  if (options.json) {
    ASSIGN_OR_RETURN(const std::string text, TextOf(session.model(), made));
    const Json json = {{"frames", made}, {"text", text}, {"seconds", result.seconds}};
    RETURN_IF_ERROR(WriteResult(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"));
  }
  const bool interrupted = interrupts->Came();
  if (!options.quiet && result.seconds > 0) {
    WriteLog(absl::StrFormat("%d frames, %.1f frames/s%s", result.frames,
                             static_cast<double>(result.steps) / result.seconds,
                             interrupted ? " (interrupted)" : ""));
  }
  return interrupted ? absl::CancelledError("") : absl::OkStatus();
}

}  // namespace tprun
