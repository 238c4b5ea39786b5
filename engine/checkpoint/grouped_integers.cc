#include "engine/checkpoint/grouped_integers.h"

#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/tensor_reader.h"
#include "engine/format/int_groups.h"

namespace tprun {
namespace {

void PutQuants(const uint8_t* quants, int64_t count, int bits, char* out) {
  if (bits == 8) {
    std::memcpy(out, quants, count);
    return;
  }
  for (int64_t i = 0; i < count; i += 2) {
    out[i / 2] = static_cast<char>(quants[i] | quants[i + 1] << 4);
  }
}

}  // namespace

GroupedIntegers::GroupedIntegers(const IntegerMatrix& matrix)
    : matrix_(matrix), format_(FindIntGroupFormat(matrix.bits, matrix.group, matrix.scale_type)) {}

absl::Status GroupedIntegers::Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                                   int64_t column_begin, int64_t column_end, void* out) const {
  IntegerSlice slice;
  slice.row_begin = row_begin;
  slice.row_end = row_end;
  slice.column_begin = column_begin;
  slice.column_end = column_end;
  if (slice.rows() == 0 || slice.columns() == 0) return absl::OkStatus();
  slice.group_begin = column_begin / matrix_.group;
  slice.group_end = (column_end - 1) / matrix_.group + 1;
  RETURN_IF_ERROR(Fill(checkpoint, slice));
  const auto scale_bytes = static_cast<int64_t>(SizeOf(matrix_.scale_type));
  const int64_t block = format_->block_elements;
  char* to = static_cast<char*>(out);
  for (int64_t r = 0; r < slice.rows(); ++r) {
    for (int64_t c = 0; c < slice.columns(); c += block, to += format_->block_bytes) {
      const int64_t group =
          r * slice.groups() + (column_begin + c) / matrix_.group - slice.group_begin;
      std::memcpy(to, slice.scales.data() + group * scale_bytes, scale_bytes);
      to[scale_bytes] = static_cast<char>(slice.zeros[group]);
      PutQuants(slice.quants.data() + r * slice.columns() + c, block, matrix_.bits,
                to + scale_bytes + 1);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<DType> ScaleTypeOf(const CheckpointTensor& scales) {
  if (scales.type_name == "F16") return DType::kF16;
  if (scales.type_name == "BF16") return DType::kBF16;
  if (scales.type_name == "F32") return DType::kF32;
  return PackedError(scales.name, "type F16, BF16 or F32", scales.type_name);
}

absl::StatusOr<std::vector<uint32_t>> ReadWords(const Checkpoint& checkpoint,
                                                const CheckpointTensor& tensor, int64_t words,
                                                int64_t row_begin, int64_t row_end,
                                                int64_t word_begin, int64_t word_end) {
  std::vector<uint32_t> result((row_end - row_begin) * (word_end - word_begin));
  RETURN_IF_ERROR(ReadElements(checkpoint, tensor, sizeof(uint32_t), words, row_begin, row_end,
                               word_begin, word_end, result.data()));
  return result;
}

absl::Status ReadTransposed(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                            int64_t element_bytes, int64_t columns, const IntegerSlice& slice,
                            std::vector<char>& out) {
  std::vector<char> raw(slice.groups() * slice.rows() * element_bytes);
  RETURN_IF_ERROR(ReadElements(checkpoint, tensor, element_bytes, columns, slice.group_begin,
                               slice.group_end, slice.row_begin, slice.row_end, raw.data()));
  out.resize(raw.size());
  for (int64_t g = 0; g < slice.groups(); ++g) {
    for (int64_t r = 0; r < slice.rows(); ++r) {
      std::memcpy(out.data() + (r * slice.groups() + g) * element_bytes,
                  raw.data() + (g * slice.rows() + r) * element_bytes, element_bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status AddGrouped(CheckpointBuilder& builder, const CheckpointTensor& weights,
                        const std::string& name, std::shared_ptr<const GroupedIntegers> packed) {
  const IntegerMatrix& matrix = packed->matrix();
  const WeightFormat* format = packed->format();
  RETURN_IF_ERROR(CheckBlocks(weights.name, format, matrix.columns, 32));
  builder.AddPacked(
      MakePacked(weights, name, matrix.rows, matrix.columns, *format, std::move(packed)));
  return absl::OkStatus();
}

}  // namespace tprun
