#include <cstdlib>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "topology/doctor_checks.h"

namespace tprun {
namespace {

std::string CardList(const std::vector<PciFunction>& cards) {
  return absl::StrJoin(cards, ", ", [](std::string* out, const PciFunction& card) {
    absl::StrAppend(out, card.bus_id, " (", card.pci_id, ")");
  });
}

Finding WithoutDriver(const DoctorFacts& facts, const DriverFacts& driver) {
  const std::string container =
      facts.system.has_value() && facts.system->in_container
          ? "start the container with --gpus all (NVIDIA Container Toolkit); "
          : "";
  if (absl::StrContains(driver.problem, "mismatch")) {
    return Problem("driver", "NVIDIA driver",
                   absl::StrCat("library and kernel module differ (kernel module ",
                                driver.kernel_version.empty() ? "unknown" : driver.kernel_version,
                                "): ", driver.problem),
                   "the driver was updated while its old module is loaded: reboot, or unload all "
                   "nvidia modules (`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia`)");
  }
  if (driver.cards.empty() && driver.kernel_version.empty()) {
    return Ok("driver", "NVIDIA driver", "none, and no NVIDIA GPU either: the CPU does the work");
  }
  for (const PciFunction& card : driver.cards) {
    if (card.driver == "nouveau") {
      return Problem(
          "driver", "NVIDIA driver",
          absl::StrCat("nouveau drives ", CardList(driver.cards), ": CUDA needs NVIDIA's"),
          "install the NVIDIA driver, which turns nouveau off, and reboot");
    }
  }
  return Problem("driver", "NVIDIA driver",
                 absl::StrCat("there is a GPU, ", CardList(driver.cards),
                              ", and its driver does not answer: ", driver.problem),
                 absl::StrCat(container,
                              "install the NVIDIA driver, or load it: `sudo modprobe "
                              "nvidia`; see `dmesg | grep -i nvrm`"));
}

// The version as a comparable number: "12.2" -> 12002.
int Version(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  int major = 0, minor = 0;
  if (parts.empty() || !absl::SimpleAtoi(parts[0], &major)) return 0;
  if (parts.size() > 1 && !absl::SimpleAtoi(parts[1], &minor)) return 0;
  return major * 1000 + minor;
}

std::string SoftwareOf(const DoctorFacts& facts, const std::string& what) {
  if (facts.topology.hosts.empty()) return "";
  const auto& software = facts.topology.hosts[0].software;
  const auto found = software.find(what);
  return found == software.end() ? "" : found->second;
}

std::string MpiFlavour(absl::string_view version) {
  if (absl::StrContains(version, "Open MPI")) return "Open MPI";
  if (absl::StrContains(version, "MPICH")) return "MPICH";
  if (absl::StrContains(version, "Intel")) return "Intel MPI";
  return std::string(version);
}

std::string Variable(const SystemFacts& system, const char* name) {
  const auto found = system.environment.find(name);
  return found == system.environment.end() ? "" : found->second;
}

}  // namespace

Findings CheckDriver(const DoctorFacts& facts) {
  const std::string version = SoftwareOf(facts, "driver");
  const std::string cuda = SoftwareOf(facts, "cuda");
  if (!facts.driver.has_value()) {
    if (version.empty()) return {};
    return {Ok("driver", "NVIDIA driver",
               absl::StrCat(version, cuda.empty() ? "" : ", CUDA up to ", cuda))};
  }
  const DriverFacts& driver = *facts.driver;
  if (!driver.loaded) return {WithoutDriver(facts, driver)};
  if (!version.empty() && !driver.kernel_version.empty() && version != driver.kernel_version) {
    return {Problem(
        "driver", "NVIDIA driver",
        absl::StrCat("NVML is of ", version, ", the kernel module of ", driver.kernel_version),
        "reboot, or in a container use the host's libraries (--gpus all)")};
  }
  return {Ok("driver", "NVIDIA driver",
             absl::StrCat(version.empty() ? "loaded" : version, ", CUDA up to ",
                          cuda.empty() ? "unknown" : cuda, ", NVML answers"))};
}

Findings CheckCudaModule(const DoctorFacts& facts) {
  if (!facts.software.has_value()) return {};
  const SoftwareFacts& software = *facts.software;
  const bool has_gpus = !GpusOf(facts).empty();
  if (!software.cuda_module) {
    if (!has_gpus) return {Ok("cuda", "CUDA module", "not needed: no GPU")};
    return {Problem(
        "cuda", "CUDA module",
        absl::StrCat("not loaded, so GPUs are seen but not used: ", software.cuda_module_problem),
        "build with the CUDA toolkit (TPRUN_WITH_CUDA) and keep libtprun_cuda.so beside "
        "the program")};
  }
  Findings findings;
  const int can = Version(SoftwareOf(facts, "cuda"));
  const int wants = Version(software.cuda_runtime);
  if (can > 0 && can / 1000 < wants / 1000) {
    findings.push_back(
        Problem("cuda", "CUDA module",
                absl::StrCat("built with CUDA ", software.cuda_runtime,
                             ", the driver can do up to ", SoftwareOf(facts, "cuda")),
                absl::StrCat("install a driver for CUDA ", wants / 1000,
                             ", or build tprun with the CUDA toolkit ", can / 1000)));
  } else if (can > 0 && can < wants) {
    findings.push_back(
        Ok("cuda", "CUDA module",
           absl::StrCat("CUDA ", software.cuda_runtime, " on a driver of ",
                        SoftwareOf(facts, "cuda"), ": works (minor version compatibility)")));
  } else {
    findings.push_back(Ok("cuda", "CUDA module", absl::StrCat("CUDA ", software.cuda_runtime)));
  }
  if (!software.nccl.empty()) {
    findings.push_back(Ok("nccl", "NCCL", software.nccl));
  } else if (GpusOf(facts).size() > 1) {
    findings.push_back(Warning("nccl", "NCCL",
                               "not found: GPUs exchange through our own kernels or the host",
                               "install libnccl2, or set LD_LIBRARY_PATH to where it lies"));
  }
  return findings;
}

Findings CheckMpi(const DoctorFacts& facts) {
  if (!facts.software.has_value()) return {};
  const SoftwareFacts& software = *facts.software;
  if (software.mpi == "none") {
    return {Warning("mpi", "MPI", "this tprun was built without MPI: ranks are threads of one host",
                    "install libopenmpi-dev and build again to use several hosts")};
  }
  if (software.mpirun.empty()) {
    return {Problem("mpi", "MPI",
                    absl::StrCat("built with ", software.mpi, ", but no mpirun is in the PATH"),
                    "install openmpi-bin (or mpich), or set TPRUN_MPIRUN to the mpirun of it")};
  }
  Findings findings;
  std::set<std::string> flavours;
  std::string of_mpirun;
  for (const MpiInstallation& found : software.mpi_found) {
    if (!found.version.empty()) flavours.insert(MpiFlavour(found.version));
    if (found.mpirun == software.mpirun) of_mpirun = MpiFlavour(found.version);
  }
  if (!of_mpirun.empty() && of_mpirun != MpiFlavour(software.mpi)) {
    findings.push_back(
        Problem("mpi", "MPI",
                absl::StrCat("built with ", software.mpi, ", while ", software.mpirun, " is of ",
                             of_mpirun, ": every rank would think that it is alone"),
                absl::StrCat("set TPRUN_MPIRUN to the mpirun of ", MpiFlavour(software.mpi))));
  } else {
    findings.push_back(
        Ok("mpi", "MPI", absl::StrCat(software.mpi, ", started by ", software.mpirun)));
  }
  if (software.mpi_found.size() > 1) {
    const std::string list =
        absl::StrJoin(software.mpi_found, ", ", [](std::string* out, const MpiInstallation& mpi) {
          absl::StrAppend(out, mpi.mpirun, mpi.version.empty() ? "" : " (", mpi.version,
                          mpi.version.empty() ? "" : ")");
        });
    findings.push_back(Warning(
        "mpi-several", "MPI", absl::StrCat(software.mpi_found.size(), " are installed: ", list),
        absl::StrCat("tprun takes its own; by hand, start it with ", software.mpirun)));
  }
  return findings;
}

Findings CheckVisibleDevices(const DoctorFacts& facts) {
  if (!facts.system.has_value() || !facts.driver.has_value() || !facts.driver->loaded) return {};
  const SystemFacts& system = *facts.system;
  Findings findings;
  for (const std::string& note : facts.topology.notes) {
    if (!absl::StartsWith(note, "CUDA_VISIBLE_DEVICES")) continue;
    const bool broken = !absl::StrContains(note, " shows ");
    findings.push_back(broken ? Problem("visible-devices", "CUDA_VISIBLE_DEVICES", note,
                                        "compare it with `nvidia-smi -L`, or unset it")
                              : Warning("visible-devices", "CUDA_VISIBLE_DEVICES", note,
                                        "unset CUDA_VISIBLE_DEVICES to use all"));
  }
  std::set<std::string> names;
  for (const DeviceInfo* gpu : GpusOf(facts)) names.insert(gpu->name);
  const std::string order = Variable(system, "CUDA_DEVICE_ORDER");
  if (names.size() > 1 && order == "FASTEST_FIRST") {
    findings.push_back(
        Warning("device-order", "CUDA_DEVICE_ORDER",
                "unlike cards, which CUDA numbers by speed and nvidia-smi by PCI bus",
                "export CUDA_DEVICE_ORDER=PCI_BUS_ID"));
  }
  return findings;
}

// Variables that somebody set once to get around a fault, and forgot.
Findings CheckNcclEnvironment(const DoctorFacts& facts) {
  if (!facts.system.has_value() || GpusOf(facts).size() < 2) return {};
  Findings findings;
  for (const auto& [name, costs] : std::map<std::string, std::string>{
           {"NCCL_P2P_DISABLE", "GPUs do not write to each other directly"},
           {"NCCL_SHM_DISABLE", "GPUs of one host exchange over the network"},
           {"NCCL_IB_DISABLE", "hosts exchange over plain TCP"},
           {"CUDA_LAUNCH_BLOCKING", "every kernel is waited for"}}) {
    const std::string value = Variable(*facts.system, name.c_str());
    if (value.empty() || value == "0") continue;
    findings.push_back(Warning("environment", name, absl::StrCat("set to ", value, ": ", costs),
                               absl::StrCat("unset ", name, " unless you know why it is there")));
  }
  return findings;
}

}  // namespace tprun
