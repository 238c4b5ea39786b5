#include "engine/runtime/read_shard.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/runtime/source_rows.h"

namespace tprun {
namespace {

// Elements that are in f32 at a time while formats change.
constexpr int64_t kPieceElements = int64_t{1} << 18;

int64_t RowsAtOnce(int64_t columns) {
  return std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, columns));
}

// The shard with all of the blocks of `format` that it has a part of.
Shard Widened(const TensorSpec& tensor, const WeightFormat& format, const Shard& shard) {
  const int64_t block = tensor.shape.size() == 1 ? 1 : format.block_elements;
  Shard wide = shard;
  wide.columns.begin = shard.columns.begin / block * block;
  wide.columns.end = (shard.columns.end + block - 1) / block * block;
  return wide;
}

// Reads the shard, widened to whole blocks of its format in the checkpoint, as f32.
absl::Status ReadFloats(const Checkpoint& checkpoint, const TensorSpec& tensor,
                        const WeightFormat& format, const Shard& shard, float* out) {
  const Shard wide = Widened(tensor, format, shard);
  const int64_t rows = shard.rows.size(), columns = shard.columns.size();
  std::vector<char> raw(format.Bytes(wide.columns.size() * rows));
  RETURN_IF_ERROR(ReadSourceRows(checkpoint, tensor, wide, raw.data()));
  if (wide.columns == shard.columns) {
    format.dequantize(raw.data(), out, rows * columns);
    return absl::OkStatus();
  }
  std::vector<float> row(wide.columns.size());
  for (int64_t r = 0; r < rows; ++r, out += columns) {
    format.dequantize(raw.data() + r * format.Bytes(row.size()), row.data(), row.size());
    std::copy_n(row.data() + shard.columns.begin - wide.columns.begin, columns, out);
  }
  return absl::OkStatus();
}

absl::Status CheckFormats(const TensorSpec& tensor, const WeightFormat* format,
                          const WeightFormat& stored) {
  if (format == nullptr || !format->decodable()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\" is missing from the checkpoint or of a type ",
                     "that cannot be read"));
  }
  if (format != &stored && stored.quantize == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\": there is no encoder for ", stored.name));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t ShardBufferBytes(const Checkpoint& checkpoint, const TensorSpec& tensor,
                         const Shard& shard) {
  const WeightFormat* format = SourceFormat(checkpoint, tensor);
  if (format == nullptr) return 0;
  if (format == &StoredFormat(tensor)) return SourceBufferBytes(checkpoint, tensor, shard);
  const int64_t columns = shard.columns.size();
  const int64_t rows = std::min(shard.rows.size(), RowsAtOnce(columns));
  const Shard wide =
      Widened(tensor, *format, {{shard.rows.begin, shard.rows.begin + rows}, shard.columns});
  const int64_t row = wide.columns == shard.columns ? 0 : wide.columns.size();
  return SourceBufferBytes(checkpoint, tensor, wide) + format->Bytes(wide.columns.size() * rows) +
         (rows * columns + row) * int64_t{sizeof(float)};
}

absl::Status ReadShard(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                       void* out) {
  const WeightFormat* format = SourceFormat(checkpoint, tensor);
  const WeightFormat& stored = StoredFormat(tensor);
  RETURN_IF_ERROR(CheckFormats(tensor, format, stored));
  if (format == &stored) return ReadSourceRows(checkpoint, tensor, shard, out);
  char* bytes = static_cast<char*>(out);
  const int64_t columns = shard.columns.size();
  const int64_t rows_at_once = RowsAtOnce(columns);
  std::vector<float> floats;
  for (int64_t row = shard.rows.begin; row < shard.rows.end; row += rows_at_once) {
    const Shard piece = {{row, std::min(shard.rows.end, row + rows_at_once)}, shard.columns};
    floats.resize(piece.rows.size() * columns);
    RETURN_IF_ERROR(ReadFloats(checkpoint, tensor, *format, piece, floats.data()));
    const auto count = static_cast<int64_t>(floats.size());
    stored.quantize(floats.data(), bytes, count);
    bytes += stored.Bytes(count);
  }
  return absl::OkStatus();
}

}  // namespace tprun
