#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/model/model_spec.h"
#include "launcher/model_options.h"
#include "partition/memory_model.h"
#include "partition/plan.h"
#include "topology/topology.h"

namespace tprun {

// A model with its plan, before any rank has memory for it.
struct PreparedModel {
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
  Plan plan;
  std::string note;  // what the user should know of --weights, usually ""
};

// This machine, or the file that --topology names.
absl::StatusOr<Topology> TopologyFor(const ModelOptions& options);

// What --reserve, --utilization and --limit say.
absl::StatusOr<MemoryLimits> ReadLimits(const ModelOptions& options);

// `devices`, or all of them where none is named: what a plan cannot do without is checked, that
// they and those of the limits are there, and how much memory they have.
absl::StatusOr<std::vector<DeviceRef>> PlannedDevices(const ModelOptions& options,
                                                      const Topology& topology,
                                                      const MemoryLimits& limits,
                                                      absl::Span<const std::string> devices);

// Opens the model and makes its plan, or reads it from --plan (then options that choose a plan are
// InvalidArgument). `default_devices` stands for --devices if not given. A plan that does not fit
// is returned as it is.
absl::StatusOr<PreparedModel> PrepareModel(const ModelOptions& options,
                                           const std::vector<std::string>& default_devices);

// Opens the model for a plan that is already made.
absl::StatusOr<PreparedModel> PrepareForPlan(const ModelOptions& options,
                                             const std::string& plan_json);

// The devices that `tprun plan` takes when none are named: all GPUs, or the CPU of every host.
std::vector<std::string> AllDevices(const Topology& topology);

// ResourceExhausted when the plan does not fit: the rank and device that is short by most, the
// bytes and the first remedy.
absl::Status CheckFits(const Plan& plan);

// InvalidArgument unless the plan is for one sequence at a time, which is what is generated.
absl::Status CheckOneSequence(const Plan& plan);

}  // namespace tprun
