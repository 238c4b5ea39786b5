#include "launcher/measure.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace tprun {
namespace {

bool HasGpus(const Topology& topology) {
  for (const DeviceInfo& device : topology.devices) {
    if (device.kind == DeviceKind::kGpu) return true;
  }
  return false;
}

// Others that compute meanwhile take from what is measured.
void NoteLoad(Topology& topology) {
  double load = 0;
  if (getloadavg(&load, 1) != 1 || topology.devices.empty()) return;
  const int threads = topology.devices[0].threads;
  if (load < 0.5 * threads) return;
  topology.notes.push_back(
      absl::StrFormat("the machine was busy while it was measured (load %.1f on %d hardware "
                      "threads): idle, it is faster",
                      load, threads));
}

}  // namespace

void MeasureMachine(Topology& topology, const std::function<void(const std::string&)>& tell) {
  NoteLoad(topology);
  const std::string today = absl::FormatTime("%Y-%m-%d", absl::Now(), absl::LocalTimeZone());
  for (DeviceInfo& device : topology.devices) {
    if (device.kind != DeviceKind::kCpu) continue;
    tell("the CPU: memory bandwidth, matrix products");
    MeasureCpu(device);
    tell("two ranks on the CPU");
    const absl::StatusOr<RankExchange> exchange = MeasureRanks();
    if (exchange.ok()) {
      device.measured.rank_latency_s = exchange->latency_s;
      device.measured.rank_bandwidth_bytes_per_s = exchange->bandwidth_bytes_per_s;
    } else {
      topology.notes.push_back(absl::StrCat("the exchange of two ranks was not measured: ",
                                            absl::string_view(exchange.status().message())));
    }
    device.measured.date = today;
  }
  if (!HasGpus(topology)) return;
  const absl::StatusOr<std::unique_ptr<DeviceProbe>> probe = OpenDeviceProbe();
  if (!probe.ok()) {
    topology.notes.push_back(
        absl::StrCat("the GPUs were not measured: ", absl::string_view(probe.status().message())));
    return;
  }
  MeasureGpus(**probe, topology, tell);
  for (DeviceInfo& device : topology.devices) {
    if (device.measured.memory_bandwidth_bytes_per_s > 0) device.measured.date = today;
  }
}

}  // namespace tprun
