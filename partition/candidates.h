#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "partition/exchanges.h"
#include "partition/planner.h"
#include "partition/stage.h"

namespace tprun {

// The devices that a plan may use, as the search wants them.
struct Candidates {
  std::vector<SearchDevice> devices;
  std::vector<DeviceRef> refs;
  std::vector<DeviceRates> rates;
  std::vector<int> classes;  // see ClassesOf
  std::unique_ptr<TopologyExchanges> exchanges;
  int sidecar_device = -1;  // where the model's sidecars run, -1: it has none
  std::vector<std::string> notes;
};

// The devices that the request names, one candidate per rank; if it names none all GPUs and CPUs
// there are. Of very many hosts only as many equal ones are taken as the model could use, and at
// most kMostDevices devices. NotFound for an unknown device, InvalidArgument for too many.
absl::StatusOr<Candidates> MakeCandidates(const PlanRequest& request);

// A part of the candidates, in this order.
Candidates Subset(const PlanRequest& request, const Candidates& all,
                  const std::vector<int>& members);

}  // namespace tprun
