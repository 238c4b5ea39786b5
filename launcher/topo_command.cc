#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/measure.h"
#include "launcher/model_options.h"
#include "launcher/terminal.h"
#include "topology/derived_json.h"
#include "topology/format_topology.h"
#include "topology/topology.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

struct TopoOptions {
  std::string format;  // "": by the name of the output
  std::vector<std::string> from;
  std::string output;
  bool measure = false;
  std::string measured_rank;
};

std::string FormatOf(const TopoOptions& options) {
  if (!options.format.empty()) return options.format;
  for (const auto& [extension, format] : {std::pair(".yaml", "yaml"), std::pair(".yml", "yaml"),
                                          std::pair(".json", "json"), std::pair(".svg", "svg")}) {
    if (absl::EndsWith(options.output, extension)) return format;
  }
  return "text";
}

absl::StatusOr<std::string> Render(const Topology& topology, const TopoOptions& options) {
  const std::string format = FormatOf(options);
  if (format == "json") {
    Json json = TopologyJson(topology);
    json["derived"] = DerivedJson(topology);
    return json.dump(2) + "\n";
  }
  if (format == "svg") return TopologySvg(topology);
  if (format == "yaml") return TopologyYaml(topology);
  return TopologyText(topology, options.output.empty() && UseColor());
}

absl::StatusOr<Topology> ReadNamed(const std::vector<std::string>& files) {
  absl::StatusOr<Topology> topology = ReadTopologyFiles(files);
  if (!topology.ok()) return Annotate(topology.status(), "--from");
  return topology;
}

// What leaves this machine tells where it is from.
void NameCapture(const TopoOptions& options, Topology& topology) {
  if (options.output.empty() && FormatOf(options) == "text") return;
  if (!topology.hosts.empty()) topology.source = "capture of " + topology.hosts.front().name;
}

absl::Status RunTopo(const TopoOptions& options) {
  if (!options.measured_rank.empty()) return RunMeasuredRank(options.measured_rank);
  if (options.measure && !options.from.empty()) {
    return absl::InvalidArgumentError("--measure measures this machine: leave it or --from out");
  }
  ASSIGN_OR_RETURN(Topology topology,
                   options.from.empty() ? DetectTopology() : ReadNamed(options.from));
  if (options.measure) {
    MeasureMachine(topology, [](const std::string& what) {
      WriteLog(absl::StrCat("tprun: measuring ", what, " ..."));
    });
  }
  if (options.from.empty()) NameCapture(options, topology);
  ASSIGN_OR_RETURN(const std::string text, Render(topology, options));
  if (!options.output.empty()) return Annotate(WriteFile(options.output, text), "--output");
  return WriteResult(text);
}

}  // namespace

Command MakeTopoCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("topo", "Show the machine: CPUs, memory, GPUs, links");
  auto options = std::make_shared<TopoOptions>();
  command
      ->add_option("--format", options->format,
                   "text, json, svg, yaml (a cluster file); by default that of --output's "
                   "extension, else text")
      ->check(CLI::IsMember({"text", "json", "svg", "yaml"}));
  command
      ->add_option("--from", options->from,
                   "Read this file (- for standard input) instead of this machine; given several "
                   "times, the files are about one machine and joined, the first going before")
      ->check(NotEmpty())
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--output", options->output, "Write to this file")->check(NotEmpty());
  command->add_flag("--measure", options->measure,
                    "Measure memory bandwidth, matrix products, copies and links, and write to and "
                    "read back from every GPU's peers; takes seconds");
  command->add_option("--measured_rank", options->measured_rank)->group("");  // see measure.h
  return {command, [options] { return ReportStatus(RunTopo(*options)); }};
}

}  // namespace tprun
