#include <memory>

#include "base/file.h"
#include "base/status_macros.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/prepare.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

struct PlanOptions {
  ModelOptions model;
  std::string format = "text";
  std::string output;
};

absl::StatusOr<std::string> Render(const PreparedModel& model, const PlanOptions& options) {
  if (options.format == "json") return PlanToJson(model.plan, model.spec);
  if (options.format == "svg") return PlanSvg(model.plan, model.spec);
  if (options.format == "device-map") return PlanDeviceMap(model.plan, model.spec);
  return PlanText(model.plan, model.spec, options.output.empty() && UseColor());
}

// The plan is shown also when it does not fit; the exit code tells.
absl::Status RunPlan(const PlanOptions& options) {
  ASSIGN_OR_RETURN(const PreparedModel model, PrepareModel(options.model, {}));
  ASSIGN_OR_RETURN(const std::string text, Render(model, options));
  if (!options.output.empty()) {
    RETURN_IF_ERROR(WriteFile(options.output, text));
  } else {
    RETURN_IF_ERROR(WriteResult(text));
  }
  return CheckFits(model.plan);
}

}  // namespace

Command MakePlanCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plan", "Plan who holds which part of a model, with exact bytes; needs no weights");
  auto options = std::make_shared<PlanOptions>();
  AddPlanOptions(*command, options->model);
  command
      ->add_option("--format", options->format,
                   "text, json (plan.json, for tprun run --plan), device-map (Hugging Face), svg")
      ->check(CLI::IsMember({"text", "json", "device-map", "svg"}))
      ->capture_default_str();
  command->add_option("--output", options->output, "Write to this file")->check(NotEmpty());
  return {command, [options] { return ReportStatus(RunPlan(*options)); }};
}

}  // namespace tprun
