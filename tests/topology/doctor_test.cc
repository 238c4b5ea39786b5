#include "topology/doctor.h"

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/topology/detect_fixture.h"
#include "topology/doctor_facts.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

DeviceInfo Gpu(int index, const std::string& bus_id) {
  DeviceInfo gpu;
  gpu.id = "cuda:" + std::to_string(index);
  gpu.kind = DeviceKind::kGpu;
  gpu.name = "NVIDIA A100-SXM4-40GB";
  gpu.numa_node = index;
  gpu.memory_bytes = 40 * kGiB;
  gpu.available_bytes = 40 * kGiB - 500 * kMiB;
  gpu.sources["available_bytes"] = "nvml";
  gpu.pci_bus_id = bus_id;
  gpu.pcie_generation = gpu.pcie_max_generation = 4;
  gpu.pcie_width = gpu.pcie_max_width = 16;
  gpu.nvlink_count = 12;
  gpu.mig = "off";
  return gpu;
}

GpuHealth Card(const std::string& bus_id) {
  GpuHealth card;
  card.name = "NVIDIA A100-SXM4-40GB";
  card.pci_bus_id = bus_id;
  card.pcie_generation_now = 1;  // idle
  card.pcie_generation_max = card.pcie_generation_card = 4;
  card.pcie_width_now = card.pcie_width_max = 16;
  card.performance_state = 8;
  card.uncorrected_ecc_errors = card.remapped_rows_pending = card.remapped_rows_failed = 0;
  card.fabric_state = 3;
  card.persistence_mode = 1;
  return card;
}

// Two sockets with an A100 each, and nothing wrong.
DoctorFacts Healthy() {
  DoctorFacts facts;
  Topology& box = facts.topology;
  box.hosts.push_back({.name = "box", .memory_bytes = 256 * kGiB, .available_bytes = 200 * kGiB});
  box.hosts[0].numa_nodes = {{0, 128 * kGiB, 100 * kGiB, "0-31"},
                             {1, 128 * kGiB, 100 * kGiB, "32-63"}};
  box.hosts[0].software = {{"driver", "535.154.05"}, {"cuda", "12.2"}};
  box.devices.push_back({.id = "cpu", .name = "EPYC"});
  box.devices.push_back(Gpu(0, "0000:07:00.0"));
  box.devices.push_back(Gpu(1, "0000:87:00.0"));
  Link link;
  link.a = 1;
  link.b = 2;
  link.kind = LinkKind::kNvlink;
  link.peer_access = PeerAccess::kYes;
  link.peer_access_verified = true;
  box.links.push_back(link);
  facts.health = {Card("0000:07:00.0"), Card("0000:87:00.0")};
  SystemFacts system;
  system.ram_bytes = 256 * kGiB;
  system.cpus_online = 64;
  system.cpus_allowed = "0-63";
  system.shared_memory = FileSystemSpace{128 * kGiB, 128 * kGiB};
  system.transparent_hugepages = "madvise";
  system.governors = {{"performance", 64}};
  system.iommu = Iommu::kPassThrough;
  system.bridges_readable = true;
  facts.system = system;
  facts.driver = DriverFacts{.loaded = true, .kernel_version = "535.154.05"};
  SoftwareFacts software;
  software.mpi = "Open MPI 4.1.4";
  software.mpirun = "/usr/bin/orterun";
  software.mpi_found = {{"/usr/bin/orterun", "Open MPI 4.1.4"}};
  software.cuda_module = true;
  software.cuda_runtime = "12.0";
  software.nccl = "2.19.3";
  facts.software = software;
  return facts;
}

// The findings of a check as "warning | subject | found | remedy" lines.
std::string Say(const DoctorFacts& facts, const std::string& check) {
  std::string text;
  for (const Finding& f : Diagnose(facts)) {
    if (f.check != check) continue;
    text += std::string(SeverityName(f.severity)) + " | " + f.subject + " | " + f.found + " | " +
            f.remedy + "\n";
  }
  return text;
}

std::string Say(const std::string& check, const std::function<void(DoctorFacts&)>& change) {
  DoctorFacts facts = Healthy();
  change(facts);
  return Say(facts, check);
}

TEST(Doctor, FindsNothingOnAHealthyMachine) {
  const std::vector<Finding> findings = Diagnose(Healthy());
  EXPECT_GE(findings.size(), 15);
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.severity, Severity::kOk) << finding.check << ": " << finding.found;
    EXPECT_EQ(finding.remedy, "") << finding.check;
    EXPECT_NE(finding.found, "") << finding.check;
    EXPECT_NE(finding.subject, "") << finding.check;
  }
  EXPECT_EQ(WorstOf(findings), Severity::kOk);
  EXPECT_EQ(WorstOf({}), Severity::kOk);
}

// Whatever is wrong comes with what to do.
TEST(Doctor, SaysNothingOfWhatItDoesNotKnow) {
  EXPECT_THAT(Diagnose(DoctorFacts()), IsEmpty());
  DoctorFacts dump;
  dump.topology = Healthy().topology;
  for (const Finding& finding : Diagnose(dump)) {
    EXPECT_THAT(finding.check,
                testing::AnyOf("driver", "gpu-memory", "pcie-link", "nvlink", "peer-access"));
    EXPECT_EQ(finding.severity, Severity::kOk) << finding.check << ": " << finding.found;
  }
}

TEST(Doctor, CpuOnlyMachineHasNoProblem) {
  DoctorFacts facts = Healthy();
  facts.topology.devices.resize(1);
  facts.topology.links.clear();
  facts.topology.hosts[0].software.clear();
  facts.health.clear();
  facts.driver = DriverFacts{.problem = "libnvidia-ml.so.1: cannot open shared object file"};
  facts.software->cuda_module = false;
  for (const Finding& finding : Diagnose(facts)) {
    EXPECT_EQ(finding.severity, Severity::kOk) << finding.check << ": " << finding.found;
  }
}

TEST(Doctor, Driver) {
  const auto say = [](const DriverFacts& driver) {
    return Say("driver", [&](DoctorFacts& facts) { facts.driver = driver; });
  };
  EXPECT_THAT(Say(Healthy(), "driver"),
              HasSubstr("ok | NVIDIA driver | 535.154.05, CUDA up to 12.2"));
  DriverFacts absent = {.problem = "cannot open shared object file"};
  EXPECT_THAT(say(absent), HasSubstr("ok | NVIDIA driver | none"));
  absent.cards.push_back({.bus_id = "0000:01:00.0", .pci_id = "10de:2204"});
  EXPECT_THAT(say(absent), AllOf(HasSubstr("problem"), HasSubstr("10de:2204"),
                                 HasSubstr("modprobe"), Not(HasSubstr("--gpus all"))));
  EXPECT_THAT(Say("driver",
                  [&](DoctorFacts& facts) {
                    facts.driver = absent;
                    facts.system->in_container = true;
                  }),
              HasSubstr("--gpus all"));
  absent.cards[0].driver = "nouveau";
  EXPECT_THAT(say(absent), AllOf(HasSubstr("problem"), HasSubstr("nouveau")));
  EXPECT_THAT(say({.problem = "NVML does not start: Driver/library version mismatch",
                   .kernel_version = "535.129.03"}),
              AllOf(HasSubstr("problem"), HasSubstr("535.129.03"), HasSubstr("reboot")));
  EXPECT_THAT(say({.loaded = true, .kernel_version = "550.54.14"}),
              AllOf(HasSubstr("problem"), HasSubstr("535.154.05"), HasSubstr("550.54.14")));
}

TEST(Doctor, CudaModule) {
  EXPECT_THAT(Say("cuda", [](DoctorFacts& f) { f.software->cuda_runtime = "13.0"; }),
              AllOf(HasSubstr("problem"), HasSubstr("13.0"), HasSubstr("up to 12.2")));
  EXPECT_THAT(Say("cuda", [](DoctorFacts& f) { f.software->cuda_runtime = "12.8"; }),
              AllOf(HasSubstr("ok"), HasSubstr("minor version")));
  EXPECT_THAT(Say("cuda",
                  [](DoctorFacts& f) {
                    f.software->cuda_module = false;
                    f.software->cuda_module_problem = "libtprun_cuda.so is not there";
                  }),
              AllOf(HasSubstr("problem"), HasSubstr("libtprun_cuda.so is not there")));
  EXPECT_THAT(Say("nccl", [](DoctorFacts& f) { f.software->nccl = ""; }),
              AllOf(HasSubstr("warning"), HasSubstr("libnccl2")));
}

TEST(Doctor, Mpi) {
  EXPECT_THAT(Say("mpi", [](DoctorFacts& f) { f.software->mpi = "none"; }),
              AllOf(HasSubstr("warning"), HasSubstr("without MPI")));
  EXPECT_THAT(Say("mpi", [](DoctorFacts& f) { f.software->mpirun = ""; }),
              AllOf(HasSubstr("problem"), HasSubstr("openmpi-bin")));
  const auto two = [](DoctorFacts& f) {
    f.software->mpi_found.push_back({"/opt/mpich/bin/mpiexec.hydra", "MPICH 4.0.2"});
  };
  EXPECT_THAT(Say("mpi", two), HasSubstr("ok"));
  EXPECT_THAT(Say("mpi-several", two),
              AllOf(HasSubstr("warning"), HasSubstr("/opt/mpich/bin/mpiexec.hydra (MPICH 4.0.2)")));
  EXPECT_THAT(Say("mpi", [](DoctorFacts& f) { f.software->mpi_found[0].version = "MPICH 4.0.2"; }),
              AllOf(HasSubstr("problem"), HasSubstr("alone"), HasSubstr("TPRUN_MPIRUN")));
  EXPECT_EQ(Say(Healthy(), "mpi-several"), "");
}

TEST(Doctor, VisibleDevicesAndOrder) {
  EXPECT_THAT(Say("visible-devices",
                  [](DoctorFacts& f) {
                    f.topology.notes.push_back("CUDA_VISIBLE_DEVICES shows 1 of 2 GPUs");
                  }),
              HasSubstr("warning"));
  EXPECT_THAT(Say("visible-devices",
                  [](DoctorFacts& f) {
                    f.topology.notes.push_back("CUDA_VISIBLE_DEVICES: \"7\" is none of the 2 GPUs");
                  }),
              AllOf(HasSubstr("problem"), HasSubstr("nvidia-smi -L")));
  EXPECT_THAT(Say("device-order",
                  [](DoctorFacts& f) {
                    f.topology.devices[1].name = "NVIDIA GeForce RTX 3060";
                    f.system->environment["CUDA_DEVICE_ORDER"] = "FASTEST_FIRST";
                  }),
              AllOf(HasSubstr("warning"), HasSubstr("PCI_BUS_ID")));
  EXPECT_THAT(
      Say("environment", [](DoctorFacts& f) { f.system->environment["NCCL_P2P_DISABLE"] = "1"; }),
      AllOf(HasSubstr("warning"), HasSubstr("unset NCCL_P2P_DISABLE")));
  EXPECT_EQ(
      Say("environment", [](DoctorFacts& f) { f.system->environment["NCCL_P2P_DISABLE"] = "0"; }),
      "");
}

TEST(Doctor, MemoryHeldByOthersIsNamed) {
  const auto hold = [](DoctorFacts& f) {
    f.topology.devices[1].available_bytes = 10 * kGiB;
    f.topology.devices[1].processes = {{77, "small", kGiB}, {4242, "/usr/bin/python3", 29 * kGiB}};
  };
  EXPECT_THAT(Say("gpu-memory", hold),
              AllOf(HasSubstr("warning | cuda:0"),
                    HasSubstr("held by /usr/bin/python3 (pid 4242) 29.00 GiB, small (pid 77)"),
                    HasSubstr("kill"), HasSubstr("ok | cuda:1")));
  EXPECT_THAT(
      Say("gpu-memory", [](DoctorFacts& f) { f.topology.devices[1].available_bytes = kGiB; }),
      AllOf(HasSubstr("problem"), HasSubstr("no process is shown"), HasSubstr("fuser")));
}

TEST(Doctor, AGpuOfWhichAFewMegabytesAreHeldIsFree) {
  EXPECT_THAT(Say("gpu-memory",
                  [](DoctorFacts& f) {
                    DeviceInfo& gpu = f.topology.devices[1];
                    gpu.available_bytes = gpu.memory_bytes - 12 * kMiB;
                    gpu.processes = {{77, "Xorg", 12 * kMiB}};
                  }),
              AllOf(HasSubstr("ok | cuda:0"), Not(HasSubstr("Xorg"))));
}

// What the catalogue says of such cards is no finding about this one.
TEST(Doctor, TellsNothingOfADumpThatItDoesNotState) {
  const auto say = [](const std::string& check, const std::string& key, const std::string& source) {
    return Say(check, [&](DoctorFacts& f) {
      f.health.clear();  // a dump
      f.topology.devices[1].sources[key] = source;
    });
  };
  EXPECT_THAT(say("gpu-memory", "available_bytes", "nvidia-smi -q"), HasSubstr("cuda:0"));
  EXPECT_THAT(say("gpu-memory", "available_bytes", "estimate: all free"),
              AllOf(Not(HasSubstr("cuda:0")), HasSubstr("cuda:1")));
  for (const char* key : {"pcie_width", "pcie_max_width"}) {
    EXPECT_THAT(say("pcie-link", key, "nvidia-smi -q"), HasSubstr("ok | cuda:0"));
    for (const char* source : {"gpus.yaml", "gpus.yaml by PCI id", "estimate: as NVIDIA L4"}) {
      EXPECT_THAT(say("pcie-link", key, source),
                  AllOf(Not(HasSubstr("cuda:0")), HasSubstr("ok | cuda:1")))
          << key << " " << source;
    }
  }
}

TEST(Doctor, TellsNothingOfADumpOfNamesAlone) {
  FakeRoot root;
  root.Write("/list.txt", "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)\n");
  const auto topology = ReadTopologyFiles({root.path() + "/list.txt"});
  ASSERT_TRUE(topology.ok()) << topology.status();
  DoctorFacts facts;
  facts.topology = *topology;
  EXPECT_EQ(Say(facts, "gpu-memory"), "");
  EXPECT_EQ(Say(facts, "pcie-link"), "");
}

TEST(Doctor, GpuErrorsClocksAndModes) {
  EXPECT_THAT(Say("gpu-errors", [](DoctorFacts& f) { f.health[0].remapped_rows_pending = 1; }),
              AllOf(HasSubstr("problem | cuda:0"), HasSubstr("--gpu-reset -i 0000:07:00.0")));
  EXPECT_THAT(Say("gpu-errors", [](DoctorFacts& f) { f.health[1].remapped_rows_failed = 1; }),
              AllOf(HasSubstr("problem | cuda:1"), HasSubstr("replace")));
  EXPECT_THAT(Say("gpu-errors", [](DoctorFacts& f) { f.health[1].uncorrected_ecc_errors = 3; }),
              AllOf(HasSubstr("problem"), HasSubstr("3 uncorrected")));
  EXPECT_EQ(Say("gpu-errors",
                [](DoctorFacts& f) {
                  for (GpuHealth& card : f.health) {
                    card.uncorrected_ecc_errors = card.remapped_rows_pending =
                        card.remapped_rows_failed = -1;
                  }
                }),
            "")
      << "a card without ECC";
  EXPECT_THAT(Say("gpu-clocks",
                  [](DoctorFacts& f) { f.health[0].throttle_causes = {"temperature (hardware)"}; }),
              AllOf(HasSubstr("warning"), HasSubstr("cooling")));
  EXPECT_THAT(Say("persistence", [](DoctorFacts& f) { f.health[0].persistence_mode = 0; }),
              AllOf(HasSubstr("warning | cuda:0"), HasSubstr("-pm 1")));
  EXPECT_EQ(Say("persistence",
                [](DoctorFacts& f) {
                  f.health[0].persistence_mode = 0;
                  f.health[0].name = "NVIDIA GeForce RTX 3090";
                }),
            "");
  EXPECT_THAT(Say("mig", [](DoctorFacts& f) { f.topology.devices[1].mig = "on"; }),
              AllOf(HasSubstr("problem"), HasSubstr("-cgi")));
}

TEST(Doctor, PcieLinks) {
  EXPECT_THAT(Say(Healthy(), "pcie-link"),
              AllOf(HasSubstr("ok | cuda:0"), HasSubstr("PCIe 4x16"), HasSubstr("while idle")))
      << "an idle card lowers its generation: no fault";
  EXPECT_THAT(Say("pcie-link", [](DoctorFacts& f) { f.health[0].pcie_width_now = 8; }),
              AllOf(HasSubstr("warning | cuda:0"), HasSubstr("8 of the card's 16"),
                    HasSubstr("15.8 GB/s"), HasSubstr("reseat")));
  EXPECT_THAT(Say("pcie-link", [](DoctorFacts& f) { f.health[0].pcie_width_now = 4; }),
              HasSubstr("problem | cuda:0"));
  EXPECT_THAT(
      Say("pcie-link", [](DoctorFacts& f) { f.health[1].pcie_generation_max = 3; }),
      AllOf(HasSubstr("warning | cuda:1"), HasSubstr("the card could do 4"), HasSubstr("BIOS")));
  EXPECT_THAT(Say("pcie-link", [](DoctorFacts& f) { f.health[1].performance_state = 0; }),
              AllOf(HasSubstr("warning | cuda:1"), HasSubstr("generation 1 of 4 at full clocks")));
  EXPECT_THAT(Say("pcie-link",
                  [](DoctorFacts& f) {
                    f.health.clear();  // a dump
                    f.topology.devices[1].pcie_generation = 1;
                    f.topology.devices[2].pcie_width = 1;
                  }),
              AllOf(HasSubstr("ok | cuda:0"), HasSubstr("problem | cuda:1")));
}

TEST(Doctor, NvlinksAndFabric) {
  EXPECT_THAT(Say("nvlink", [](DoctorFacts& f) { f.topology.devices[2].nvlink_count = 10; }),
              AllOf(HasSubstr("problem | cuda:1"), HasSubstr("10 of 12")));
  EXPECT_EQ(Say("nvlink",
                [](DoctorFacts& f) {
                  for (DeviceInfo& device : f.topology.devices) device.nvlink_count = 0;
                }),
            "");
  EXPECT_THAT(Say("nvswitch", [](DoctorFacts& f) { f.health[0].fabric_state = 1; }),
              AllOf(HasSubstr("problem"), HasSubstr("nvidia-fabricmanager")));
}

TEST(Doctor, PeerAccess) {
  EXPECT_THAT(Say(Healthy(), "peer-access"),
              HasSubstr("ok | cuda:0 - cuda:1 | written and read back"));
  EXPECT_THAT(Say("peer-access",
                  [](DoctorFacts& f) {
                    Link& link = f.topology.links[0];
                    link.peer_access_verified = false;
                    link.peer_access = PeerAccess::kNo;
                    link.peer_access_reason =
                        std::string(kPeerAccessBroken) + "12 of 64 words differ";
                  }),
              AllOf(HasSubstr("problem"), HasSubstr("silently broken: 12 of 64"),
                    HasSubstr("NCCL_P2P_DISABLE=1"), HasSubstr("iommu=pt")));
  EXPECT_THAT(
      Say("peer-access", [](DoctorFacts& f) { f.topology.links[0].peer_access_verified = false; }),
      AllOf(HasSubstr("ok"), HasSubstr("not verified")));
  EXPECT_THAT(Say("peer-access",
                  [](DoctorFacts& f) {
                    f.topology.links[0].peer_access_verified = false;
                    f.topology.links[0].peer_access = PeerAccess::kNo;
                    f.topology.links[0].peer_access_reason = "the chipset does not";
                  }),
              AllOf(HasSubstr("warning"), HasSubstr("the chipset does not")));
}

TEST(Doctor, PeerRoute) {
  EXPECT_THAT(Say("acs", [](DoctorFacts& f) { f.system->redirecting_bridges = {"0000:00:01.0"}; }),
              AllOf(HasSubstr("warning"), HasSubstr("0000:00:01.0"), HasSubstr("setpci")));
  EXPECT_THAT(Say("iommu", [](DoctorFacts& f) { f.system->iommu = Iommu::kTranslating; }),
              AllOf(HasSubstr("warning"), HasSubstr("iommu=pt")));
}

TEST(Doctor, Nics) {
  const auto add = [](DoctorFacts& f) {
    Nic nic;
    nic.name = "mlx5_0";
    nic.pci_id = "15b3:101b";
    f.topology.nics.push_back(nic);
  };
  EXPECT_THAT(Say("nic", add), AllOf(HasSubstr("warning"), HasSubstr("ibstat")));
  EXPECT_THAT(Say("gpudirect", add), AllOf(HasSubstr("warning"), HasSubstr("nvidia_peermem")));
  EXPECT_THAT(Say("memlock",
                  [&](DoctorFacts& f) {
                    add(f);
                    f.system->lockable_bytes = 8 * kMiB;
                  }),
              AllOf(HasSubstr("problem"), HasSubstr("memlock=-1")));
  EXPECT_THAT(Say("memlock", [](DoctorFacts& f) { f.system->lockable_bytes = 8 * kMiB; }),
              HasSubstr("ok"))
      << "without RDMA nothing is locked";
}

TEST(Doctor, HostLimits) {
  EXPECT_THAT(
      Say("memory-limit", [](DoctorFacts& f) { f.system->memory_limit_bytes = 16 * kGiB; }),
      AllOf(HasSubstr("warning"), HasSubstr("16.00 GiB of 256.0 GiB"), HasSubstr("--memory")));
  EXPECT_THAT(
      Say("host-memory", [](DoctorFacts& f) { f.topology.hosts[0].available_bytes = 10 * kGiB; }),
      HasSubstr("warning"));
  EXPECT_THAT(Say("cpu-limit", [](DoctorFacts& f) { f.system->cpu_limit = 2.5; }),
              AllOf(HasSubstr("warning"), HasSubstr("2.5 CPUs"), HasSubstr("--cpus")));
  EXPECT_THAT(Say("cpu-limit", [](DoctorFacts& f) { f.system->cpus_allowed = "0-3"; }),
              AllOf(HasSubstr("warning"), HasSubstr("4 of 64")));
  EXPECT_THAT(Say("nofile",
                  [](DoctorFacts& f) {
                    f.system->open_files = 256;
                    f.system->open_files_hard = 4096;
                  }),
              AllOf(HasSubstr("warning"), HasSubstr("ulimit -n 1024")));
}

TEST(Doctor, Governor) {
  const auto powersave = [](const char* driver, const char* preference) {
    return Say("governor", [&](DoctorFacts& f) {
      f.system->governors = {{"powersave", 64}};
      f.system->frequency_driver = driver;
      f.system->energy_preference = preference;
    });
  };
  EXPECT_THAT(powersave("acpi-cpufreq", ""), AllOf(HasSubstr("warning"), HasSubstr("cpupower")));
  EXPECT_THAT(powersave("intel_pstate", "balance_performance"), HasSubstr("ok"));
  EXPECT_THAT(powersave("amd-pstate-epp", "power"), HasSubstr("warning"));
}

TEST(Doctor, NumaBinding) {
  EXPECT_THAT(Say(Healthy(), "numa"), HasSubstr("ok | NUMA | this process may use all 2 nodes"));
  EXPECT_THAT(Say("numa", [](DoctorFacts& f) { f.system->cpus_allowed = "0-15"; }),
              AllOf(HasSubstr("warning | cuda:1"), HasSubstr("bound to NUMA node 0"),
                    HasSubstr("numactl --cpunodebind=1"), Not(HasSubstr("cuda:0"))));
}

TEST(Doctor, SharedMemory) {
  const auto shm = [](std::optional<FileSystemSpace> space, bool container) {
    return Say("shm", [&](DoctorFacts& f) {
      f.system->shared_memory = space;
      f.system->in_container = container;
    });
  };
  EXPECT_THAT(shm({}, false), AllOf(HasSubstr("problem"), HasSubstr("mount -t tmpfs")));
  EXPECT_THAT(shm(FileSystemSpace{64 * kMiB, 64 * kMiB}, true),
              AllOf(HasSubstr("problem"), HasSubstr("--shm-size=1g")));
  EXPECT_THAT(shm(FileSystemSpace{128 * kGiB, 10 * kMiB}, false),
              AllOf(HasSubstr("warning"), HasSubstr("ls -l /dev/shm")));
}

TEST(Doctor, Hugepages) {
  EXPECT_THAT(Say("hugepages", [](DoctorFacts& f) { f.system->transparent_hugepages = "never"; }),
              AllOf(HasSubstr("warning"), HasSubstr("echo madvise")));
  EXPECT_THAT(
      Say("hugepages-reserved", [](DoctorFacts& f) { f.system->free_hugepage_bytes = 64 * kGiB; }),
      AllOf(HasSubstr("warning"), HasSubstr("64.00 GiB"), HasSubstr("vm.nr_hugepages=0")));
}

TEST(DoctorFacts, SystemComesFromProcAndSys) {
  FakeRoot root;
  root.Write("/proc/meminfo", "MemTotal: 16777216 kB\n");
  root.Write("/sys/devices/system/cpu/online", "0-3,8\n");
  root.Write("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  root.Write("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n");
  root.Write("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n");
  root.Write("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  root.Write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024\n");
  root.Write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n");
  root.Write("/sys/kernel/mm/hugepages/odd", "1\n");
  root.Write("/.dockerenv", "");
  root.Folder("/sys/module/nvidia_peermem");
  root.Pci("pci0000:00/0000:00:01.0", "0x060400");
  root.Pci("pci0000:00/0000:00:01.0/0000:01:00.0", "0x030000");
  setenv("NCCL_TPRUN_TEST", "a=b", 1);
  const SystemFacts facts = ReadSystemFacts({"0000:01:00.0"}, root.path());
  unsetenv("NCCL_TPRUN_TEST");
  EXPECT_EQ(facts.ram_bytes, 16 * kGiB);
  EXPECT_EQ(facts.memory_limit_bytes, kUnlimited);
  EXPECT_EQ(facts.cpus_online, 5);
  EXPECT_NE(facts.cpus_allowed, "");
  EXPECT_EQ(facts.governors.at("powersave"), 2);
  EXPECT_EQ(facts.frequency_driver, "intel_pstate");
  EXPECT_EQ(facts.transparent_hugepages, "madvise");
  EXPECT_EQ(facts.reserved_hugepage_bytes, 2 * kGiB);
  EXPECT_EQ(facts.free_hugepage_bytes, kGiB);
  EXPECT_TRUE(facts.in_container);
  EXPECT_TRUE(facts.peer_memory_module);
  EXPECT_FALSE(facts.shared_memory.has_value());
  EXPECT_FALSE(facts.bridges_readable);
  EXPECT_EQ(facts.environment.at("NCCL_TPRUN_TEST"), "a=b");
  root.Folder("/dev/shm");
  EXPECT_TRUE(ReadSystemFacts({}, root.path()).shared_memory.has_value());
}

TEST(DoctorFacts, Driver) {
  FakeRoot root;
  root.Write(
      "/proc/driver/nvidia/version",
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.154.05  Thu Dec 28 2023\nGCC 12.2\n");
  root.Pci("pci0000:00/0000:00:01.0/0000:01:00.0", "0x030000", "0x10de", "0x2204");
  root.Pci("pci0000:00/0000:00:02.0", "0x030000", "0x1a03", "0x2000");
  setenv("FAKE_NVML_MACHINE", "unlike", 1);
  const DriverFacts facts = ReadDriverFacts({.nvml_library = FAKE_NVML, .sysfs_root = root.path()});
  EXPECT_TRUE(facts.loaded);
  EXPECT_EQ(facts.kernel_version, "535.154.05");
  ASSERT_EQ(facts.cards.size(), 1);
  EXPECT_EQ(facts.cards[0].pci_id, "10de:2204");
  const DriverFacts absent = ReadDriverFacts({.nvml_library = "libno-such-nvml.so"});
  EXPECT_FALSE(absent.loaded);
  EXPECT_NE(absent.problem, "");
}

}  // namespace
}  // namespace tprun
