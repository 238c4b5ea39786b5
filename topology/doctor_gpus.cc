#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/doctor_checks.h"
#include "topology/stated_facts.h"

namespace tprun {
namespace {

std::string ProcessList(const DeviceInfo& gpu) {
  std::vector<DeviceProcess> processes = gpu.processes;
  std::stable_sort(processes.begin(), processes.end(),
                   [](const DeviceProcess& a, const DeviceProcess& b) {
                     return a.memory_bytes > b.memory_bytes;
                   });
  constexpr size_t kShown = 5;
  std::vector<std::string> parts;
  for (const DeviceProcess& process : processes) {
    if (parts.size() == kShown) {
      parts.push_back(absl::StrCat(processes.size() - kShown, " more"));
      break;
    }
    const std::string bytes =
        process.memory_bytes > 0 ? " " + FormatBytes(process.memory_bytes) : "";
    parts.push_back(absl::StrCat(process.name.empty() ? "a process" : process.name, " (pid ",
                                 process.pid, ")", bytes));
  }
  return absl::StrJoin(parts, ", ");
}

// Not where a dump says nothing of it and all is taken for free.
bool TellsFreeMemory(const DeviceInfo& gpu) {
  if (gpu.sources.count("available_bytes") == 0) return gpu.available_bytes > 0;
  return !IsEstimate(gpu.sources, "available_bytes");
}

}  // namespace

Findings CheckGpuMemory(const DoctorFacts& facts) {
  // What driver and display of an idle card take.
  constexpr int64_t kIdle = 1 * kGiB;
  Findings findings;
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    if (gpu->memory_bytes <= 0 || !TellsFreeMemory(*gpu)) continue;
    const int64_t used = gpu->memory_bytes - gpu->available_bytes;
    const std::string free = absl::StrCat(FormatBytes(gpu->available_bytes), " of ",
                                          FormatBytes(gpu->memory_bytes), " free");
    if (used <= std::max(kIdle, gpu->memory_bytes / 20)) {
      findings.push_back(Ok("gpu-memory", GpuTitle(facts, *gpu), free));
      continue;
    }
    const bool named = !gpu->processes.empty();
    const std::string by =
        named ? absl::StrCat("; held by ", ProcessList(*gpu))
              : "; no process is shown that holds it (another container or user, or one that died)";
    const std::string remedy =
        named ? "end what is not needed (`nvidia-smi`, `kill PID`), or plan with what is free"
              : "look on the host: `sudo fuser -v /dev/nvidia*`; if nobody is there: `sudo "
                "nvidia-smi --gpu-reset -i N`";
    const bool full = gpu->available_bytes < gpu->memory_bytes / 10;
    findings.push_back(full ? Problem("gpu-memory", GpuTitle(facts, *gpu), free + by, remedy)
                            : Warning("gpu-memory", GpuTitle(facts, *gpu), free + by, remedy));
  }
  return findings;
}

Findings CheckGpuErrors(const DoctorFacts& facts) {
  Findings findings;
  for (const GpuHealth& card : facts.health) {
    const std::string title = CardTitle(facts, card);
    const std::string reset =
        absl::StrCat("end all work on it, then `sudo nvidia-smi --gpu-reset -i ", card.pci_bus_id,
                     "` or reboot");
    if (card.remapped_rows_failed == 1) {
      findings.push_back(Problem("gpu-errors", title, "no spare memory rows are left",
                                 "replace the card: its memory is failing"));
    } else if (card.remapped_rows_pending == 1 || card.retired_pages_pending == 1) {
      findings.push_back(Problem("gpu-errors", title,
                                 "bad memory was found and is still in use until the card is reset",
                                 reset));
    } else if (card.uncorrected_ecc_errors > 0) {
      findings.push_back(
          Problem("gpu-errors", title,
                  absl::StrCat(card.uncorrected_ecc_errors,
                               " uncorrected memory errors since the driver started"),
                  reset + "; if they come back, replace the card"));
    } else if (card.uncorrected_ecc_errors == 0) {
      findings.push_back(Ok("gpu-errors", title, "no uncorrected memory errors"));
    }
  }
  return findings;
}

Findings CheckGpuClocks(const DoctorFacts& facts) {
  Findings findings;
  for (const GpuHealth& card : facts.health) {
    if (card.throttle_causes.empty()) continue;
    const std::string causes = absl::StrJoin(card.throttle_causes, ", ");
    const bool hot = absl::StrContains(causes, "temperature");
    findings.push_back(Warning(
        "gpu-clocks", CardTitle(facts, card), absl::StrCat("clocks are held down by: ", causes),
        hot ? "see to its cooling (fans, dust, room); `nvidia-smi -q -d TEMPERATURE,PERFORMANCE`"
            : "check power supply and cables; `nvidia-smi -q -d POWER,PERFORMANCE`"));
  }
  return findings;
}

// Without persistence mode the driver unloads when nobody uses a GPU: seconds for each start. A
// card with a display keeps it loaded.
Findings CheckPersistence(const DoctorFacts& facts) {
  std::vector<std::string> off;
  for (const GpuHealth& card : facts.health) {
    if (card.persistence_mode == 0 && !absl::StrContains(card.name, "GeForce")) {
      off.push_back(CardTitle(facts, card));
    }
  }
  if (off.empty()) return {};
  return {Warning("persistence", absl::StrJoin(off, ", "),
                  "persistence mode is off: the first start of every job takes seconds longer",
                  "sudo nvidia-smi -pm 1, or enable nvidia-persistenced")};
}

Findings CheckMig(const DoctorFacts& facts) {
  Findings findings;
  for (const DeviceInfo* gpu : GpusOf(facts)) {
    if (gpu->mig.empty() || gpu->mig == "off") continue;
    if (gpu->mig == "on" && gpu->mig_instances.empty()) {
      findings.push_back(Problem("mig", GpuTitle(facts, *gpu),
                                 "in MIG mode without instances: CUDA cannot use it",
                                 "sudo nvidia-smi mig -cgi ... -C to make some, or sudo nvidia-smi "
                                 "-mig 0 to use the whole card"));
    } else if (gpu->mig_instances.size() > 1) {
      findings.push_back(
          Warning("mig", GpuTitle(facts, *gpu),
                  absl::StrCat(gpu->mig_instances.size(),
                               " MIG instances, of which CUDA gives a process one"),
                  "set CUDA_VISIBLE_DEVICES to the UUID of the one to use (`nvidia-smi -L`), or "
                  "sudo nvidia-smi -mig 0 for the whole card"));
    }
  }
  return findings;
}

}  // namespace tprun
