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

absl::Status CheckFormats(const TensorSpec& tensor, const WeightFormat* source,
                          const WeightFormat& stored) {
  if (source == nullptr || !source->decodable()) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\" is of a type which cannot be read"));
  }
  if (stored.quantize == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", tensor.name, "\": there is no encoder for ", stored.name));
  }
  return absl::OkStatus();
}

// Reads the shard, widened to whole blocks of the checkpoint's format, as f32.
absl::Status ReadFloats(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                        const WeightFormat& format, float* out) {
  if (tensor.shape.size() == 1) {
    std::vector<char> raw(format.Bytes(shard.rows.size()));
    RETURN_IF_ERROR(ReadSourceRows(checkpoint, tensor, shard, raw.data()));
    format.dequantize(raw.data(), out, shard.rows.size());
    return absl::OkStatus();
  }
  const int64_t block = format.block_elements;
  Shard wide = shard;
  wide.columns.begin = shard.columns.begin / block * block;
  wide.columns.end = (shard.columns.end + block - 1) / block * block;
  std::vector<char> raw(format.Bytes(wide.columns.size()) * shard.rows.size());
  RETURN_IF_ERROR(ReadSourceRows(checkpoint, tensor, wide, raw.data()));
  if (wide.columns == shard.columns) {
    format.dequantize(raw.data(), out, shard.rows.size() * shard.columns.size());
    return absl::OkStatus();
  }
  std::vector<float> row(wide.columns.size());
  for (int64_t r = 0; r < shard.rows.size(); ++r, out += shard.columns.size()) {
    format.dequantize(raw.data() + r * format.Bytes(row.size()), row.data(), row.size());
    std::copy_n(row.data() + shard.columns.begin - wide.columns.begin, shard.columns.size(), out);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadShard(const Checkpoint& checkpoint, const TensorSpec& tensor, const Shard& shard,
                       void* out) {
  const WeightFormat* source = SourceFormat(checkpoint, tensor);
  const WeightFormat& stored = StoredFormat(tensor);
  // A missing tensor is told there too.
  if (source == nullptr || source == &stored) {
    return ReadSourceRows(checkpoint, tensor, shard, out);
  }
  RETURN_IF_ERROR(CheckFormats(tensor, source, stored));
  char* bytes = static_cast<char*>(out);
  const int64_t columns = tensor.shape.size() > 1 ? shard.columns.size() : 1;
  const int64_t rows_at_once = std::max<int64_t>(1, kPieceElements / std::max<int64_t>(1, columns));
  std::vector<float> floats;
  for (int64_t row = shard.rows.begin; row < shard.rows.end; row += rows_at_once) {
    const Shard piece = {{row, std::min(shard.rows.end, row + rows_at_once)}, shard.columns};
    floats.resize(piece.rows.size() * columns);
    RETURN_IF_ERROR(ReadFloats(checkpoint, tensor, piece, *source, floats.data()));
    stored.quantize(floats.data(), bytes, static_cast<int64_t>(floats.size()));
    bytes += stored.Bytes(static_cast<int64_t>(floats.size()));
  }
  return absl::OkStatus();
}

}  // namespace tprun
