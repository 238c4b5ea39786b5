#include <algorithm>
#include <limits>
#include <numeric>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "partition/export.h"
#include "partition/export_layers.h"

// Arguments of `vllm serve` as of vLLM 0.11 (docs.vllm.ai): pipeline stages are cut by
// VLLM_PP_LAYER_PARTITION, the KV cache is given in bytes per GPU.

namespace tprun {
namespace {

absl::Status CannotSay(const ModelSpec& spec, int block, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("vLLM cannot place ", BlockName(spec, block), " as the plan does: ", why));
}

// Attention and MLP of all layers over groups of one size with equal shares.
absl::Status CheckBlock(const Plan& plan, const ModelSpec& spec, int block, size_t group) {
  const Placement& placement = plan.placements[block];
  const std::vector<int> ranks = HoldingRanks(placement);
  if (ranks.size() != group) {
    return CannotSay(spec, block,
                     absl::StrCat("its group has ", ranks.size(), " ranks, the first ", group,
                                  "; all have to be of one size"));
  }
  for (int64_t share : placement.shares) {
    if (share == 0 || share == placement.shares[0]) continue;
    return CannotSay(spec, block,
                     "its shares are not equal; plan with --devices and equal --shares, or with "
                     "--split=layer");
  }
  for (int rank : ranks) {
    ASSIGN_OR_RETURN(const int gpu, GpuNumber(plan, rank, "this export"));
    if (gpu < 0) return CannotSay(spec, block, "it lies on a CPU");
  }
  return absl::OkStatus();
}

struct Stages {
  size_t tensor_parallel = 1;
  std::vector<std::vector<int>> ranks;  // of each stage
  std::vector<int> layers;
};

absl::StatusOr<Stages> ReadStages(const Plan& plan, const ModelSpec& spec) {
  Stages stages;
  stages.tensor_parallel = HoldingRanks(plan.placements[spec.attention_block(0)]).size();
  for (int layer = 0; layer < spec.num_layers(); ++layer) {
    const int attention = spec.attention_block(layer);
    RETURN_IF_ERROR(CheckBlock(plan, spec, attention, stages.tensor_parallel));
    RETURN_IF_ERROR(CheckBlock(plan, spec, spec.mlp_block(layer), stages.tensor_parallel));
    const std::vector<int> ranks = HoldingRanks(plan.placements[attention]);
    if (HoldingRanks(plan.placements[spec.mlp_block(layer)]) != ranks) {
      return CannotSay(spec, spec.mlp_block(layer), "it lies elsewhere than its layer's attention");
    }
    if (stages.ranks.empty() || stages.ranks.back() != ranks) {
      stages.ranks.push_back(ranks);
      stages.layers.push_back(0);
    }
    ++stages.layers.back();
  }
  return stages;
}

}  // namespace

absl::StatusOr<std::string> PlanVllmCommand(const Plan& plan, const ModelSpec& spec,
                                            absl::string_view model) {
  const absl::string_view kv_type = KvTypeName(plan.options);
  const bool fp8 = absl::StartsWith(kv_type, "fp8");
  if (!fp8 && kv_type != "f32" && kv_type != "f16" && kv_type != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("vLLM has no KV cache of type ", kv_type, "; plan with fp8_e4m3 or f16"));
  }
  ASSIGN_OR_RETURN(const Stages stages, ReadStages(plan, spec));
  std::vector<int> gpus;
  int64_t kv_bytes = 0;  // the flag is per GPU: what the stage of most layers needs
  for (const std::vector<int>& ranks : stages.ranks) {
    for (int rank : ranks) {
      ASSIGN_OR_RETURN(const int gpu, GpuNumber(plan, rank, "vLLM"));
      gpus.push_back(gpu);
      kv_bytes = std::max(kv_bytes, plan.ranks[rank].kv_bytes);
    }
  }
  std::string command = absl::StrCat("CUDA_VISIBLE_DEVICES=", absl::StrJoin(gpus, ","), " ");
  const size_t count = stages.ranks.size();
  if (count > 1) {
    absl::StrAppend(&command, "VLLM_PP_LAYER_PARTITION=", absl::StrJoin(stages.layers, ","), " ");
  }
  absl::StrAppend(&command, "vllm serve ", model);
  absl::StrAppend(&command, " --tensor-parallel-size ", stages.tensor_parallel);
  if (count > 1) absl::StrAppend(&command, " --pipeline-parallel-size ", count);
  const EngineOptions& options = plan.options;
  absl::StrAppend(&command, " --max-model-len ", options.context, " --max-num-seqs ", options.batch,
                  " --max-num-batched-tokens ", std::max(options.prefill_chunk, options.context),
                  " --kv-cache-memory-bytes ", kv_bytes);
  if (fp8) absl::StrAppend(&command, " --kv-cache-dtype ", kv_type);
  return command + "\n";
}

}  // namespace tprun
