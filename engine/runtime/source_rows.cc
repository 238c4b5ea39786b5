#include "engine/runtime/source_rows.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/tensor_reader.h"

namespace tprun {
namespace {

constexpr WeightFormat kBytes = {"u8", -1, "U8", 1, 1, nullptr, nullptr};

// Hugging Face's gpt-oss: blocks of 32 elements as 16 bytes, of which each has two neighbours, the
// first in its low half; and the exponents of the blocks in a tensor of their own.
const CheckpointTensor* FindBlocks(const Checkpoint& checkpoint, const TensorSpec& tensor) {
  return checkpoint.Find(tensor.name + "_blocks");
}

// Some rows of a checkpoint's tensor, all of its columns but for `columns`: first, first + step,
// ...
struct SourceRows {
  int64_t first = 0;
  int64_t step = 1;
  int64_t count = 0;
  int64_t span() const { return count == 0 ? 0 : (count - 1) * step + 1; }
};

class Reader {
 public:
  Reader(const Checkpoint& checkpoint, const TensorSpec& tensor)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        one_by_one_(absl::StrContains(tensor.name, kExpertMark)),
        matrices_(std::max(tensor.experts, 1)),
        rows_(tensor.shape[0] / matrices_),
        columns_(tensor.shape.size() > 1 ? tensor.shape[1] : 1),
        source_rows_(tensor.source_rows > 0 ? tensor.source_rows : rows_) {}

  absl::Status Read(const Shard& shard, char* out) const {
    const WeightFormat* format = SourceFormat(checkpoint_, tensor_);
    if (format == nullptr) return Missing(tensor_.name);
    const int64_t row_bytes = format->Bytes(shard.columns.size());
    for (int64_t row = shard.rows.begin; row < shard.rows.end;) {
      const int64_t matrix = row / rows_;
      const int64_t end = std::min((matrix + 1) * rows_, shard.rows.end);
      const int64_t before = one_by_one_ ? 0 : matrix * source_rows_;
      const SourceRows rows = {
          before + tensor_.first_row + (row - matrix * rows_) * tensor_.row_step, tensor_.row_step,
          end - row};
      RETURN_IF_ERROR(ReadRows(matrix, rows, shard.columns, *format, out));
      out += (end - row) * row_bytes;
      row = end;
    }
    return absl::OkStatus();
  }

  // What Read takes beside `out`: as ReadRows and those that it calls have it.
  int64_t BufferBytes(const Shard& shard) const {
    const int64_t columns = shard.columns.size();
    const SourceRows rows = {0, tensor_.row_step, std::min(rows_, shard.rows.size())};
    if (const CheckpointTensor* packed = FindBlocks(checkpoint_, tensor_)) {
      const CheckpointTensor flat = Flat(*packed, columns_ / 2, &kBytes);
      return rows.count * (columns / 2 + columns / 32) +
             SliceBufferBytes(flat, rows.span(), columns / 2);
    }
    const CheckpointTensor* source = checkpoint_.Find(ExpertTensorName(tensor_, 0));
    if (source == nullptr || source->format == nullptr) return 0;
    if (tensor_.transposed) {
      return columns * rows.span() * source->format->block_bytes +
             SliceBufferBytes(Flat(*source, source_rows_, source->format), columns, rows.span());
    }
    const int64_t apart = rows.step == 1 ? 0 : rows.span() * source->format->Bytes(columns);
    return apart + SliceBufferBytes(Flat(*source, columns_, source->format), rows.span(), columns);
  }

 private:
  static absl::Status Missing(const std::string& name) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", name, "\" is missing from the checkpoint"));
  }

  absl::Status ReadRows(int64_t matrix, const SourceRows& rows, Range columns,
                        const WeightFormat& format, char* out) const {
    if (FindBlocks(checkpoint_, tensor_) != nullptr) return ReadBlocks(rows, columns, out);
    const std::string name = ExpertTensorName(tensor_, static_cast<int>(matrix));
    const CheckpointTensor* source = checkpoint_.Find(name);
    if (source == nullptr) return Missing(name);
    if (tensor_.transposed) return ReadTransposed(*source, matrix, rows, columns, format, out);
    return ReadSteps(Flat(*source, columns_, source->format), rows, columns, out);
  }

  // The same bytes as a matrix of `columns` columns.
  static CheckpointTensor Flat(CheckpointTensor tensor, int64_t columns,
                               const WeightFormat* format) {
    int64_t elements = 1;
    for (int64_t extent : tensor.shape) elements *= extent;
    tensor.shape = {elements / columns};
    if (columns > 1) tensor.shape.push_back(columns);
    tensor.format = format;
    return tensor;
  }

  absl::Status ReadSteps(const CheckpointTensor& source, const SourceRows& rows, Range columns,
                         char* out) const {
    const int64_t end = rows.first + rows.span();
    if (rows.step == 1) {
      return ReadTensorSlice(checkpoint_, source, rows.first, end, columns.begin, columns.end, out);
    }
    const int64_t row_bytes = source.format->Bytes(columns.size());
    std::vector<char> all(rows.span() * row_bytes);
    RETURN_IF_ERROR(ReadTensorSlice(checkpoint_, source, rows.first, end, columns.begin,
                                    columns.end, all.data()));
    for (int64_t i = 0; i < rows.count; ++i) {
      std::memcpy(out + i * row_bytes, all.data() + i * rows.step * row_bytes, row_bytes);
    }
    return absl::OkStatus();
  }

  // The checkpoint's rows are our columns. rows.first counts those of all matrices before.
  absl::Status ReadTransposed(const CheckpointTensor& source, int64_t matrix,
                              const SourceRows& rows, Range columns, const WeightFormat& format,
                              char* out) const {
    if (format.block_elements != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor \"", source.name, "\" is [in, out], which cannot be turned round in ", "format ",
          format.name, "; f32, f16 and bf16 can"));
    }
    const CheckpointTensor flat = Flat(source, source_rows_, source.format);
    const int64_t top = one_by_one_ ? 0 : matrix * columns_;
    const int64_t left = rows.first - (one_by_one_ ? 0 : matrix * source_rows_);
    const int64_t width = rows.span(), size = format.block_bytes;
    std::vector<char> slab(columns.size() * width * size);
    RETURN_IF_ERROR(ReadTensorSlice(checkpoint_, flat, top + columns.begin, top + columns.end, left,
                                    left + width, slab.data()));
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t c = 0; c < columns.size(); ++c, out += size) {
        std::memcpy(out, slab.data() + (c * width + r * rows.step) * size, size);
      }
    }
    return absl::OkStatus();
  }

  // Blocks of our mxfp4: the exponent, then 16 bytes whose low halves are the first 16 elements.
  absl::Status ReadBlocks(const SourceRows& rows, Range columns, char* out) const {
    constexpr int64_t kElements = 32, kHalf = kElements / 2;
    const CheckpointTensor* packed = FindBlocks(checkpoint_, tensor_);
    const CheckpointTensor* scales = checkpoint_.Find(tensor_.name + "_scales");
    if (scales == nullptr) return Missing(tensor_.name + "_scales");
    const int64_t blocks = columns_ / kElements;
    const Range part = {columns.begin / kElements, columns.end / kElements};
    std::vector<char> pairs(rows.count * part.size() * kHalf), exponents(rows.count * part.size());
    RETURN_IF_ERROR(ReadSteps(Flat(*packed, blocks * kHalf, &kBytes), rows,
                              {part.begin * kHalf, part.end * kHalf}, pairs.data()));
    RETURN_IF_ERROR(ReadSteps(Flat(*scales, blocks, &kBytes), rows, part, exponents.data()));
    for (size_t block = 0; block < exponents.size(); ++block) {
      const auto* from = reinterpret_cast<const uint8_t*>(pairs.data()) + block * kHalf;
      const auto element = [&](int64_t i) { return (from[i / 2] >> (i % 2 * 4)) & 15; };
      *out++ = exponents[block];
      for (int64_t i = 0; i < kHalf; ++i) {
        *out++ = static_cast<char>(element(i) | element(i + kHalf) << 4);
      }
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const TensorSpec& tensor_;
  const bool one_by_one_;  // each matrix is a tensor of the checkpoint
  const int64_t matrices_;
  const int64_t rows_;  // of one matrix
  const int64_t columns_;
  const int64_t source_rows_;  // of one matrix in the checkpoint
};

}  // namespace

const WeightFormat* SourceFormat(const Checkpoint& checkpoint, const TensorSpec& tensor) {
  if (FindBlocks(checkpoint, tensor) != nullptr) return &kMxfp4Format;
  const CheckpointTensor* source = checkpoint.Find(ExpertTensorName(tensor, 0));
  return source == nullptr ? nullptr : source->format;
}

int64_t SourceBufferBytes(const Checkpoint& checkpoint, const TensorSpec& tensor,
                          const Shard& shard) {
  return Reader(checkpoint, tensor).BufferBytes(shard);
}

absl::Status ReadSourceRows(const Checkpoint& checkpoint, const TensorSpec& tensor,
                            const Shard& shard, void* out) {
  return Reader(checkpoint, tensor).Read(shard, static_cast<char*>(out));
}

}  // namespace tprun
