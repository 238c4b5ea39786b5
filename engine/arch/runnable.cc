#include "engine/arch/runnable.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tprun {
namespace {

std::string LayerFault(const LayerSpec& layer) {
  const RopeScaling scaling = layer.attention.rope.scaling;
  if (scaling == RopeScaling::kLongRope) return "rope scaling \"longrope\" is not supported";
  return "";
}

}  // namespace

std::string WhyNotRunnable(const ModelSpec& spec) {
  if (!spec.not_runnable.empty()) return spec.not_runnable;
  for (const LayerSpec& layer : spec.layers) {
    if (std::string fault = LayerFault(layer); !fault.empty()) return fault;
  }
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.format == nullptr || tensor.format->decodable()) continue;
    std::vector<absl::string_view> names;
    for (const WeightFormat* format : AllWeightFormats()) names.push_back(format->name);
    return absl::StrCat("tensor \"", tensor.name, "\" is of type ", tensor.format->name,
                        ", which cannot be read; supported: ", absl::StrJoin(names, ", "));
  }
  return "";
}

}  // namespace tprun
