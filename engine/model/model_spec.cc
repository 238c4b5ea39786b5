#include "engine/model/model_spec.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace tprun {
namespace {

std::string LayerName(const ModelSpec& spec, int layer) {
  const std::string& stack = spec.layers[layer].stack;
  return absl::StrCat(stack, stack.empty() ? "" : " ", "layer ", layer);
}

}  // namespace

std::string BlockName(const ModelSpec& spec, int block) {
  const int layer = spec.blocks[block].layer;
  switch (spec.blocks[block].kind) {
    case BlockKind::kEmbed:
      return "embed";
    case BlockKind::kAttention:
      return absl::StrCat(LayerName(spec, layer), " attention");
    case BlockKind::kMlp:
      return absl::StrCat(LayerName(spec, layer), " mlp");
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

std::string ExpertTensorName(const TensorSpec& tensor, int expert) {
  return absl::StrReplaceAll(tensor.name, {{kExpertMark, absl::StrCat(expert)}});
}

int64_t ParameterCount(const ModelSpec& spec) {
  int64_t count = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.role == TensorRole::kHead && spec.tied_head) continue;
    count += ElementCount(tensor);
  }
  return count;
}

int64_t ActiveParameterCount(const ModelSpec& spec) {
  int64_t count = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.role == TensorRole::kHead && spec.tied_head) continue;
    const int64_t elements = ElementCount(tensor);
    const Block& block = spec.blocks[tensor.block];
    const bool routed = block.kind == BlockKind::kMlp && tensor.experts > 0 &&
                        spec.layers[block.layer].mlp.experts.count > 0;
    count += routed ? elements / tensor.experts * spec.layers[block.layer].mlp.experts.per_token
                    : elements;
  }
  return count;
}

absl::Status CheckRunnable(const ModelSpec& spec) {
  if (spec.not_runnable.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(spec.name, " can be planned but not run: ", spec.not_runnable));
}

absl::Status CheckGeneratesText(const ModelSpec& spec) {
  if (spec.streams == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      spec.name, " has ", spec.streams,
      " streams of tokens: `run` (with --codes) and `plan` take it, other commands take ",
      "models of one stream"));
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
