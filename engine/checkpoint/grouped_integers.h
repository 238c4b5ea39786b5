#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "base/dtype.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/checkpoint_builder.h"

namespace tprun {

// Rows x columns of a quantised matrix taken apart; groups are those that the columns touch.
struct IntegerSlice {
  int64_t row_begin = 0, row_end = 0;  // of [out, in]
  int64_t column_begin = 0, column_end = 0;
  int64_t group_begin = 0, group_end = 0;
  std::vector<uint8_t> quants;  // [rows, columns]
  std::vector<uint8_t> zeros;   // [rows, groups]
  std::vector<char> scales;     // [rows, groups], of scale_bytes each

  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
  int64_t groups() const { return group_end - group_begin; }
};

// What is the same for a matrix of any quantiser of integers in groups.
struct IntegerMatrix {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t group = 0;  // columns that share scale and zero
  int bits = 4;
  DType scale_type = DType::kF16;
};

// Makes blocks of int_groups.h out of what a quantiser's own layout gives.
class GroupedIntegers : public PackedTensor {
 public:
  explicit GroupedIntegers(const IntegerMatrix& matrix);

  const IntegerMatrix& matrix() const { return matrix_; }
  // nullptr: none of the formats has groups that divide this one.
  const WeightFormat* format() const { return format_; }

  absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                    int64_t column_begin, int64_t column_end, void* out) const override;

 protected:
  // Fills quants, zeros and scales of the ranges.
  virtual absl::Status Fill(const Checkpoint& checkpoint, IntegerSlice& slice) const = 0;

 private:
  IntegerMatrix matrix_;
  const WeightFormat* format_;
};

// The type of scales by their safetensors type; InvalidArgument for others than F16, BF16, F32.
absl::StatusOr<DType> ScaleTypeOf(const CheckpointTensor& scales);

// Reads words [row_begin, row_end) x [first_word, last_word) of a matrix of I32 with `words`
// columns.
absl::StatusOr<std::vector<uint32_t>> ReadWords(const Checkpoint& checkpoint,
                                                const CheckpointTensor& tensor, int64_t words,
                                                int64_t row_begin, int64_t row_end,
                                                int64_t word_begin, int64_t word_end);

// Adds `packed` as the tensor `name`; `weights` is the quantiser's tensor of packed integers.
absl::Status AddGrouped(CheckpointBuilder& builder, const CheckpointTensor& weights,
                        const std::string& name, std::shared_ptr<const GroupedIntegers> packed);

// [groups, out] -> [rows, groups] for the slice, elements of `bytes` bytes each.
absl::Status ReadTransposed(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                            int64_t element_bytes, int64_t columns, const IntegerSlice& slice,
                            std::vector<char>& out);

}  // namespace tprun
