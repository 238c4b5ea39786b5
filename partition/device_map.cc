#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "partition/plan.h"

namespace tprun {
namespace {

// "cuda:1" -> 1, "cpu" -> "cpu", as Accelerate writes them.
absl::StatusOr<Json> DeviceMapEntry(const std::string& device) {
  if (absl::StrContains(device, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("a device map knows one host only, and the plan uses \"", device, "\""));
  }
  absl::string_view number = device;
  if (!absl::ConsumePrefix(&number, "cuda:")) return Json(device);
  return Json(std::stoi(std::string(number)));
}

// The module that owns a tensor: "model.layers.0.mlp.up_proj" of "....up_proj.weight".
std::string ModuleOf(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// The layer's own module, "model.layers.0", of a module inside it; "" outside of layers.
std::string LayerModule(const std::string& module, int layer) {
  const std::string part = absl::StrCat(".", layer, ".");
  const size_t at = module.find(part);
  return at == std::string::npos ? "" : module.substr(0, at + part.size() - 1);
}

}  // namespace

absl::StatusOr<std::string> PlanDeviceMap(const Plan& plan, const ModelSpec& spec) {
  std::map<std::string, Json> layers;  // the one device of a layer's module; null: several
  for (int pass = 0; pass < 2; ++pass) {
    Json map = Json::object();
    for (const TensorSpec& tensor : spec.tensors) {
      const Placement& placement = plan.placements[tensor.block];
      if (absl::StartsWith(tensor.name, "blk.") || absl::StartsWith(tensor.name, "token_embd")) {
        return absl::InvalidArgumentError(
            "a device map is for Hugging Face checkpoints, this model is a GGUF file");
      }
      if (placement.ranks.size() != 1) {
        return absl::InvalidArgumentError(absl::StrCat(
            "a device map cannot say that ", BlockName(spec, tensor.block), " is split over ",
            placement.ranks.size(), " ranks; plan with --split=layer"));
      }
      ASSIGN_OR_RETURN(const Json device, DeviceMapEntry(plan.ranks[placement.ranks[0]].device));
      const std::string module = ModuleOf(tensor.name);
      const std::string layer = LayerModule(module, spec.blocks[tensor.block].layer);
      if (pass == 0 && !layer.empty()) {
        const auto [it, added] = layers.emplace(layer, device);
        if (!added && it->second != device) it->second = nullptr;
      }
      const auto whole = layers.find(layer);
      const bool one_device = whole != layers.end() && !whole->second.is_null();
      map[one_device ? layer : module] = device;
    }
    if (pass == 1) return map.dump(2) + "\n";
  }
  return absl::InternalError("unreachable");
}

}  // namespace tprun
