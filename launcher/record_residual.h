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
// cannot be kept is no error of the run. A plan predicts what all threads do with the fastest
// kernels: of a run with other --threads or --kernels, or with ops timed one by one, only the
// memory is kept.
absl::Status RecordResidual(RankSession& session, const ModelOptions& options,
                            const std::string& command, MeasuredSpeeds measured);

}  // namespace tprun
