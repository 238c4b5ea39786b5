#include "base/status_macros.h"
#include "engine/layers/layers.h"

namespace tprun {
namespace {

// workspace.routing of a step: logits [tokens, count], then ids and weights [tokens, per_token],
// then the gate of the shared experts [tokens].
struct Routing {
  Routing(const ExpertsBlock& block, int64_t tokens, float* p)
      : logits(p),
        ids(reinterpret_cast<int32_t*>(logits + tokens * block.spec.count)),
        weights(logits + tokens * (block.spec.count + block.spec.per_token)),
        shared_gate(weights + tokens * block.spec.per_token) {}
  float* logits;
  int32_t* ids;
  float* weights;
  float* shared_gate;
};

// block_output = the shared experts' part of this rank, zeros where there is none.
absl::Status RunShared(const ExpertsBlock& block, Activation activation, const Routing& routing,
                       int64_t tokens, const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  if (block.shared_down.columns > 0) {
    RETURN_IF_ERROR(kernels.GatedMatMul(work.normed, block.shared_gate, block.shared_up, activation,
                                        tokens, work.gate, work.up));
    if (block.shared_router.data != nullptr) {
      RETURN_IF_ERROR(kernels.MatMul(work.normed, block.shared_router, nullptr, tokens,
                                     routing.shared_gate, 1));
      RETURN_IF_ERROR(
          kernels.SigmoidScale(work.gate, routing.shared_gate, tokens, block.shared_down.columns));
    }
  }
  RETURN_IF_ERROR(AwaitOutput(step));
  return kernels.MatMul(work.gate, block.shared_down, nullptr, tokens, work.block_output, step.dim);
}

}  // namespace

absl::Status RunExperts(const ExpertsBlock& block, Activation activation, int64_t tokens,
                        const StepContext& step) {
  Kernels& kernels = step.kernels;
  const Workspace& work = step.workspace;
  const Routing routing(block, tokens, work.routing);
  RETURN_IF_ERROR(RunShared(block, activation, routing, tokens, step));
  if (block.experts == 0) return absl::OkStatus();
  RETURN_IF_ERROR(kernels.MatMul(work.normed, block.router, block.router_bias, tokens,
                                 routing.logits, block.spec.count));
  RETURN_IF_ERROR(kernels.RouteExperts(routing.logits, block.choice_bias, tokens, block.spec,
                                       routing.ids, routing.weights));
  const ExpertChoice choice = {.ids = routing.ids,
                               .weights = routing.weights,
                               .tokens = tokens,
                               .per_token = block.spec.per_token,
                               .first_expert = block.first_expert,
                               .experts = block.experts};
  RETURN_IF_ERROR(kernels.ExpertGatedMatMul(work.normed, block.gate, block.up, activation, choice,
                                            work.gate, work.up));
  return kernels.ExpertSum(work.gate, block.down, choice, work.block_output);
}

}  // namespace tprun
