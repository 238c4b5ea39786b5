#include <memory>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "launcher/commands.h"
#include "launcher/exit_code.h"
#include "launcher/model_options.h"
#include "launcher/terminal.h"
#include "topology/format_topology.h"
#include "topology/topology.h"

namespace tprun {
namespace {

struct TopoOptions {
  std::string format = "text";
  std::string from;
  std::string output;
  bool measure = false;
};

absl::Status Measure(Topology& topology) {
  for (DeviceInfo& device : topology.devices) {
    if (device.kind != DeviceKind::kCpu) continue;
    device.memory_bandwidth_bytes_per_s = MeasureMemoryBandwidth(device.threads);
    device.bandwidth_measured = true;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Render(const Topology& topology, const TopoOptions& options) {
  if (options.format == "json") return TopologyJson(topology).dump(2) + "\n";
  if (options.format == "svg") return TopologySvg(topology);
  if (options.format == "yaml") return TopologyYaml(topology);
  return TopologyText(topology, options.output.empty() && UseColor());
}

absl::Status RunTopo(const TopoOptions& options) {
  if (options.measure && !options.from.empty()) {
    return absl::InvalidArgumentError("--measure measures this machine: leave it or --from out");
  }
  ASSIGN_OR_RETURN(Topology topology,
                   options.from.empty() ? DetectTopology() : ReadTopologyFile(options.from));
  if (options.measure) RETURN_IF_ERROR(Measure(topology));
  ASSIGN_OR_RETURN(const std::string text, Render(topology, options));
  if (!options.output.empty()) return WriteFile(options.output, text);
  return WriteResult(text);
}

}  // namespace

Command MakeTopoCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("topo", "Show the machine: CPUs, memory, GPUs, links");
  auto options = std::make_shared<TopoOptions>();
  command->add_option("--format", options->format, "text, json, svg, yaml (a cluster file)")
      ->check(CLI::IsMember({"text", "json", "svg", "yaml"}))
      ->capture_default_str();
  command
      ->add_option("--from", options->from,
                   "Read a cluster file (see clusters/README.md) or a capture instead")
      ->check(NotEmpty());
  command->add_option("--output", options->output, "Write to this file")->check(NotEmpty());
  command->add_flag("--measure", options->measure, "Measure the memory bandwidth (a second)");
  return {command, [options] { return ReportStatus(RunTopo(*options)); }};
}

}  // namespace tprun
