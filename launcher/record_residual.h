#pragma once

#include <string>

#include "launcher/rank_session.h"

namespace tprun {

// Measured speeds of a run, tokens per second; 0: too short to tell.
struct MeasuredSpeeds {
  double decode = 0;
  double prefill = 0;
};

// Keeps how the run compares with its plan (see user_state.h); collective over the ranks. That it
// cannot be kept is no error of the run.
absl::Status RecordResidual(RankSession& session, const std::string& command,
                            const MeasuredSpeeds& measured);

}  // namespace tprun
