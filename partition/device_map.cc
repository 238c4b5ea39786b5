#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "partition/export.h"
#include "partition/export_layers.h"
#include "partition/plan.h"

namespace tprun {
namespace {

// GPUs by number and "cpu", as Accelerate writes them.
absl::StatusOr<Json> DeviceMapEntry(const Plan& plan, int rank) {
  ASSIGN_OR_RETURN(const int gpu, GpuNumber(plan, rank, "a device map"));
  return gpu < 0 ? Json("cpu") : Json(gpu);
}

// The module that owns a tensor: "model.layers.0.mlp.up_proj" of "....up_proj.weight", and that of
// all experts where they are modules of their own.
std::string ModuleOf(const ModelSpec& spec, const TensorSpec& tensor) {
  // A head that shares the embedding's tensor is a module all the same.
  if (tensor.role == TensorRole::kHead && spec.tied_head) return "lm_head";
  const size_t expert = tensor.name.find(absl::StrCat(".", kExpertMark));
  const std::string module =
      tensor.name.substr(0, expert != std::string::npos ? expert : tensor.name.rfind('.'));
  // Mixtral's module has another name than its tensors since transformers 5.
  return absl::StrReplaceAll(module, {{".block_sparse_moe.", ".mlp."}});
}

// The layer's own module, "model.layers.0", of a module inside it; "" outside of layers.
std::string LayerModule(const std::string& module, int layer) {
  const std::string part = absl::StrCat(".", layer, ".");
  const size_t at = module.find(part);
  return at == std::string::npos ? "" : module.substr(0, at + part.size() - 1);
}

bool InLayer(const ModelSpec& spec, const TensorSpec& tensor) {
  const BlockKind kind = spec.blocks[tensor.block].kind;
  return kind == BlockKind::kAttention || kind == BlockKind::kMlp;
}

absl::StatusOr<Json> DeviceMap(const Plan& plan, const ModelSpec& spec) {
  std::map<std::string, Json> layers;  // the one device of a layer's module; null: several
  Json map;
  for (int pass = 0; pass < 2; ++pass) {
    map = Json::object();
    for (const TensorSpec& tensor : spec.tensors) {
      const Placement& placement = plan.placements[tensor.block];
      if (absl::StartsWith(tensor.name, "blk.") || absl::StartsWith(tensor.name, "token_embd")) {
        return absl::InvalidArgumentError(
            "a device map is for Hugging Face checkpoints, this model is a GGUF file");
      }
      const int rank = OnlyRank(placement);
      if (rank < 0) {
        return absl::InvalidArgumentError(absl::StrCat(
            "a device map cannot say that ", BlockName(spec, tensor.block), " is split over ",
            HoldingRanks(placement).size(), " ranks; plan with --split=layer"));
      }
      ASSIGN_OR_RETURN(const Json device, DeviceMapEntry(plan, rank));
      const std::string module = ModuleOf(spec, tensor);
      const std::string layer =
          InLayer(spec, tensor) ? LayerModule(module, spec.blocks[tensor.block].layer) : "";
      if (pass == 0 && !layer.empty()) {
        const auto [it, added] = layers.emplace(layer, device);
        if (!added && it->second != device) it->second = nullptr;
      }
      const auto whole = layers.find(layer);
      const bool one_device = whole != layers.end() && !whole->second.is_null();
      map[one_device ? layer : module] = device;
    }
  }
  return map;
}

}  // namespace

absl::StatusOr<std::string> PlanDeviceMap(const Plan& plan, const ModelSpec& spec) {
  ASSIGN_OR_RETURN(const Json map, DeviceMap(plan, spec));
  return map.dump(2) + "\n";
}

absl::StatusOr<std::string> PlanPythonDeviceMap(const Plan& plan, const ModelSpec& spec) {
  ASSIGN_OR_RETURN(const Json map, DeviceMap(plan, spec));
  std::map<int, int64_t> gpus;
  int64_t cpu = 0;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    ASSIGN_OR_RETURN(const int gpu, GpuNumber(plan, rank, "a device map"));
    (gpu < 0 ? cpu : gpus[gpu]) += plan.ranks[rank].available_bytes;
  }
  std::string memory = "{";
  for (const auto& [gpu, bytes] : gpus) absl::StrAppendFormat(&memory, "%d: %d, ", gpu, bytes);
  absl::StrAppendFormat(&memory, "\"cpu\": %d}", cpu);
  // A JSON object of strings and integers is a Python dictionary.
  return absl::StrCat("# ", plan.model_name,
                      ", by tprun plan; bytes per device.\ndevice_map = ", map.dump(2),
                      "\nmax_memory = ", memory, "\n");
}

}  // namespace tprun
