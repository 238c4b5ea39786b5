#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "partition/plan.h"

namespace tprun {

// A plan in the words of other programs, as far as they can say it. InvalidArgument names the block
// that they cannot say, and what would make it sayable. PlanDeviceMap is in plan.h.

// A Python module with `device_map` and `max_memory`, for Accelerate and transformers:
//   from plan import device_map, max_memory
//   AutoModelForCausalLM.from_pretrained(MODEL, device_map=device_map)
// max_memory is what the plan may use of each device. JSON cannot say its integer keys.
absl::StatusOr<std::string> PlanPythonDeviceMap(const Plan& plan, const ModelSpec& spec);

// Arguments for llama.cpp's programs on one line: -ngl -sm -ts -ot -c -np -b -ctk -ctv, the model
// named `model`. llama.cpp puts the first layers on the CPU and the others on GPUs in order; what
// differs from that is said with -ot. Blocks over several GPUs become -sm row with -ts in
// proportion, which is close to the plan, not equal to it.
absl::StatusOr<std::string> PlanLlamaCppArguments(const Plan& plan, const ModelSpec& spec,
                                                  absl::string_view model);

// The command `vllm serve` with the plan's parallelism, KV cache and lengths; environment variables
// in front. vLLM has equal tensor parallel shares, all groups of one size, and no CPU ranks.
absl::StatusOr<std::string> PlanVllmCommand(const Plan& plan, const ModelSpec& spec,
                                            absl::string_view model);

// Open MPI's rankfile: every rank on its device's host. `mpirun --rankfile FILE -np N`.
std::string PlanMpiRankfile(const Plan& plan);

// Open MPI's hostfile, for plans whose ranks are host by host in order; InvalidArgument says to
// take the rankfile.
absl::StatusOr<std::string> PlanMpiHostfile(const Plan& plan);

}  // namespace tprun
