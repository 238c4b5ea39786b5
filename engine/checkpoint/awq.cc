#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/grouped_integers.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"

// AWQ (arXiv 2306.00978) in the GEMM layout (casper-hansen/AutoAWQ 0.2: awq/modules/linear/gemm.py
// and awq/utils/packing_utils.py): of X
//
//   qweight  I32 [in, out / 8]      eight outputs per word, from the lowest bits in kOrder
//   qzeros   I32 [groups, out / 8]  likewise
//   scales   F16 [groups, out]

namespace tprun {
namespace {

constexpr int64_t kPerWord = 8;
// Output o of a word has the bits from 4 * kPlace[o]: the inverse of the order 0 2 4 6 1 3 5 7.
constexpr std::array<int, 8> kPlace = {0, 4, 1, 5, 2, 6, 3, 7};

class AwqMatrix : public GroupedIntegers {
 public:
  AwqMatrix(const IntegerMatrix& matrix, CheckpointTensor weights, CheckpointTensor zeros,
            CheckpointTensor scales)
      : GroupedIntegers(matrix),
        weights_(std::move(weights)),
        zeros_(std::move(zeros)),
        scales_(std::move(scales)) {}

  absl::Status Fill(const Checkpoint& checkpoint, IntegerSlice& slice) const override {
    RETURN_IF_ERROR(
        Unpack(checkpoint, weights_, slice, slice.column_begin, slice.column_end, slice.quants));
    RETURN_IF_ERROR(
        Unpack(checkpoint, zeros_, slice, slice.group_begin, slice.group_end, slice.zeros));
    return ReadTransposed(checkpoint, scales_, static_cast<int64_t>(SizeOf(matrix().scale_type)),
                          matrix().rows, slice, slice.scales);
  }

 private:
  // Rows [begin, end) of [n, out / 8] words, as [slice's rows, end - begin] values.
  absl::Status Unpack(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                      const IntegerSlice& slice, int64_t begin, int64_t end,
                      std::vector<uint8_t>& out) const {
    const int64_t first = slice.row_begin / kPerWord;
    const int64_t last = (slice.row_end + kPerWord - 1) / kPerWord;
    ASSIGN_OR_RETURN(
        const std::vector<uint32_t> words,
        ReadWords(checkpoint, tensor, matrix().rows / kPerWord, begin, end, first, last));
    const int64_t count = end - begin;
    out.resize(slice.rows() * count);
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t r = 0; r < slice.rows(); ++r) {
        const int64_t row = slice.row_begin + r;
        const uint32_t word = words[i * (last - first) + row / kPerWord - first];
        out[r * count + i] = static_cast<uint8_t>((word >> 4 * kPlace[row % kPerWord]) & 15);
      }
    }
    return absl::OkStatus();
  }

  const CheckpointTensor weights_, zeros_, scales_;
};

absl::Status CheckShape(const CheckpointTensor& tensor, int64_t rows, int64_t columns) {
  if (tensor.shape == std::vector<int64_t>{rows, columns}) return absl::OkStatus();
  return PackedError(tensor.name, absl::StrCat("shape [", rows, ", ", columns, "]"),
                     ShapeText(tensor.shape));
}

absl::Status AddModule(CheckpointBuilder& builder, int64_t group, const std::string& module) {
  const Checkpoint& checkpoint = builder.checkpoint();
  ASSIGN_OR_RETURN(const CheckpointTensor* weights,
                   FindCompanion(checkpoint, absl::StrCat(module, ".qweight"), {"I32"}));
  ASSIGN_OR_RETURN(const CheckpointTensor* zeros,
                   FindCompanion(checkpoint, absl::StrCat(module, ".qzeros"), {"I32"}));
  ASSIGN_OR_RETURN(const CheckpointTensor* scales,
                   FindCompanion(checkpoint, absl::StrCat(module, ".scales"), {"F16", "BF16"}));
  if (weights->shape.size() != 2) return CheckShape(*weights, 0, 0);
  IntegerMatrix matrix;
  matrix.rows = weights->shape[1] * kPerWord;
  matrix.columns = weights->shape[0];
  matrix.group = group > 0 ? group : std::max<int64_t>(1, matrix.columns);
  ASSIGN_OR_RETURN(matrix.scale_type, ScaleTypeOf(*scales));
  const int64_t groups = (matrix.columns + matrix.group - 1) / matrix.group;
  RETURN_IF_ERROR(CheckShape(*scales, groups, matrix.rows));
  RETURN_IF_ERROR(CheckShape(*zeros, groups, matrix.rows / kPerWord));
  const CheckpointTensor like = *weights;
  return AddGrouped(builder, like, absl::StrCat(module, ".weight"),
                    std::make_shared<AwqMatrix>(matrix, *weights, *zeros, *scales));
}

}  // namespace

absl::Status AddAwq(CheckpointBuilder& builder, const Json& quantization) {
  ASSIGN_OR_RETURN(const int64_t bits, GetIntOr(quantization, "bits", 4));
  ASSIGN_OR_RETURN(const int64_t group, GetIntOr(quantization, "group_size", 128));
  ASSIGN_OR_RETURN(const std::string version, GetStringOr(quantization, "version", "gemm"));
  const bool gemm = version == "gemm" || version == "GEMM";
  if (bits != 4 || !gemm) return absl::OkStatus();  // planned by the config
  for (const std::string& module : NamesWithSuffix(builder.checkpoint(), ".qweight")) {
    RETURN_IF_ERROR(AddModule(builder, group, module));
  }
  return absl::OkStatus();
}

}  // namespace tprun
