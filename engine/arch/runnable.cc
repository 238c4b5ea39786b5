#include "engine/arch/runnable.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tprun {

std::string WhyNotRunnable(const ModelSpec& spec) {
  if (!spec.not_runnable.empty()) return spec.not_runnable;
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
