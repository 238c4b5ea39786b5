#include "launcher/bench_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/json.h"
#include "base/units.h"

namespace tprun {
namespace {

// What the reports say, computed once.
struct BenchFigures {
  double prefill_rate, decode_rate, read_rate, bandwidth_fraction;
};

BenchFigures FiguresOf(const BenchResult& result, const BenchSizes& sizes) {
  BenchFigures figures;
  const int64_t bytes = result.weight_bytes_per_step + result.kv_bytes_per_step;
  figures.prefill_rate =
      static_cast<double>(sizes.batch * sizes.prompt_tokens) / result.prefill_seconds;
  figures.decode_rate = sizes.batch / result.step_seconds;
  figures.read_rate = static_cast<double>(bytes) / result.step_seconds;
  figures.bandwidth_fraction = result.bandwidth() > 0 ? figures.read_rate / result.bandwidth() : 0;
  return figures;
}

std::string Plural(int64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

}  // namespace

std::string BenchText(RankSession& session, const BenchSizes& sizes, const BenchResult& result) {
  const BenchFigures figures = FiguresOf(result, sizes);
  const Plan& plan = session.model().plan;
  const std::string of_batch =
      sizes.batch == 1 ? "" : absl::StrCat(", ", sizes.batch, " sequences at once");
  std::string text = absl::StrFormat(
      "%s, %s parameters; %s, %s each, %s kernels, KV cache %s\n", plan.model_name,
      FormatCount(plan.parameters), Plural(plan.world_size(), "rank"),
      Plural(session.threads(), "thread"), session.kernels().name(), KvTypeName(plan.options));
  absl::StrAppendFormat(
      &text, "  load              %s = %s; first token %s after the start of the process\n",
      FormatDuration(result.load_seconds),
      FormatBandwidth(static_cast<double>(result.loaded_bytes) / result.load_seconds),
      FormatDuration(result.first_token_seconds));
  absl::StrAppendFormat(&text,
                        "  memory bandwidth  %s %s, measured by all ranks at once (%s before the "
                        "decode, %s after)\n",
                        FormatBandwidth(result.bandwidth()),
                        session.device().host_accessible() ? "read" : "copied (read + written)",
                        FormatBandwidth(result.bandwidth_before),
                        FormatBandwidth(result.bandwidth_after));
  absl::StrAppendFormat(
      &text, "  prefill           %.1f tokens/s (%d tokens%s, median of %d)\n",
      figures.prefill_rate, sizes.prompt_tokens,
      sizes.batch == 1 ? "" : absl::StrCat(" of each of ", sizes.batch, " sequences"),
      sizes.repeats);
  absl::StrAppendFormat(
      &text, "  decode            %.2f tokens/s (median of %d steps at depth %d%s)\n",
      figures.decode_rate, sizes.tokens * sizes.repeats, sizes.prompt_tokens, of_batch);
  absl::StrAppendFormat(
      &text, "  read per %s    %s weights + %s KV cache\n", sizes.batch == 1 ? "token" : "step ",
      FormatBytes(result.weight_bytes_per_step), FormatBytes(result.kv_bytes_per_step));
  absl::StrAppendFormat(&text, "  decode reads      %s = %.1f %% of the measured bandwidth\n",
                        FormatBandwidth(figures.read_rate), 100 * figures.bandwidth_fraction);
  if (session.world().size() > 1) {
    const double in_graph = result.all_reduce.in_graph_s;
    absl::StrAppendFormat(
        &text, "  all-reduce        p50 %s, p99 %s%s (%s, %s)\n",
        FormatDuration(result.all_reduce.p50_s), FormatDuration(result.all_reduce.p99_s),
        in_graph > 0 ? absl::StrCat(", in a graph ", FormatDuration(in_graph)) : "",
        FormatBytes(sizes.batch * session.model().spec.dim * 4), session.exchange().backend());
  }
  if (result.profile.has_value()) absl::StrAppend(&text, ProfileText(*result.profile));
  return text;
}

std::string CalibrationText(const Coefficients& coefficients, const std::string& path,
                            bool used_by_default) {
  std::string text =
      "part of a device's rates that kernels reach (weights or cache from memory; "
      "arithmetic)\n";
  for (const auto& [device, bandwidth] : coefficients.bandwidth_bytes_per_s) {
    absl::StrAppend(&text, device, ", ", FormatBandwidth(bandwidth), "\n");
    for (const EfficiencyRule& rule : coefficients.rules) {
      if (rule.device != device) continue;
      absl::StrAppendFormat(&text, "  %-9s  %-8s  %5.1f %%  %5.1f %%\n", rule.family, rule.format,
                            100 * rule.efficiency.memory, 100 * rule.efficiency.compute);
    }
  }
  absl::StrAppend(&text, "written to ", path,
                  used_by_default ? "; plans use it from now on\n"
                                  : absl::StrCat("; plans use it with --calibration=", path, "\n"));
  return text;
}

std::string BenchJson(RankSession& session, const BenchSizes& sizes, const BenchResult& result) {
  const BenchFigures figures = FiguresOf(result, sizes);
  const Plan& plan = session.model().plan;
  Json json = {{"model", plan.model_name},
               {"parameters", plan.parameters},
               {"ranks", plan.world_size()},
               {"threads_per_rank", session.threads()},
               {"kernels", std::string(session.kernels().name())},
               {"backend", std::string(session.world().backend())},
               {"exchange", std::string(session.exchange().backend())},
               {"kv_type", std::string(KvTypeName(plan.options))},
               {"batch", sizes.batch},
               {"prompt_tokens", sizes.prompt_tokens},
               {"load_seconds", result.load_seconds},
               {"loaded_bytes", result.loaded_bytes},
               {"first_token_seconds", result.first_token_seconds},
               {"memory_bandwidth_bytes_per_s", result.bandwidth()},
               {"memory_bandwidth_before_decode_bytes_per_s", result.bandwidth_before},
               {"memory_bandwidth_after_decode_bytes_per_s", result.bandwidth_after},
               {"prefill_tokens_per_s", figures.prefill_rate},
               {"decode_tokens_per_s", figures.decode_rate},
               {"decode_step_seconds", result.step_seconds},
               {"decode_fastest_seconds", result.fastest_step_seconds},
               {"weight_bytes_per_step", result.weight_bytes_per_step},
               {"kv_bytes_per_step", result.kv_bytes_per_step},
               {"decode_read_bytes_per_s", figures.read_rate},
               {"fraction_of_bandwidth", figures.bandwidth_fraction},
               {"all_reduce_p50_seconds", result.all_reduce.p50_s},
               {"all_reduce_p99_seconds", result.all_reduce.p99_s},
               {"all_reduce_in_graph_seconds", result.all_reduce.in_graph_s}};
  if (result.profile.has_value()) json["profile_of_rank_0"] = ProfileJson(*result.profile);
  return json.dump(2) + "\n";
}

}  // namespace tprun
