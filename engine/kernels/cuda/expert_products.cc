#include "engine/kernels/cuda/expert_products.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/cuda/expert_tiles.h"
#include "engine/kernels/cuda/matvec.h"
#include "engine/kernels/cuda/status.h"
#include "engine/kernels/cuda/workspace.h"

namespace tprun::cuda {
namespace {

// Visits and items of a part of the tokens lie where split sums of other products do.
constexpr int64_t kMostVisits = 64 << 10;
constexpr int64_t kMostItems = kMostVisits / kMostMatVecTokens + kMostExperts;
static_assert(kMostItems < 65536, "a grid has at most so many blocks in z");
static_assert(kMostVisits * 4 + kMostItems * int64_t{sizeof(StackItem)} + 4 <=
              kMatVecPartialFloats * 4);

absl::Status CheckStack(const ExpertStack& w, const float* x) {
  if (!IsArranged(w.one.format)) return absl::OkStatus();
  if (CanTile(w.one) && w.bytes % 16 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "quantised matrices of a stack, and what they are multiplied with, must start at multiples "
      "of 16 bytes");
}

// Whether the kernels of tiles can read a stack and the rows that it is multiplied with.
bool CanTileStack(const ExpertStack& w, const float* x, int64_t x_stride) {
  return CanTile(w.one) && w.bytes % 16 == 0 && reinterpret_cast<uintptr_t>(x) % 16 == 0 &&
         x_stride % 4 == 0;
}

Choice PartOf(Choice choice, int64_t first, int64_t tokens) {
  choice.ids += first * choice.per_token;
  choice.weights += first * choice.per_token;
  choice.tokens = tokens;
  return choice;
}

// Calls run(first token, part of the choice) for at most `most` tokens at a time.
template <class Run>
absl::Status InParts(const Choice& choice, int64_t most, const Run& run) {
  if (choice.experts > kMostExperts) {
    return absl::UnimplementedError(
        absl::StrCat(choice.experts, " experts on a GPU rank; at most ", kMostExperts));
  }
  const int64_t part = std::max<int64_t>(1, std::min(most, kMostVisits / choice.slots));
  for (int64_t first = 0; first < choice.tokens; first += part) {
    const int64_t tokens = std::min(part, choice.tokens - first);
    RETURN_IF_ERROR(run(first, PartOf(choice, first, tokens)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MultiplyStack(const Stream& stream, const MatrixStack& stack, int64_t tokens,
                           const float* x, const ExpertStack& w, const ExpertStack* up, Gate gate,
                           float* out, int64_t out_stride) {
  RETURN_IF_ERROR(CheckStack(w, x));
  MatVecArguments a;
  a.targets[0] = {w.one.data, w.bias, out, w.one.rows, out_stride};
  if (up != nullptr) a.targets[1] = {up->one.data, up->bias, nullptr, up->one.rows, 0};
  a.count = up != nullptr ? 2 : 1;
  a.gate = gate;
  a.x = x;
  a.columns = w.one.columns;
  a.tokens = static_cast<int>(std::min<int64_t>(tokens, kMostMatVecTokens));
  a.stack = stack;
  a.stack.matrix_bytes = w.bytes;
  if (CanTileStack(w, x, stack.x_stride) && stack.x_step % 4 == 0 &&
      (up == nullptr || CanTile(up->one))) {
    if (stack.most_visits > kMostMatVecTokens) {
      return LaunchStatus(TileExperts(stream, w.one.format, a));
    }
    return LaunchStatus(TileMatVec(stream, w.one.format, a));
  }
  if (a.columns == 0) return LaunchStatus(RowMatVec(stream, Format::kF32, a));  // the bias
  if (IsArranged(w.one.format)) {
    return absl::InvalidArgumentError("vectors of an arranged matrix: wanted every 16 bytes");
  }
  return LaunchStatus(RowMatVec(stream, w.one.format, a));
}

VisitLists ExpertProducts::Lists() const {
  char* at = workspace_ + WorkspaceLayout::kMatVec;
  VisitLists lists;
  lists.list = reinterpret_cast<StackItem*>(at);
  lists.visits = reinterpret_cast<int32_t*>(at + kMostItems * sizeof(StackItem));
  lists.count = lists.visits + kMostVisits;
  return lists;
}

absl::StatusOr<MatrixStack> ExpertProducts::StackOf(const Choice& choice, bool can_tile) const {
  MatrixStack stack;
  stack.first_expert = choice.first_expert;
  stack.experts = choice.experts;
  stack.slots = choice.slots;
  if (choice.tokens == 1) {
    stack.ids = choice.ids;
    stack.items = choice.per_token;
    return stack;
  }
  VisitLists lists = Lists();
  if (can_tile && UseExpertTiles(choice.tokens, choice.slots, choice.experts)) {
    lists.most = kExpertTileTokens;
  }
  RETURN_IF_ERROR(LaunchStatus(GroupChoices(stream_, choice, lists)));
  stack.most_visits = lists.most;
  stack.list = lists.list;
  stack.count = lists.count;
  stack.visits = lists.visits;
  const int64_t visits = choice.tokens * choice.slots;
  stack.items = static_cast<int>(std::min<int64_t>(visits, choice.experts) + visits / lists.most);
  return stack;
}

absl::Status ExpertProducts::Gated(const float* x, const ExpertStack& gate, const ExpertStack& up,
                                   Gate kind, const Choice& choice, float* out,
                                   float* up_out) const {
  const int64_t width = choice.slots * gate.one.rows;
  return InParts(choice, choice.tokens, [&](int64_t first, const Choice& part) {
    return GatedPart(x + first * gate.one.columns, gate, up, kind, part, out + first * width,
                     up_out + first * width);
  });
}

absl::Status ExpertProducts::GatedPart(const float* x, const ExpertStack& gate,
                                       const ExpertStack& up, Gate kind, const Choice& choice,
                                       float* out, float* up_out) const {
  const int64_t rows = gate.one.rows, columns = gate.one.columns;
  const bool can_tile = CanTileStack(gate, x, columns) && CanTileStack(up, x, columns);
  ASSIGN_OR_RETURN(MatrixStack stack, StackOf(choice, can_tile));
  stack.x_stride = columns;
  if (gate.one.format == up.one.format) {
    RETURN_IF_ERROR(CheckStack(up, x));
    return MultiplyStack(stream_, stack, choice.tokens, x, gate, &up, kind, out, rows);
  }
  RETURN_IF_ERROR(
      MultiplyStack(stream_, stack, choice.tokens, x, gate, nullptr, Gate::kNone, out, rows));
  RETURN_IF_ERROR(
      MultiplyStack(stream_, stack, choice.tokens, x, up, nullptr, Gate::kNone, up_out, rows));
  return LaunchStatus(ActivateSlots(stream_, kind, out, up_out, rows, choice));
}

absl::Status ExpertProducts::Sum(const float* h, const ExpertStack& down, const Choice& choice,
                                 float* out) const {
  // The parts of a sum wait in the memory of decoded weights until all are there: added up in one
  // order, whoever comes first.
  auto* parts = reinterpret_cast<float*>(workspace_ + WorkspaceLayout::kWeights);
  const int64_t rows = down.one.rows, columns = down.one.columns;
  const int64_t most = WorkspaceLayout::kWeightBytes / (4 * rows * choice.slots);
  if (most == 0) return absl::UnimplementedError("ExpertSum: the output is too wide");
  return InParts(choice, most, [&](int64_t first, const Choice& part) -> absl::Status {
    const float* x = h + first * choice.slots * columns;
    ASSIGN_OR_RETURN(MatrixStack stack, StackOf(part, CanTileStack(down, x, columns)));
    stack.x_stride = columns;
    stack.x_by_slot = true;
    RETURN_IF_ERROR(
        MultiplyStack(stream_, stack, part.tokens, x, down, nullptr, Gate::kNone, parts, rows));
    return LaunchStatus(SumSlots(stream_, parts, rows, part, out + first * rows));
  });
}

}  // namespace tprun::cuda
