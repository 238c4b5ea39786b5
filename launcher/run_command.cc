#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/runtime/generate.h"
#include "engine/tokenizer/tokenizer.h"
#include "launcher/chat.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/interrupts.h"
#include "launcher/model_options.h"
#include "launcher/process_time.h"
#include "launcher/ranks.h"
#include "launcher/record_residual.h"
#include "launcher/report.h"
#include "launcher/run_frames.h"
#include "launcher/spawn.h"
#include "launcher/supervise.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

constexpr int64_t kMaxTokens = 256;  // unless --max_tokens says otherwise

struct RunOptions {
  ModelOptions model;
  std::string prompt;
  std::vector<int32_t> prompt_ids;  // instead of the text
  std::vector<int32_t> stop_ids;    // end the text too
  std::string codes;
  int64_t max_tokens = -1;  // -1: not given
  SamplerOptions sampler;
  std::string format = "text";
  bool chat = false;
  std::string system;
  bool no_echo = false;
  bool ignore_eos = false;
  bool quiet = false;
};

// The prompt as rank 0 or the starting process sees it.
struct EncodedPrompt {
  std::unique_ptr<Tokenizer> tokenizer;  // nullptr where only ids go in and out
  std::vector<int32_t> ids;
};

absl::Status CheckIds(const std::vector<int32_t>& ids, int64_t vocab) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--prompt_ids: wanted ids from 0 to ", vocab - 1, ", found ", id));
  }
  return absl::OkStatus();
}

absl::StatusOr<EncodedPrompt> EncodePrompt(const RunOptions& options, const PreparedModel& model) {
  EncodedPrompt result;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(*model.checkpoint);
  result.ids = options.prompt_ids;
  RETURN_IF_ERROR(CheckIds(result.ids, model.spec.vocab));
  if (absl::IsNotFound(tokenizer.status()) && !result.ids.empty()) return result;
  if (absl::IsNotFound(tokenizer.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokenizer.status().message(), "; or give --prompt_ids=1,2,3"));
  }
  ASSIGN_OR_RETURN(result.tokenizer, std::move(tokenizer));
  if (result.tokenizer->vocab_size() > model.spec.vocab) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tokenizer has ", result.tokenizer->vocab_size(), " tokens, but the model only ",
        model.spec.vocab, ": they do not belong together"));
  }
  if (result.ids.empty()) {
    ASSIGN_OR_RETURN(result.ids, result.tokenizer->Encode(options.prompt, EncodeOptions()));
  }
  if (result.ids.empty()) {
    return absl::InvalidArgumentError(
        "the prompt is empty and this model has no token to begin a text with: give --prompt");
  }
  const int64_t context = model.plan.options.context;
  if (static_cast<int64_t>(result.ids.size()) >= context) {
    return absl::InvalidArgumentError(
        absl::StrCat("the prompt has ", result.ids.size(), " tokens, but the context of ", context,
                     " leaves room for at most ", context - 1,
                     "; shorten the prompt or give a larger --context (the model's is ",
                     model.spec.context_length, ")"));
  }
  return result;
}

ChatOptions ChatOf(const RunOptions& options) {
  return {.system = options.system,
          .first_message = options.prompt,
          .max_tokens = options.max_tokens,
          .sampler = options.sampler,
          .quiet = options.quiet};
}

FramesRunOptions FramesOf(const RunOptions& options) {
  return {.codes = options.codes,
          .frames = options.max_tokens >= 0 ? options.max_tokens : kMaxTokens,
          .sampler = options.sampler,
          .json = options.format == "json",
          .quiet = options.quiet};
}

// InvalidArgument: options of text with a model of several streams, or the other way round.
absl::Status CheckStreams(const RunOptions& options, const ModelSpec& spec) {
  const bool text = options.chat || !options.prompt.empty() || !options.prompt_ids.empty();
  if (MakesFrames(spec) && text) {
    return absl::InvalidArgumentError(absl::StrCat(spec.name, " has ", spec.streams,
                                                   " streams of tokens: it takes --codes, no ",
                                                   "--prompt, --prompt_ids or --chat"));
  }
  if (MakesFrames(spec) || options.codes.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--codes: ", spec.name, " has one stream of tokens: give --prompt or ", "--prompt_ids"));
}

absl::Status CheckRun(const RunOptions& options, const PreparedModel& model) {
  RETURN_IF_ERROR(CheckOneSequence(model.plan));
  const absl::Status sampler = ValidateSampler(options.sampler);
  if (!sampler.ok()) return absl::Status(sampler.code(), absl::StrCat("--", sampler.message()));
  if (model.checkpoint->kind() == CheckpointKind::kConfigOnly) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.checkpoint->path(),
                     " has no weights to generate text with (plan and bench work without)"));
  }
  RETURN_IF_ERROR(CheckStreams(options, model.spec));
  if (MakesFrames(model.spec)) return CheckFramesRun(FramesOf(options), model);
  return options.chat ? CheckChat(ChatOf(options), model) : EncodePrompt(options, model).status();
}

std::string RunJson(const GenerateResult& result, const EncodedPrompt& prompt,
                    const std::string& text) {
  const Json json = {{"prompt_ids", prompt.ids},
                     {"new_ids", result.ids},
                     {"text", text},
                     {"ended", result.ended},
                     {"prefill_seconds", result.prefill_seconds},
                     {"decode_seconds", result.decode_seconds},
                     {"decode_steps", result.decode_steps}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string Count(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

std::string Rate(int64_t count, double seconds) {
  return seconds > 0 ? absl::StrFormat("%.1f tokens/s", static_cast<double>(count) / seconds) : "-";
}

// Rank 0: writes the text as it is made, or the ids where they were given.
class TextStream {
 public:
  TextStream(const RunOptions& options, const EncodedPrompt& prompt)
      : live_(options.format == "text"), ids_(!options.prompt_ids.empty()) {
    const bool after = ids_ || !options.prompt.empty();
    if (prompt.tokenizer != nullptr) decoder_.emplace(*prompt.tokenizer, after);
    if (options.no_echo) return;
    Write(options.prompt);
    if (live_ && ids_) Print(absl::StrJoin(prompt.ids, " "));
  }
  bool Push(int32_t id) {
    if (live_ && ids_) return Print(absl::StrCat(" ", id));
    return decoder_ == std::nullopt || Write(decoder_->Push(id));
  }
  const std::string& Finish() {
    if (decoder_ != std::nullopt) Write(decoder_->Finish());
    if (live_) Print("\n");
    return text_;
  }
  // Why the text could not be written; OK also when its reader has left.
  const absl::Status& status() const { return status_; }

 private:
  bool Write(const std::string& part) {
    text_ += part;
    return !live_ || part.empty() || Print(part);
  }

  bool Print(const std::string& part) {
    if (WriteStdout(part)) return true;
    status_.Update(StdoutFailure());
    return false;
  }

  bool live_;
  bool ids_;
  std::optional<StreamDecoder> decoder_;
  std::string text_;
  absl::Status status_;
};

// A handful of tokens says little of speed.
MeasuredSpeeds SpeedsOf(const GenerateResult& result) {
  constexpr int64_t kEnough = 16;
  MeasuredSpeeds speeds;
  if (result.decode_steps >= kEnough && result.decode_seconds > 0) {
    speeds.decode = static_cast<double>(result.decode_steps) / result.decode_seconds;
  }
  if (!result.stopped && result.prompt_tokens >= 4 * kEnough && result.prefill_seconds > 0) {
    speeds.prefill = static_cast<double>(result.prompt_tokens) / result.prefill_seconds;
  }
  return speeds;
}

std::string Summary(const RunOptions& options, const RankSession& session,
                    const GenerateResult& result, double first_token_seconds, bool interrupted) {
  const double load = session.load_seconds();
  std::string text = absl::StrCat(
      "loaded in ", FormatDuration(load), " (",
      FormatBandwidth(static_cast<double>(session.weight_bytes()) / load), " per rank)");
  if (first_token_seconds > 0) {
    absl::StrAppend(&text, ", first token ", FormatDuration(first_token_seconds),
                    " after the start");
  }
  absl::StrAppend(&text, "; prompt ", Count(result.prompt_tokens, "token"));
  if (!result.stopped) {
    absl::StrAppend(&text, ", ", Rate(result.prompt_tokens, result.prefill_seconds));
  }
  absl::StrAppend(&text, "; generated ", Count(result.ids.size(), "token"));
  const double decode = SpeedsOf(result).decode;
  if (result.decode_steps > 0) {
    absl::StrAppend(&text, ", ", Rate(result.decode_steps, result.decode_seconds));
  }
  if (decode > 0 && decode < options.model.min_speed) {
    absl::StrAppend(&text, ", less than --min_speed=", options.model.min_speed);
  }
  return absl::StrCat(text, interrupted    ? " (interrupted)"
                            : result.ended ? ""
                                           : " (stopped at the limit)");
}

absl::Status RunModel(const RunOptions& options, RankSession& session) {
  const bool first = session.first_rank();
  if (!options.quiet) RETURN_IF_ERROR(ReportMemory(session));
  if (options.chat) return RunChat(ChatOf(options), session);
  if (MakesFrames(session.model().spec)) return RunFrames(FramesOf(options), session);
  EncodedPrompt prompt;
  if (first) {
    ASSIGN_OR_RETURN(prompt, EncodePrompt(options, session.model()));
  }
  GenerateOptions generate;
  generate.max_tokens = options.max_tokens >= 0 ? options.max_tokens : kMaxTokens;
  generate.sampler = options.sampler;
  if (first && !options.ignore_eos && prompt.tokenizer != nullptr) {
    const auto ends = prompt.tokenizer->end_ids();
    generate.end_ids.assign(ends.begin(), ends.end());
  }
  const auto& stop = options.stop_ids;
  generate.end_ids.insert(generate.end_ids.end(), stop.begin(), stop.end());
  std::unique_ptr<TextStream> stream;
  std::optional<CommandInterrupts> interrupts;
  if (first) {
    stream = std::make_unique<TextStream>(options, prompt);
    interrupts.emplace();
    generate.stop = [&] { return interrupts->Came(); };
  }
  double first_token = 0;  // seconds since the process began
  ASSIGN_OR_RETURN(
      const GenerateResult result,
      Generate(session.engine(), session.world(), prompt.ids, generate, [&](int32_t id) {
        if (first_token == 0) first_token = SecondsSinceStart();
        return stream->Push(id) && !interrupts->Came();
      }));
  RETURN_IF_ERROR(RecordResidual(session, "run", SpeedsOf(result)));
  if (!first) return absl::OkStatus();
  const std::string text = stream->Finish();
  RETURN_IF_ERROR(stream->status());
  if (options.format == "json") RETURN_IF_ERROR(WriteResult(RunJson(result, prompt, text)));
  const bool interrupted = interrupts->Came();
  if (!options.quiet) WriteLog(Summary(options, session, result, first_token, interrupted));
  return interrupted ? absl::CancelledError("") : absl::OkStatus();
}

// CLI11 itself takes -1 for the largest number.
std::string SeedFault(const std::string& text) {
  uint64_t seed = 0;
  if (absl::SimpleAtoi(text, &seed)) return "";
  return absl::StrCat("wanted a whole number from 0 to 2^64 - 1, found ", text);
}

void AddSamplerOptions(CLI::App& command, SamplerOptions& sampler) {
  command
      .add_option("--temperature", sampler.temperature,
                  "0: always the most likely token; higher: more varied")
      ->capture_default_str();
  command.add_option("--top_k", sampler.top_k, "Keep the k most likely tokens; 0: all")
      ->capture_default_str();
  command
      .add_option("--top_p", sampler.top_p,
                  "Keep the most likely tokens up to this probability together")
      ->capture_default_str();
  command
      .add_option("--min_p", sampler.min_p,
                  "Keep tokens at least this likely relative to the most likely one")
      ->capture_default_str();
  command
      .add_option("--repetition_penalty", sampler.repetition_penalty,
                  "Above 1: tokens seen become less likely")
      ->capture_default_str();
  command.add_option("--seed", sampler.seed, "The same seed draws the same text")
      ->check(CLI::Validator(SeedFault, ""))
      ->capture_default_str();
}

absl::Status CheckTogether(const RunOptions& options) {
  if (!options.chat && !options.system.empty()) {
    return absl::InvalidArgumentError("--system is for a conversation: give --chat too");
  }
  if (!options.prompt.empty() && !options.prompt_ids.empty()) {
    return absl::InvalidArgumentError("--prompt_ids stands instead of --prompt: leave one out");
  }
  if (!options.chat) return absl::OkStatus();
  if (!options.prompt_ids.empty() || !options.stop_ids.empty()) {
    return absl::InvalidArgumentError(
        "--chat is for text, and goes without --prompt_ids and --stop_ids");
  }
  if (options.prompt == "-") {
    return absl::InvalidArgumentError(
        "--chat reads messages from standard input by itself: leave --prompt=- out");
  }
  if (options.format != "text" || options.no_echo || options.ignore_eos) {
    return absl::InvalidArgumentError(
        "--chat is for text, and goes without --format=json, --no_echo and --ignore_eos");
  }
  return absl::OkStatus();
}

int RunRunCommand(RunOptions& options, std::vector<std::string> arguments) {
  if (const absl::Status status = CheckTogether(options); !status.ok()) {
    return IsFirstRank() ? ReportStatus(status) : kExitBadInput;
  }
  if (options.prompt == "-" && !StartedByLauncher()) {
    options.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    // The ranks have no standard input: they get the text itself. The last one counts.
    arguments.insert(arguments.end(), {"--prompt", options.prompt});
  }
  RanksCommand command;
  command.quiet = options.quiet;
  command.takes_input = options.chat;
  command.takes_streams = true;
  command.arguments = std::move(arguments);
  command.check = [&](const PreparedModel& model) { return CheckRun(options, model); };
  command.run = [&](RankSession& session) { return RunModel(options, session); };
  return RunOnRanks(options.model, command);
}

}  // namespace

Command MakeRunCommand(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* command = app.add_subcommand("run", "Generate text; starts its ranks by itself");
  auto options = std::make_shared<RunOptions>();
  command
      ->add_option("--prompt", options->prompt,
                   "The text to go on with; - reads it from standard input [an empty text]")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command
      ->add_option("--prompt_ids", options->prompt_ids,
                   "Token ids instead of a text, as 1,2,3: ids come out too, and no tokenizer is "
                   "needed")
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      ->add_option("--stop_ids", options->stop_ids,
                   "Token ids that end the text, beside those that the model's files name")
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      ->add_option("--codes", options->codes,
                   "Of models of several streams (Moshi): a JSON file with what they hear, a "
                   "list of audio tokens for each frame; a line of ids comes out for each, the "
                   "text's and its own audio's")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command
      ->add_option("--max_tokens", options->max_tokens,
                   "New tokens (or frames) at most, of each answer in a conversation [256; there "
                   "the context]")
      ->check(CLI::Range(0, 1 << 30));
  command->add_flag("--chat", options->chat,
                    "A conversation in the model's chat template: every line of standard input is "
                    "a message (--prompt: the first)");
  command->add_option("--system", options->system, "The system message of a conversation")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  AddSamplerOptions(*command, options->sampler);
  command
      ->add_option("--format", options->format,
                   "text as it is made, or json: token ids, text and timings at the end")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_flag("--no_echo", options->no_echo,
                    "Do not print the prompt before its continuation");
  command->add_flag("--ignore_eos", options->ignore_eos, "Go on after an end-of-text token");
  command->add_flag("--quiet", options->quiet, "Nothing on standard error but errors");
  AddPlanOptions(*command, options->model);
  AddRunOptions(*command, options->model);
  return {command, [options, arguments] { return RunRunCommand(*options, arguments); }};
}

}  // namespace tprun
