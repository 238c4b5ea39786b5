#include "engine/runtime/read_shard.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/tensor_reader.h"

namespace tprun {
namespace {

// Elements that are in f32 at a time while formats change.
constexpr int64_t kPieceElements = int64_t{1} << 18;

// Rows x columns of one tensor of the checkpoint, which is seen as a matrix or a vector.
struct Slice {
  CheckpointTensor source;
  Range rows;
  Range columns;
};

int64_t Elements(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

// The same bytes with as many axes as the model's tensor has: experts stand one below the other,
// axes of one element vanish.
CheckpointTensor AsMatrixOrVector(CheckpointTensor source, const TensorSpec& tensor) {
  const int64_t elements = Elements(source.shape);
  const int64_t columns = tensor.shape.size() > 1 ? tensor.shape[1] : 0;
  if (columns > 0) {
    source.shape = {elements / columns, columns};
  } else {
    source.shape = {elements};
  }
  return source;
}

absl::StatusOr<CheckpointTensor> FindSource(const Checkpoint& checkpoint, const TensorSpec& tensor,
                                            const std::string& name) {
  const CheckpointTensor* source = checkpoint.Find(name);
  if (source == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" is missing from the checkpoint"));
  }
  return AsMatrixOrVector(*source, tensor);
}

absl::Status ReadAs(const Checkpoint& checkpoint, const Slice& slice, void* out) {
  return ReadTensorSlice(checkpoint, slice.source, slice.rows.begin, slice.rows.end,
                         slice.columns.begin, slice.columns.end, out);
}

// Reads the slice, widened to whole blocks of its format, as f32.
absl::Status ReadFloats(const Checkpoint& checkpoint, const Slice& slice, float* out) {
  const WeightFormat& format = *slice.source.format;
  if (slice.source.shape.size() == 1) {
    std::vector<char> raw(format.Bytes(slice.rows.size()));
    RETURN_IF_ERROR(ReadAs(checkpoint, slice, raw.data()));
    format.dequantize(raw.data(), out, slice.rows.size());
    return absl::OkStatus();
  }
  const int64_t block = format.block_elements;
  Slice wide = slice;
  wide.columns.begin = slice.columns.begin / block * block;
  wide.columns.end = (slice.columns.end + block - 1) / block * block;
  std::vector<char> raw(format.Bytes(wide.columns.size()) * slice.rows.size());
  RETURN_IF_ERROR(ReadAs(checkpoint, wide, raw.data()));
  if (wide.columns == slice.columns) {
    format.dequantize(raw.data(), out, slice.rows.size() * slice.columns.size());
    return absl::OkStatus();
  }
  std::vector<float> row(wide.columns.size());
  for (int64_t r = 0; r < slice.rows.size(); ++r, out += slice.columns.size()) {
    format.dequantize(raw.data() + r * format.Bytes(row.size()), row.data(), row.size());
    std::copy_n(row.data() + slice.columns.begin - wide.columns.begin, slice.columns.size(), out);
  }
  return absl::OkStatus();
}

absl::Status CheckFormats(const Slice& slice, const WeightFormat& stored) {
  const WeightFormat* format = slice.source.format;
  if (format == nullptr || !format->decodable()) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", slice.source.name, "\" is of type ",
                                                   slice.source.type_name,
                                                   ", which cannot be read"));
  }
  if (format != &stored && stored.quantize == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", slice.source.name, "\": there is no encoder for ", stored.name));
  }
  return absl::OkStatus();
}

absl::Status ReadSlice(const Checkpoint& checkpoint, const Slice& slice, const WeightFormat& stored,
                       char* out) {
  RETURN_IF_ERROR(CheckFormats(slice, stored));
  if (slice.source.format == &stored) return ReadAs(checkpoint, slice, out);
  const int64_t columns = slice.columns.size();
  const int64_t rows_at_once = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, columns));
  std::vector<float> floats;
  for (int64_t row = slice.rows.begin; row < slice.rows.end; row += rows_at_once) {
    Slice piece = slice;
    piece.rows = {row, std::min(slice.rows.end, row + rows_at_once)};
    floats.resize(piece.rows.size() * columns);
    RETURN_IF_ERROR(ReadFloats(checkpoint, piece, floats.data()));
    stored.quantize(floats.data(), out, static_cast<int64_t>(floats.size()));
    out += stored.Bytes(static_cast<int64_t>(floats.size()));
  }
  return absl::OkStatus();
}

// Experts that the checkpoint keeps one by one: each gives the part of the rows that is its own.
absl::Status ReadExperts(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                         char* out) {
  const int64_t rows = tensor.shape[0] / tensor.experts;
  const WeightFormat& stored = StoredFormat(tensor);
  for (int64_t row = shard.rows.begin; row < shard.rows.end;) {
    const int64_t expert = row / rows;
    const int64_t end = std::min(shard.rows.end, (expert + 1) * rows);
    Slice slice;
    ASSIGN_OR_RETURN(slice.source, FindSource(checkpoint, tensor,
                                              ExpertTensorName(tensor, static_cast<int>(expert))));
    slice.rows = {row - expert * rows, end - expert * rows};
    slice.columns = shard.columns;
    RETURN_IF_ERROR(ReadSlice(checkpoint, slice, stored, out));
    out += (end - row) * stored.Bytes(shard.columns.size());
    row = end;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadShard(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                       void* out) {
  char* bytes = static_cast<char*>(out);
  if (absl::StrContains(tensor.name, kExpertMark)) {
    return ReadExperts(checkpoint, tensor, shard, bytes);
  }
  Slice slice;
  ASSIGN_OR_RETURN(slice.source, FindSource(checkpoint, tensor, tensor.name));
  slice.rows = {tensor.first_row + shard.rows.begin, tensor.first_row + shard.rows.end};
  slice.columns = shard.columns;
  return ReadSlice(checkpoint, slice, StoredFormat(tensor), bytes);
}

}  // namespace tprun
