#pragma once

#include <string>
#include <vector>

#include "topology/doctor.h"

namespace tprun {

// The checks of doctor.h by subject. Each gives its findings, none where the facts do not tell.
using Findings = std::vector<Finding>;

Finding Ok(std::string check, std::string subject, std::string found);
Finding Warning(std::string check, std::string subject, std::string found, std::string remedy);
Finding Problem(std::string check, std::string subject, std::string found, std::string remedy);

// doctor_software.cc
Findings CheckDriver(const DoctorFacts& facts);
Findings CheckCudaModule(const DoctorFacts& facts);
Findings CheckMpi(const DoctorFacts& facts);
Findings CheckVisibleDevices(const DoctorFacts& facts);
Findings CheckNcclEnvironment(const DoctorFacts& facts);

// doctor_gpus.cc
Findings CheckGpuMemory(const DoctorFacts& facts);
Findings CheckGpuErrors(const DoctorFacts& facts);
Findings CheckGpuClocks(const DoctorFacts& facts);
Findings CheckPersistence(const DoctorFacts& facts);
Findings CheckMig(const DoctorFacts& facts);

// doctor_links.cc
Findings CheckPcieLinks(const DoctorFacts& facts);
Findings CheckNvlinks(const DoctorFacts& facts);
Findings CheckFabric(const DoctorFacts& facts);
Findings CheckPeerAccess(const DoctorFacts& facts);
Findings CheckPeerRoute(const DoctorFacts& facts);
Findings CheckNics(const DoctorFacts& facts);

// doctor_host.cc
Findings CheckHostMemory(const DoctorFacts& facts);
Findings CheckCpus(const DoctorFacts& facts);
Findings CheckNumaBinding(const DoctorFacts& facts);
Findings CheckSharedMemory(const DoctorFacts& facts);
Findings CheckHugepages(const DoctorFacts& facts);
Findings CheckLimits(const DoctorFacts& facts);

// The GPUs of the topology.
std::vector<const DeviceInfo*> GpusOf(const DoctorFacts& facts);
// "cuda:0 (NVIDIA GeForce RTX 3090)".
std::string GpuTitle(const DoctorFacts& facts, const DeviceInfo& gpu);
// By PCI bus id: as GpuTitle, or with the bus id for a card that this process does not see.
std::string CardTitle(const DoctorFacts& facts, const GpuHealth& card);

}  // namespace tprun
