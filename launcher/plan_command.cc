#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "launcher/codec_plan.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/prepare.h"
#include "launcher/terminal.h"
#include "partition/export.h"

namespace tprun {
namespace {

struct PlanOptions {
  ModelOptions model;
  std::string format = "text";
  std::string output;
  bool explain = false;
};

using Renderer = absl::StatusOr<std::string> (*)(const PreparedModel&, const PlanOptions&);

// llama.cpp reads GGUF files only: for another model's folder the one to convert it to.
std::string GgufFileOf(const std::string& model) {
  if (absl::EndsWith(model, ".gguf")) return model;
  std::error_code ignored;
  const std::filesystem::path path = std::filesystem::weakly_canonical(model, ignored);
  const std::filesystem::path folder = IsDirectory(model) ? path : path.parent_path();
  const std::string file = folder.filename().string() + ".gguf";
  WriteLog(absl::StrCat("llama.cpp reads GGUF files: make ", file, " of the model first (`tprun ",
                        "convert`, or llama.cpp's own)"));
  return file;
}

// What --format may ask for.
std::map<std::string, Renderer> Renderers() {
  return {
      {"text",
       [](const PreparedModel& m, const PlanOptions& o) -> absl::StatusOr<std::string> {
         return PlanText(m.plan, m.spec, o.output.empty() && UseColor(), o.explain);
       }},
      {"json",
       [](const PreparedModel& m, const PlanOptions&) -> absl::StatusOr<std::string> {
         return PlanToJson(m.plan, m.spec);
       }},
      {"svg",
       [](const PreparedModel& m, const PlanOptions&) -> absl::StatusOr<std::string> {
         return PlanSvg(m.plan, m.spec);
       }},
      {"device-map",
       [](const PreparedModel& m, const PlanOptions&) { return PlanDeviceMap(m.plan, m.spec); }},
      {"python", [](const PreparedModel& m,
                    const PlanOptions&) { return PlanPythonDeviceMap(m.plan, m.spec); }},
      {"llama.cpp",
       [](const PreparedModel& m, const PlanOptions& o) {
         return PlanLlamaCppArguments(m.plan, m.spec, GgufFileOf(o.model.model));
       }},
      {"vllm", [](const PreparedModel& m,
                  const PlanOptions& o) { return PlanVllmCommand(m.plan, m.spec, o.model.model); }},
      {"rankfile",
       [](const PreparedModel& m, const PlanOptions&) -> absl::StatusOr<std::string> {
         return PlanMpiRankfile(m.plan);
       }},
      {"hostfile",
       [](const PreparedModel& m, const PlanOptions&) { return PlanMpiHostfile(m.plan); }}};
}

std::vector<std::string> Formats() {
  std::vector<std::string> names;
  for (const auto& [name, renderer] : Renderers()) names.push_back(name);
  return names;
}

absl::Status Show(const PlanOptions& options, const std::string& text) {
  return options.output.empty() ? WriteResult(text)
                                : Annotate(WriteFile(options.output, text), "--output");
}

absl::Status RunCodecPlan(const PlanOptions& options, const Json& config) {
  if (options.format != "text") {
    return absl::InvalidArgumentError(
        absl::StrCat("--format=", options.format, ": a codec has no layers to lay out, only text"));
  }
  ASSIGN_OR_RETURN(const CodecPlan plan, PlanCodec(config, options.model));
  RETURN_IF_ERROR(Show(options, plan.text));
  return plan.fits;
}

// The plan is shown also when it does not fit; the exit code tells.
absl::Status RunPlan(PlanOptions options, const CLI::Option& batch) {
  if (const absl::optional<Json> codec = FindCodecConfig(options.model.model)) {
    return RunCodecPlan(options, *codec);
  }
  options.model.choose_batch = batch.count() == 0;
  options.model.allow_long_context = true;  // what others would allocate is told, with a note
  ASSIGN_OR_RETURN(const PreparedModel model, PrepareModel(options.model, {}));
  if (!model.note.empty()) WriteLog(model.note);
  ASSIGN_OR_RETURN(const std::string text, Renderers().at(options.format)(model, options));
  RETURN_IF_ERROR(Show(options, text));
  return CheckFits(model.plan);
}

}  // namespace

Command MakePlanCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plan", "Plan who holds which part of a model, with exact bytes; needs no weights");
  auto options = std::make_shared<PlanOptions>();
  AddPlanOptions(*command, options->model);
  command
      ->add_option(
          "--format", options->format,
          "text; json (plan.json, for tprun run --plan); svg; for others: device-map, "
          "python (both Hugging Face), llama.cpp, vllm, rankfile, hostfile (both Open MPI)")
      ->check(CLI::IsMember(Formats()))
      ->capture_default_str();
  command->add_option("--output", options->output, "Write to this file")->check(NotEmpty());
  command->add_flag("--explain", options->explain,
                    "Also which layers and shares each rank has, and what the figures rest on");
  const CLI::Option* batch = command->get_option("--batch");
  return {command, [options, batch] { return ReportStatus(RunPlan(*options, *batch)); }};
}

}  // namespace tprun
