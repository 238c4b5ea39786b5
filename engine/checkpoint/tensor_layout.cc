#include "engine/checkpoint/tensor_layout.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"

namespace tprun {

absl::StatusOr<int64_t> CheckedMultiply(int64_t a, int64_t b) {
  if (b != 0 && a > std::numeric_limits<int64_t>::max() / b) {
    return absl::OutOfRangeError(absl::StrCat(a, " x ", b, " does not fit 63 bits"));
  }
  return a * b;
}

absl::StatusOr<int64_t> CountElements(absl::Span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) {
    ASSIGN_OR_RETURN(count, CheckedMultiply(count, size));
  }
  return count;
}

absl::Status CheckRanges(const RandomAccessFile& file, absl::Span<const CheckpointTensor> tensors) {
  std::vector<const CheckpointTensor*> order;
  for (const CheckpointTensor& tensor : tensors) {
    if (tensor.offset > file.size() || tensor.bytes > file.size() - tensor.offset) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.path(), ": wanted ", tensor.bytes, " bytes of tensor ",
                       Quoted(tensor.name), " at offset ", tensor.offset, ", found a file of ",
                       file.size(), " bytes (cut short, or its header is wrong)"));
    }
    if (tensor.bytes > 0) order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const CheckpointTensor* a, const CheckpointTensor* b) {
    return a->offset < b->offset;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const CheckpointTensor& before = *order[i - 1];
    if (before.offset + before.bytes > order[i]->offset) {
      return absl::InvalidArgumentError(absl::StrCat(
          file.path(), ": wanted tensors that do not overlap, found ", Quoted(before.name), " at [",
          before.offset, ", ", before.offset + before.bytes, ") and ", Quoted(order[i]->name),
          " at offset ", order[i]->offset));
    }
  }
  return absl::OkStatus();
}

}  // namespace tprun
