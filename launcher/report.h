#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "launcher/rank_session.h"

namespace tprun {

// Resident memory of this process in bytes (VmRSS), 0 if the system does not tell.
int64_t ResidentBytes();

// One line on rank 0's standard error: per rank, predicted and in use. Every rank calls it.
absl::Status ReportMemory(RankSession& session);

// `value` of every rank, on all ranks.
absl::StatusOr<std::vector<double>> GatherDoubles(Communicator& world, double value);

}  // namespace tprun
