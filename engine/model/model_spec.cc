#include "engine/model/model_spec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tprun {

std::string BlockName(const ModelSpec& spec, int block) {
  switch (spec.blocks[block].kind) {
    case BlockKind::kEmbed:
      return "embed";
    case BlockKind::kAttention:
      return absl::StrCat("layer ", spec.blocks[block].layer, " attention");
    case BlockKind::kMlp:
      return absl::StrCat("layer ", spec.blocks[block].layer, " mlp");
    case BlockKind::kHead:
      return "head";
  }
  return "?";
}

int64_t ElementCount(const TensorSpec& tensor) {
  int64_t count = 1;
  for (int64_t extent : tensor.shape) count *= extent;
  return count;
}

int64_t ParameterCount(const ModelSpec& spec) {
  int64_t count = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.role == TensorRole::kHead && spec.tied_head) continue;
    count += ElementCount(tensor);
  }
  return count;
}

const TensorSpec* FindTensor(const ModelSpec& spec, int block, TensorRole role) {
  auto it = std::lower_bound(spec.tensors.begin(), spec.tensors.end(), block,
                             [](const TensorSpec& tensor, int b) { return tensor.block < b; });
  for (; it != spec.tensors.end() && it->block == block; ++it) {
    if (it->role == role) return &*it;
  }
  return nullptr;
}

}  // namespace tprun
