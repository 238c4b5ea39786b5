#include "launcher/record_residual.h"

#include <map>
#include <vector>

#include "base/status_macros.h"
#include "launcher/report.h"
#include "launcher/user_state.h"

namespace tprun {

absl::Status RecordResidual(RankSession& session, const ModelOptions& options,
                            const std::string& command, MeasuredSpeeds measured) {
  if (options.threads > 0 || options.kernels != ModelOptions().kernels || options.profile) {
    measured = {};
  }
  ASSIGN_OR_RETURN(const std::vector<double> in_use,
                   GatherDoubles(session.world(), static_cast<double>(session.MemoryInUse())));
  if (!session.first_rank()) return absl::OkStatus();
  const Plan& plan = session.model().plan;
  Residual residual;
  residual.command = command;
  residual.model = plan.model_name;
  residual.fingerprint = plan.fingerprint;
  residual.predicted_decode = plan.decode.expected;
  residual.predicted_prefill = plan.prefill.expected;
  residual.measured_decode = measured.decode;
  residual.measured_prefill = measured.prefill;
  // Threads of one process share their resident memory, and ranks on one GPU its free memory.
  const bool threads = session.world().backend() == "local" && session.world().size() > 1;
  std::map<std::string, int> sharing;
  for (const RankPlan& rank : plan.ranks) ++sharing[rank.device];
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const RankPlan& predicted = plan.ranks[rank];
    residual.devices.push_back(predicted.device_name);
    const bool alone = IsCpu(predicted.device) ? !threads : sharing[predicted.device] == 1;
    if (!alone || in_use[rank] <= 0) continue;
    residual.predicted_bytes += predicted.total_bytes();
    residual.measured_bytes += static_cast<int64_t>(in_use[rank]);
  }
  (void)AppendResidual(residual);
  return absl::OkStatus();
}

}  // namespace tprun
