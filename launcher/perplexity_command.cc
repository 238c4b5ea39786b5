#include "engine/runtime/perplexity.h"

#include <iostream>
#include <iterator>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/tokenizer/tokenizer.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/progress.h"
#include "launcher/ranks.h"
#include "launcher/report.h"
#include "launcher/spawn.h"
#include "launcher/supervise.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

constexpr int64_t kWindow = 512;    // unless --context says otherwise
constexpr int64_t kLogitRows = 64;  // 32 MiB for a vocabulary of 128 Ki
constexpr int64_t kMostTextBytes = int64_t{1} << 30;

struct Options {
  ModelOptions model;
  std::string file;
  std::string text;
  int64_t stride = 0;  // 0: a window
  int64_t skip = -1;   // -1: half a window
  std::string format = "text";
  bool quiet = false;
};

struct EncodedText {
  std::vector<int32_t> ids;
  PerplexityOptions cut;
};

absl::StatusOr<std::string> ReadText(const Options& options) {
  if (options.file.empty()) return options.text;
  absl::StatusOr<std::string> text = ReadFile(options.file, kMostTextBytes);
  if (!text.ok()) return Annotate(text.status(), "--file");
  return text;
}

absl::StatusOr<EncodedText> EncodeText(const Options& options, const PreparedModel& model) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(options));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(*model.checkpoint));
  if (tokenizer->vocab_size() > model.spec.vocab) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", tokenizer->vocab_size(),
                                                   " tokens, but the model only ", model.spec.vocab,
                                                   ": they do not belong together"));
  }
  EncodedText result;
  // A text that shows special tokens means their characters.
  ASSIGN_OR_RETURN(result.ids, tokenizer->Encode(text, {.parse_special = false}));
  const int64_t window = model.plan.options.context;
  result.cut.window = window;
  result.cut.stride = options.stride > 0 ? options.stride : window;
  result.cut.skip = options.skip >= 0 ? options.skip : window / 2;
  const bool begins_with_bos = !result.ids.empty() && result.ids[0] == tokenizer->bos_id();
  result.cut.bos_id = begins_with_bos ? tokenizer->bos_id() : -1;
  RETURN_IF_ERROR(CheckPerplexity(result.cut, result.ids.size()));
  return result;
}

absl::Status Check(const Options& options, const PreparedModel& model) {
  RETURN_IF_ERROR(CheckOneSequence(model.plan));
  if (model.checkpoint->kind() == CheckpointKind::kConfigOnly) {
    return absl::InvalidArgumentError(
        absl::StrCat(model.checkpoint->path(), " has no weights (plan and bench work without)"));
  }
  return EncodeText(options, model).status();
}

std::string ResultJson(const PerplexityResult& result, const PerplexityOptions& cut) {
  const Json json = {{"perplexity", result.perplexity},
                     {"standard_error", result.standard_error},
                     {"mean_nll", result.mean_nll},
                     {"tokens", result.tokens},
                     {"windows", result.windows},
                     {"window", cut.window},
                     {"stride", cut.stride},
                     {"skip", cut.skip},
                     {"seconds", result.seconds}};
  return json.dump(1) + "\n";
}

std::string ResultText(const PerplexityResult& result, const PerplexityOptions& cut) {
  return absl::StrFormat(
      "perplexity %.4f +/- %.4f over %d tokens (%d windows of %d, one every %d, the first %d of "
      "each not scored)\n",
      result.perplexity, result.standard_error, result.tokens, result.windows, cut.window,
      cut.stride, cut.skip + 1);
}

absl::Status Measure(const Options& options, RankSession& session) {
  const bool first = session.first_rank();
  if (!options.quiet) RETURN_IF_ERROR(ReportMemory(session));
  EncodedText text;
  if (first) {
    ASSIGN_OR_RETURN(text, EncodeText(options, session.model()));
  }
  ProgressBar bar("perplexity");
  const int64_t windows = CountWindows(text.cut, text.ids.size());
  const auto tell = [&](const PerplexityResult& so_far) {
    if (options.quiet) return;
    bar.UpdateWith(
        so_far.windows, windows,
        absl::StrFormat("window %d of %d  %.4f", so_far.windows, windows, so_far.perplexity));
  };
  ASSIGN_OR_RETURN(const PerplexityResult result,
                   MeasurePerplexity(session.engine(), session.world(), session.pool(), text.ids,
                                     text.cut, tell));
  bar.Finish();
  if (!first) return absl::OkStatus();
  RETURN_IF_ERROR(WriteResult(options.format == "json" ? ResultJson(result, text.cut)
                                                       : ResultText(result, text.cut)));
  if (!options.quiet) {
    WriteLog(absl::StrFormat("loaded in %s; %d windows in %s, %.1f tokens/s",
                             FormatDuration(session.load_seconds()), result.windows,
                             FormatDuration(result.seconds),
                             result.windows * text.cut.window / result.seconds));
  }
  return absl::OkStatus();
}

absl::Status CheckSource(const Options& options) {
  if (options.file.empty() && options.text.empty()) {
    return absl::InvalidArgumentError("wanted a text: give --file=PATH, --file=- or --text");
  }
  if (!options.file.empty() && !options.text.empty()) {
    return absl::InvalidArgumentError("--file and --text: give one of them");
  }
  return absl::OkStatus();
}

int RunPerplexityCommand(Options& options, std::vector<std::string> arguments) {
  if (const absl::Status status = CheckSource(options); !status.ok()) {
    return IsFirstRank() ? ReportStatus(status) : kExitBadInput;
  }
  if (options.file == "-" && !StartedByLauncher()) {
    options.text.assign(std::istreambuf_iterator<char>(std::cin), {});
    options.file.clear();
    // The ranks have no standard input: they get the text itself.
    arguments.insert(arguments.end(), {"--file", "", "--text", options.text});
  }
  RanksCommand command;
  command.quiet = options.quiet;
  command.arguments = std::move(arguments);
  command.check = [&](const PreparedModel& model) { return Check(options, model); };
  command.run = [&](RankSession& session) { return Measure(options, session); };
  return RunOnRanks(options.model, command);
}

}  // namespace

Command MakePerplexityCommand(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* command =
      app.add_subcommand("perplexity", "How well a model foretells a text; for comparing weights");
  auto options = std::make_shared<Options>();
  options->model.default_context = kWindow;
  options->model.logit_rows = kLogitRows;
  command
      ->add_option("--file", options->file, "The text, as a file; - reads it from standard input")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command->add_option("--text", options->text, "The text itself")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command
      ->add_option("--stride", options->stride,
                   "A window of --context tokens begins every so many [--context]")
      ->check(CLI::Range(1, 1 << 30));
  command
      ->add_option("--skip", options->skip,
                   "Tokens at the start of a window that are not scored [half of it]")
      ->check(CLI::Range(0, 1 << 30));
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_flag("--quiet", options->quiet, "Nothing on standard error but errors");
  AddPlanOptions(*command, options->model);
  AddRunOptions(*command, options->model);
  return {command, [options, arguments] { return RunPerplexityCommand(*options, arguments); }};
}

}  // namespace tprun
