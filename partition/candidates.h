#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/exchanges.h"
#include "partition/planner.h"
#include "partition/stage.h"

namespace tprun {

// A device that has no rank: sidecars may run there all the same.
inline constexpr int kNoCandidate = -1;

// The devices that a plan may use, as the search wants them.
struct Candidates {
  std::vector<SearchDevice> devices;
  std::vector<DeviceRef> refs;
  std::vector<DeviceRates> rates;
  std::vector<int> classes;  // see ClassesOf
  std::unique_ptr<TopologyExchanges> exchanges;
  std::vector<int> sidecar_devices;  // where each of the model's sidecars runs, or kNoCandidate
  std::vector<std::string> notes;
};

// The devices that the request names, one candidate per rank; if it names none all GPUs and CPUs
// there are. Of very many hosts only as many equal ones are taken as the model could use, and at
// most kMostDevices devices. NotFound for an unknown device, InvalidArgument for too many.
absl::StatusOr<Candidates> MakeCandidates(const PlanRequest& request);

// A part of the candidates, in this order.
Candidates Subset(const PlanRequest& request, const Candidates& all,
                  const std::vector<int>& members);

// The same with so many bytes less, by device, that may be used of each.
Candidates WithLess(const PlanRequest& request, const Candidates& all,
                    const std::map<std::string, int64_t>& less);

}  // namespace tprun
