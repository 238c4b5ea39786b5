#include <memory>

#include "base/status_macros.h"
#include "comm/device_probe.h"
#include "comm/mpi_communicator.h"
#include "launcher/commands.h"
#include "launcher/doctor_report.h"
#include "launcher/exit_code.h"
#include "launcher/measure.h"
#include "launcher/model_options.h"
#include "launcher/mpi_installations.h"
#include "launcher/spawn.h"
#include "launcher/terminal.h"
#include "topology/doctor.h"
#include "topology/doctor_facts.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

struct DoctorOptions {
  std::string format = "text";
  std::vector<std::string> from;
};

std::vector<std::string> GpuBusIds(const Topology& topology) {
  std::vector<std::string> ids;
  for (const DeviceInfo& device : topology.devices) {
    if (device.kind == DeviceKind::kGpu) ids.push_back(device.pci_bus_id);
  }
  return ids;
}

SoftwareFacts FindMpiSoftware() {
  SoftwareFacts software;
  software.mpi = MpiVersion();
  const std::string mpirun = FindMpirun();
  software.mpirun = mpirun.empty() ? "" : ResolvePath(mpirun);
  software.mpi_found = FindMpiInstallations();
  return software;
}

// The CUDA module, and with it whether every two GPUs reach each other's memory.
void AskCudaModule(SoftwareFacts& software, Topology& topology) {
  const absl::StatusOr<std::unique_ptr<DeviceProbe>> probe = OpenDeviceProbe();
  software.cuda_module = probe.ok();
  if (!probe.ok()) {
    software.cuda_module_problem = std::string(probe.status().message());
    return;
  }
  const ProbeVersions versions = (*probe)->versions();
  software.cuda_runtime = versions.runtime;
  software.nccl = versions.nccl;
  const std::vector<std::string> gpus = GpuBusIds(topology);
  if (gpus.size() < 2) return;
  WriteLog("tprun: every two GPUs write to each other ...");
  VerifyPeerAccess(**probe, topology);
}

absl::StatusOr<DoctorFacts> GatherFacts(const DoctorOptions& options) {
  DoctorFacts facts;
  if (!options.from.empty()) {
    absl::StatusOr<Topology> topology = ReadTopologyFiles(options.from);
    if (!topology.ok()) return Annotate(topology.status(), "--from");
    facts.topology = *std::move(topology);
    return facts;
  }
  ASSIGN_OR_RETURN(facts.topology, DetectTopology());
  const GpuSource source = GpuSource::OfEnvironment();
  facts.health = ReadGpuHealth(source);
  facts.driver = ReadDriverFacts(source);
  facts.system = ReadSystemFacts(GpuBusIds(facts.topology));
  facts.software = FindMpiSoftware();
  AskCudaModule(*facts.software, facts.topology);
  return facts;
}

int RunDoctor(const DoctorOptions& options) {
  const absl::StatusOr<DoctorFacts> facts = GatherFacts(options);
  if (!facts.ok()) return ReportStatus(facts.status());
  const std::vector<Finding> findings = Diagnose(*facts);
  const std::string text = options.format == "json"
                               ? FindingsJson(findings).dump(2) + "\n"
                               : FindingsText(findings, StdoutColumns(), UseColor());
  const absl::Status written = WriteResult(text);
  if (!written.ok()) return ReportStatus(written);
  return WorstOf(findings) == Severity::kProblem ? kExitFailed : kExitOk;
}

}  // namespace

Command MakeDoctorCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "doctor",
      "Check this machine and say what to do about what is wrong. Looks at driver, CUDA, NCCL, "
      "MPI,\nPCIe and NVLink links, peer access between GPUs (written and read back), memory held "
      "by others,\nNUMA, /dev/shm, huge pages, limits of ulimit and container, clocks and memory "
      "errors");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("--format", options->format, "text, json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  command
      ->add_option("--from", options->from,
                   "Check what this file tells of another machine instead; several are joined")
      ->check(NotEmpty())
      ->take_all()
      ->allow_extra_args(false);
  return {command, [options] { return RunDoctor(*options); }};
}

}  // namespace tprun
