#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "comm/communicator.h"

namespace tprun {

// What every back end of Communicator has to do, as functions that each rank runs. An error tells
// what was wanted and found.
struct ConformanceCheck {
  std::string name;
  std::function<absl::Status(Communicator&)> run;
};

// Checks that leave the communicator usable; for any number of ranks.
std::vector<ConformanceCheck> ConformanceChecks();

// Those of them that are of sums in place.
std::vector<ConformanceCheck> SumInPlaceChecks();

// Checks in which the last rank gives up while the others wait, each in another operation; of two
// ranks and more. OK when the others heard of it; the communicator is of no use afterwards.
std::vector<ConformanceCheck> AbortChecks();

// The last rank comes only after the timeout: the others get DeadlineExceeded in time.
ConformanceCheck DeadlineCheck();

}  // namespace tprun
