#include <algorithm>
#include <memory>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "launcher/bench_report.h"
#include "launcher/calibrate.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/process_time.h"
#include "launcher/ranks.h"
#include "launcher/record_residual.h"
#include "launcher/report.h"
#include "launcher/terminal.h"
#include "launcher/user_state.h"
#include "partition/calibration.h"
#include "topology/topology.h"

namespace tprun {
namespace {

struct BenchOptions {
  ModelOptions model;
  BenchSizes sizes;
  int64_t prompt_tokens = 0;  // 0: nothing asked for
  std::string format = "text";
  bool calibrate = false;
  std::string output;  // of the calibration
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The same tokens on every rank, [sequences, count].
std::vector<std::vector<int32_t>> RandomTokens(int sequences, int64_t count, int64_t vocab) {
  std::minstd_rand random(1);
  std::vector<std::vector<int32_t>> tokens(sequences, std::vector<int32_t>(count));
  for (auto& sequence : tokens) {
    for (int32_t& token : sequence) token = static_cast<int32_t>(random() % vocab);
  }
  return tokens;
}

absl::StatusOr<double> TimePrefill(RankSession& session,
                                   const std::vector<std::vector<int32_t>>& tokens) {
  std::vector<SequenceRun> runs;
  for (const auto& sequence : tokens) {
    runs.push_back({static_cast<int>(runs.size()), 0, sequence});
  }
  RETURN_IF_ERROR(session.world().Barrier());
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(session.engine().Forward(runs, ForwardOutput::kGreedy));
  RETURN_IF_ERROR(session.engine().Synchronize());
  RETURN_IF_ERROR(session.world().Barrier());
  return absl::ToDoubleSeconds(absl::Now() - start);
}

// One token of each sequence at once: a decode step, as greedy generation does it.
absl::Status TimeDecode(RankSession& session, const BenchSizes& sizes,
                        const std::vector<std::vector<int32_t>>& tokens, BenchResult& result) {
  std::vector<double> seconds;
  std::vector<int32_t> next(tokens.size());
  for (int64_t i = 0; i < sizes.tokens * sizes.repeats; ++i) {
    const int64_t position = sizes.prompt_tokens + i % sizes.tokens;
    // Going back is no matter here: times do not depend on what is in the cache.
    for (size_t s = 0; s < tokens.size(); ++s) session.engine().Forget(static_cast<int>(s));
    std::vector<SequenceRun> runs;
    for (size_t s = 0; s < tokens.size(); ++s) {
      const int32_t* token = &tokens[s][i % tokens[s].size()];
      runs.push_back({static_cast<int>(s), position, {token, 1}});
    }
    const absl::Time start = absl::Now();
    RETURN_IF_ERROR(session.engine().Forward(runs, ForwardOutput::kGreedy));
    // The step ends when all know the next tokens.
    if (session.first_rank()) {
      std::copy_n(session.engine().chosen_ids().begin(), next.size(), next.begin());
    }
    const auto bytes = static_cast<int64_t>(next.size() * sizeof(int32_t));
    RETURN_IF_ERROR(session.world().Broadcast(next.data(), bytes, 0));
    seconds.push_back(absl::ToDoubleSeconds(absl::Now() - start));
  }
  result.step_seconds = Median(seconds);
  result.fastest_step_seconds = *std::min_element(seconds.begin(), seconds.end());
  return absl::OkStatus();
}

void CountBytes(const RankSession& session, const BenchSizes& sizes, BenchResult& result) {
  const PreparedModel& model = session.model();
  const int64_t depth = sizes.prompt_tokens + sizes.tokens / 2;
  for (int block = 0; block < static_cast<int>(model.plan.placements.size()); ++block) {
    const Placement& placement = model.plan.placements[block];
    for (int i = 0; i < static_cast<int>(placement.ranks.size()); ++i) {
      result.weight_bytes_per_step += BlockBytesPerToken(model.spec, block, placement, i);
      if (model.spec.blocks[block].kind != BlockKind::kAttention) continue;
      const AttentionSpec& attention = model.spec.layers[model.spec.blocks[block].layer].attention;
      const int64_t read = attention.window > 0 ? std::min(attention.window, depth) : depth;
      const int64_t kv_heads = KvHeads(model.spec, block, placement, i).size();
      const auto row = [&](int64_t elements) { return KvRowBytes(model.plan.options, elements); };
      const int64_t per_position =
          attention.is_latent() ? (kv_heads > 0 ? row(attention.latent_cache()) : 0)
                                : kv_heads * (row(attention.head_dim) + row(attention.values()));
      result.kv_bytes_per_step += read * per_position * sizes.batch;
    }
  }
}

// Bytes per second that the rank's device reads from its memory.
absl::StatusOr<double> MemoryBandwidth(RankSession& session) {
  if (session.device().host_accessible()) return MeasureMemoryBandwidth(session.threads());
  ASSIGN_OR_RETURN(const int64_t free, session.device().FreeMemory());
  return session.device().MeasureCopyBandwidth(std::min<int64_t>(int64_t{1} << 29, free / 4));
}

// The same of each rank. All read at the same time, as they do in decode.
absl::StatusOr<std::vector<double>> BandwidthOfRanks(RankSession& session) {
  RETURN_IF_ERROR(session.world().Barrier());
  const absl::StatusOr<double> own = MemoryBandwidth(session);
  return GatherDoubles(session.world(), own.value_or(0));
}

absl::StatusOr<AllReduceTimings> TimeAllReduce(RankSession& session, int64_t bytes) {
  constexpr int kRounds = 1000;
  if (&session.exchange() == &session.world()) {
    return MeasureAllReduce(session.world(), bytes, kRounds);
  }
  return MeasureDeviceAllReduce(session.exchange(), session.device(), bytes, kRounds);
}

// What rank 0 has done since the last call, where it keeps a profile.
OpProfile::Ops TakeProfile(RankSession& session) {
  return session.profile() == nullptr ? OpProfile::Ops() : session.profile()->Take();
}

// Brings the first token out, and notes how long that took from the start of the process.
absl::Status TimeFirstToken(RankSession& session, const std::vector<std::vector<int32_t>>& tokens,
                            BenchResult& result) {
  result.load_seconds = session.load_seconds();
  ASSIGN_OR_RETURN(const std::vector<double> bytes,
                   GatherDoubles(session.world(), static_cast<double>(session.weight_bytes())));
  for (double of_rank : bytes) result.loaded_bytes += static_cast<int64_t>(of_rank);
  RETURN_IF_ERROR(TimePrefill(session, {{tokens[0][0]}}).status());
  result.first_token_seconds = SecondsSinceStart();
  return absl::OkStatus();
}

absl::StatusOr<BenchResult> Measure(RankSession& session, const BenchSizes& sizes) {
  BenchResult result;
  const auto tokens = RandomTokens(sizes.batch, sizes.prompt_tokens, session.model().spec.vocab);
  RETURN_IF_ERROR(TimeFirstToken(session, tokens, result));
  if (session.profile() != nullptr) {
    result.profile = BenchProfile{.peaks = cpu::MeasureCpuPeaks(session.pool()),
                                  .prefills = sizes.repeats,
                                  .steps = sizes.tokens * sizes.repeats};
  }
  std::vector<double> prefill;
  for (int i = 0; i < sizes.repeats + 1; ++i) {
    ASSIGN_OR_RETURN(const double seconds, TimePrefill(session, tokens));
    if (i > 0) prefill.push_back(seconds);  // the first one warms up
    if (i == 0) TakeProfile(session);
  }
  result.prefill_seconds = Median(prefill);
  if (result.profile.has_value()) result.profile->prefill = TakeProfile(session);
  ASSIGN_OR_RETURN(const std::vector<double> before, BandwidthOfRanks(session));
  RETURN_IF_ERROR(TimeDecode(session, sizes, tokens, result));
  ASSIGN_OR_RETURN(const std::vector<double> after, BandwidthOfRanks(session));
  result.bandwidth_before = std::accumulate(before.begin(), before.end(), 0.0);
  result.bandwidth_after = std::accumulate(after.begin(), after.end(), 0.0);
  if (result.profile.has_value()) {
    result.profile->bandwidth = (before[0] + after[0]) / 2;
    result.profile->decode = TakeProfile(session);
  }
  if (session.world().size() > 1) {
    const int64_t bytes =
        sizes.batch * session.model().spec.dim * static_cast<int64_t>(sizeof(float));
    ASSIGN_OR_RETURN(result.all_reduce, TimeAllReduce(session, bytes));
  }
  CountBytes(session, sizes, result);
  return result;
}

// Who does not say how long the prompt is gets one that the context holds.
BenchSizes SizesFor(const BenchOptions& options, const EngineOptions& plan) {
  BenchSizes sizes = options.sizes;
  sizes.batch = plan.batch;
  sizes.prompt_tokens = options.prompt_tokens > 0 ? options.prompt_tokens
                                                  : std::clamp<int64_t>(plan.context - sizes.tokens,
                                                                        1, sizes.prompt_tokens);
  return sizes;
}

absl::Status CheckBench(const BenchOptions& options, const PreparedModel& model) {
  const BenchSizes sizes = SizesFor(options, model.plan.options);
  const int64_t needed = sizes.prompt_tokens + sizes.tokens;
  if (needed <= model.plan.options.context) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--prompt_tokens and --tokens need a context of ",
                                                 needed, ", but it is ", model.plan.options.context,
                                                 ": give a larger --context or fewer tokens"));
}

absl::Status RunBench(const BenchOptions& options, RankSession& session) {
  RETURN_IF_ERROR(ReportMemory(session));
  const BenchSizes sizes = SizesFor(options, session.model().plan.options);
  ASSIGN_OR_RETURN(const BenchResult result, Measure(session, sizes));
  const MeasuredSpeeds speeds = {
      sizes.batch / result.step_seconds,
      static_cast<double>(sizes.batch * sizes.prompt_tokens) / result.prefill_seconds};
  RETURN_IF_ERROR(RecordResidual(session, options.model, "bench", speeds));
  if (!session.first_rank()) return absl::OkStatus();
  return WriteResult(options.format == "json" ? BenchJson(session, sizes, result)
                                              : BenchText(session, sizes, result));
}

// What this machine's devices reach, for plans.
absl::Status Calibrate(const BenchOptions& options) {
  if (!options.model.model.empty()) {
    return absl::InvalidArgumentError(
        "--calibrate measures this machine's devices: it takes no "
        "MODEL");
  }
  ASSIGN_OR_RETURN(Topology topology, DetectTopology());
  const auto tell = [](const std::string& what) {
    WriteLog(absl::StrCat("tprun: ", what, " ..."));
  };
  ASSIGN_OR_RETURN(Coefficients coefficients, CalibrateMachine(topology, tell));
  for (const DeviceInfo& device : topology.devices) {
    const double bandwidth = device.measured.memory_bandwidth_bytes_per_s;
    if (bandwidth > 0) coefficients.bandwidth_bytes_per_s[device.name] = bandwidth;
  }
  const std::string text = CoefficientsToJson(coefficients).dump(2) + "\n";
  std::string path = options.output;
  if (path.empty()) {
    ASSIGN_OR_RETURN(path, WriteStateFile("calibration.json", text));
  } else {
    RETURN_IF_ERROR(Annotate(WriteFile(path, text), "--output"));
  }
  return WriteResult(CalibrationText(coefficients, path, options.output.empty()));
}

}  // namespace

Command MakeBenchCommand(CLI::App& app, const std::vector<std::string>& arguments) {
  CLI::App* command = app.add_subcommand(
      "bench", "Measure prefill and decode speed; a bare config.json runs with random weights");
  auto options = std::make_shared<BenchOptions>();
  command
      ->add_option("--prompt_tokens", options->prompt_tokens,
                   "Tokens of the prefill, per sequence [512, fewer where the context is short]")
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--tokens", options->sizes.tokens, "Tokens of the decode, per sequence")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--repeats", options->sizes.repeats, "How often each is measured")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--format", options->format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command->add_flag("--profile", options->model.profile,
                    "Add where the time of rank 0 goes, op by op (CPU ranks)");
  command->add_flag("--calibrate", options->calibrate,
                    "Measure instead what kernels reach of this machine's devices, by weight "
                    "format, for later plans; takes seconds and no MODEL");
  command
      ->add_option(
          "--output", options->output,
          "Of --calibrate: write to this file [calibration.json of the state folder, which "
          "plans use by themselves]")
      ->check(NotEmpty());
  AddPlanOptions(*command, options->model);
  AddRunOptions(*command, options->model);
  command->get_option("MODEL")->required(false);
  return {command, [options, arguments] {
            if (options->calibrate) return ReportStatus(Calibrate(*options));
            if (options->model.model.empty()) {
              return ReportStatus(absl::InvalidArgumentError("bench: MODEL is required"));
            }
            RanksCommand ranks;
            ranks.arguments = arguments;
            ranks.check = [&](const PreparedModel& model) { return CheckBench(*options, model); };
            ranks.run = [&](RankSession& session) { return RunBench(*options, session); };
            return RunOnRanks(options->model, ranks);
          }};
}

}  // namespace tprun
