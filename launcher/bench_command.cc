#include <algorithm>
#include <memory>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "comm/all_reduce_benchmark.h"
#include "launcher/commands.h"
#include "launcher/model_options.h"
#include "launcher/ranks.h"
#include "launcher/report.h"
#include "launcher/terminal.h"
#include "topology/topology.h"

namespace tprun {
namespace {

struct BenchOptions {
  ModelOptions model;
  int64_t prompt_tokens = 512;
  int64_t tokens = 64;
  int repeats = 5;
  std::string format = "text";
};

struct BenchResult {
  double bandwidth = 0;        // bytes/s that all ranks together read from memory
  double prefill_seconds = 0;  // of prompt_tokens, median
  double decode_seconds = 0;   // per token, median
  double decode_fastest = 0;
  int64_t weight_bytes_per_token = 0;  // of all ranks
  int64_t kv_bytes_per_token = 0;      // at the middle of the measured positions
  AllReduceTimings all_reduce;         // of one token's activations
  double load_seconds = 0;
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The same tokens on every rank.
std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab) {
  std::minstd_rand random(1);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

absl::StatusOr<double> TimePrefill(RankSession& session, const std::vector<int32_t>& tokens) {
  RETURN_IF_ERROR(session.world().Barrier());
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(session.engine().Forward(tokens, 0, 0));
  RETURN_IF_ERROR(session.world().Barrier());
  return absl::ToDoubleSeconds(absl::Now() - start);
}

absl::Status TimeDecode(RankSession& session, const BenchOptions& options,
                        const std::vector<int32_t>& tokens, BenchResult& result) {
  std::vector<double> seconds;
  for (int64_t i = 0; i < options.tokens * options.repeats; ++i) {
    const int64_t position = options.prompt_tokens + i % options.tokens;
    const absl::Time start = absl::Now();
    RETURN_IF_ERROR(session.engine().Forward({&tokens[i % tokens.size()], 1}, position, 0));
    // The step ends when rank 0 has the logits and all know the next token.
    int32_t next = 0;
    RETURN_IF_ERROR(session.world().Broadcast(&next, sizeof(next), 0));
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  result.decode_seconds = Median(seconds);
  result.decode_fastest = *std::min_element(seconds.begin(), seconds.end());
  return absl::OkStatus();
}

void CountBytes(const RankSession& session, const BenchOptions& options, BenchResult& result) {
  const PreparedModel& model = session.model();
  const int64_t depth = options.prompt_tokens + options.tokens / 2;
  const auto kv_size = static_cast<int64_t>(SizeOf(model.plan.options.kv_type));
  for (int block = 0; block < static_cast<int>(model.plan.placements.size()); ++block) {
    const Placement& placement = model.plan.placements[block];
    for (int i = 0; i < static_cast<int>(placement.ranks.size()); ++i) {
      result.weight_bytes_per_token += BlockBytesPerToken(model.spec, block, placement, i);
      if (model.spec.blocks[block].kind != BlockKind::kAttention) continue;
      const int64_t head_dim = model.spec.layers[model.spec.blocks[block].layer].attention.head_dim;
      const int64_t kv_heads = KvHeads(model.spec, block, placement, i).size();
      result.kv_bytes_per_token += 2 * depth * kv_heads * head_dim * kv_size;
    }
  }
}

absl::StatusOr<BenchResult> Measure(RankSession& session, const BenchOptions& options) {
  BenchResult result;
  result.load_seconds = session.load_seconds();
  RETURN_IF_ERROR(session.world().Barrier());
  // All ranks read at the same time, as they do in decode.
  ASSIGN_OR_RETURN(const std::vector<double> bandwidths,
                   GatherDoubles(session.world(), MeasureMemoryBandwidth(session.threads())));
  for (double bandwidth : bandwidths) result.bandwidth += bandwidth;
  const std::vector<int32_t> tokens =
      RandomTokens(options.prompt_tokens, session.model().spec.vocab);
  std::vector<double> prefill;
  for (int i = 0; i < options.repeats + 1; ++i) {
    ASSIGN_OR_RETURN(const double seconds, TimePrefill(session, tokens));
    if (i > 0) prefill.push_back(seconds);  // the first one warms up
  }
  result.prefill_seconds = Median(prefill);
  RETURN_IF_ERROR(TimeDecode(session, options, tokens, result));
  if (session.world().size() > 1) {
    const int64_t bytes = session.model().spec.dim * static_cast<int64_t>(sizeof(float));
    ASSIGN_OR_RETURN(result.all_reduce, MeasureAllReduce(session.world(), bytes, 1000));
  }
  CountBytes(session, options, result);
  return result;
}

// What the reports say, computed once.
struct BenchFigures {
  double prefill_rate, decode_rate, read_rate, bandwidth_fraction;
  int64_t bytes_per_token;
};

BenchFigures FiguresOf(const BenchResult& result, const BenchOptions& options) {
  BenchFigures figures;
  figures.bytes_per_token = result.weight_bytes_per_token + result.kv_bytes_per_token;
  figures.prefill_rate = static_cast<double>(options.prompt_tokens) / result.prefill_seconds;
  figures.decode_rate = 1 / result.decode_seconds;
  figures.read_rate = static_cast<double>(figures.bytes_per_token) / result.decode_seconds;
  figures.bandwidth_fraction = result.bandwidth > 0 ? figures.read_rate / result.bandwidth : 0;
  return figures;
}

std::string BenchText(RankSession& session, const BenchOptions& options,
                      const BenchResult& result) {
  const BenchFigures figures = FiguresOf(result, options);
  const Plan& plan = session.model().plan;
  std::string text = absl::StrFormat(
      "%s, %s parameters; %d rank%s, %d thread%s each, %s kernels, KV cache %s\n", plan.model_name,
      FormatCount(plan.parameters), plan.world_size(), plan.world_size() == 1 ? "" : "s",
      session.threads(), session.threads() == 1 ? "" : "s", session.kernels().name(),
      DTypeName(plan.options.kv_type));
  absl::StrAppendFormat(&text, "  load              %s\n", FormatDuration(result.load_seconds));
  absl::StrAppendFormat(&text, "  memory bandwidth  %s read, measured by all ranks at once\n",
                        FormatBandwidth(result.bandwidth));
  absl::StrAppendFormat(&text, "  prefill           %.1f tokens/s (%d tokens, median of %d)\n",
                        figures.prefill_rate, options.prompt_tokens, options.repeats);
  absl::StrAppendFormat(
      &text, "  decode            %.2f tokens/s (median of %d steps at depth %d)\n",
      figures.decode_rate, options.tokens * options.repeats, options.prompt_tokens);
  absl::StrAppendFormat(&text, "  read per token    %s weights + %s KV cache\n",
                        FormatBytes(result.weight_bytes_per_token),
                        FormatBytes(result.kv_bytes_per_token));
  absl::StrAppendFormat(&text, "  decode reads      %s = %.1f %% of the measured bandwidth\n",
                        FormatBandwidth(figures.read_rate), 100 * figures.bandwidth_fraction);
  if (session.world().size() > 1) {
    absl::StrAppendFormat(&text, "  all-reduce        p50 %s, p99 %s (%s, %s)\n",
                          FormatDuration(result.all_reduce.p50_s),
                          FormatDuration(result.all_reduce.p99_s),
                          FormatBytes(session.model().spec.dim * 4), session.world().backend());
  }
  return text;
}

std::string BenchJson(RankSession& session, const BenchOptions& options,
                      const BenchResult& result) {
  const BenchFigures figures = FiguresOf(result, options);
  const Plan& plan = session.model().plan;
  const Json json = {{"model", plan.model_name},
                     {"parameters", plan.parameters},
                     {"ranks", plan.world_size()},
                     {"threads_per_rank", session.threads()},
                     {"kernels", std::string(session.kernels().name())},
                     {"backend", std::string(session.world().backend())},
                     {"kv_type", std::string(DTypeName(plan.options.kv_type))},
                     {"prompt_tokens", options.prompt_tokens},
                     {"load_seconds", result.load_seconds},
                     {"memory_bandwidth_bytes_per_s", result.bandwidth},
                     {"prefill_tokens_per_s", figures.prefill_rate},
                     {"decode_tokens_per_s", figures.decode_rate},
                     {"decode_fastest_seconds", result.decode_fastest},
                     {"weight_bytes_per_token", result.weight_bytes_per_token},
                     {"kv_bytes_per_token", result.kv_bytes_per_token},
                     {"decode_read_bytes_per_s", figures.read_rate},
                     {"fraction_of_bandwidth", figures.bandwidth_fraction},
                     {"all_reduce_p50_seconds", result.all_reduce.p50_s},
                     {"all_reduce_p99_seconds", result.all_reduce.p99_s}};
  return json.dump(2) + "\n";
}

absl::Status CheckBench(const BenchOptions& options, const PreparedModel& model) {
  RETURN_IF_ERROR(CheckOneSequence(model.plan));
  const int64_t needed = options.prompt_tokens + options.tokens;
  if (needed <= model.plan.options.context) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--prompt_tokens and --tokens need a context of ",
                                                 needed, ", but it is ", model.plan.options.context,
                                                 ": give a larger --context or fewer tokens"));
}

absl::Status RunBench(const BenchOptions& options, RankSession& session) {
  RETURN_IF_ERROR(ReportMemory(session));
  ASSIGN_OR_RETURN(const BenchResult result, Measure(session, options));
  if (!session.first_rank()) return absl::OkStatus();
  return WriteResult(options.format == "json" ? BenchJson(session, options, result)
                                              : BenchText(session, options, result));
}

}  // namespace

Command MakeBenchCommand(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure prefill and decode speed; a bare config.json runs with random weights");
  auto options = std::make_shared<BenchOptions>();
  command->add_option("--prompt_tokens", options->prompt_tokens, "Tokens of the prefill")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--tokens", options->tokens, "Tokens of the decode")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--repeats", options->repeats, "How often each is measured")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  AddPlanOptions(*command, options->model);
  AddRunOptions(*command, options->model);
  return {command, [options, arguments] {
            RanksCommand ranks;
            ranks.arguments = arguments;
            ranks.check = [&](const PreparedModel& model) { return CheckBench(*options, model); };
            ranks.run = [&](RankSession& session) { return RunBench(*options, session); };
            return RunOnRanks(options->model, ranks);
          }};
}

}  // namespace tprun
