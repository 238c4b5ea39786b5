#include "engine/checkpoint/tensor_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/tensor_layout.h"

namespace tprun {
namespace {

constexpr int64_t kBounceBytes = 4 * kMiB;
// A read of fewer bytes costs about as much as one of this many, gap included.
constexpr int64_t kSmallRow = 64 * kKiB;

// Packed tensors are made so many elements (or a row) at a time, which takes no more than so many
// bytes for each: words, integers, scales and zero points, values. Rows of some lie across the
// file, which is then read once for each time: rather few.
constexpr int64_t kPackedElements = int64_t{1} << 21;
constexpr int64_t kPackedBytesPerElement = 16;

int64_t PackedRowsAtOnce(int64_t columns) {
  return std::max<int64_t>(1, kPackedElements / std::max<int64_t>(1, columns));
}

// A slice in bytes: `rows` pieces of `width` bytes, `stride` apart, from byte `offset` of the file.
struct ByteSlice {
  int64_t offset = 0;
  int64_t rows = 0;
  int64_t width = 0;
  int64_t stride = 0;
};

absl::Status Error(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                   const std::string& wanted, const std::string& found) {
  return absl::InvalidArgumentError(absl::StrCat(
      checkpoint.path(), ": tensor ", Quoted(tensor.name), " of shape ", ShapeText(tensor.shape),
      " (", tensor.type_name, "): wanted ", wanted, ", found ", found));
}

absl::Status CheckRange(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                        absl::string_view what, int64_t begin, int64_t end, int64_t size,
                        int64_t multiple) {
  if (begin >= 0 && begin <= end && end <= size && begin % multiple == 0 && end % multiple == 0) {
    return absl::OkStatus();
  }
  return Error(checkpoint, tensor,
               absl::StrCat(what, " within [0, ", size, "), multiples of ", multiple),
               absl::StrCat("[", begin, ", ", end, ")"));
}

absl::Status CheckReadable(const Checkpoint& checkpoint, const CheckpointTensor& tensor) {
  if (tensor.format == nullptr) {
    return Error(checkpoint, tensor, "a weight format that this program can read",
                 tensor.type_name);
  }
  const absl::StatusOr<int64_t> elements = CountElements(tensor.shape);
  if (!elements.ok() || tensor.format->Bytes(*elements) != tensor.bytes || tensor.file < 0 ||
      tensor.file >= static_cast<int64_t>(checkpoint.files().size())) {
    return Error(checkpoint, tensor, "a tensor of this checkpoint", "another");
  }
  return absl::OkStatus();
}

// Whether rows lie so close together that they are read in one piece and picked out of it.
bool InRuns(const ByteSlice& slice) {
  if (slice.rows == 0 || slice.width == 0 || slice.width == slice.stride) return false;
  const bool worth_a_run = slice.stride <= kSmallRow || slice.width > slice.stride / 2;
  return worth_a_run && slice.stride <= kBounceBytes;
}

// Bytes of such a piece.
int64_t RunBytes(const ByteSlice& slice) {
  const int64_t rows = std::min(slice.rows, std::max<int64_t>(1, kBounceBytes / slice.stride));
  return (rows - 1) * slice.stride + slice.width;
}

absl::Status ReadRuns(const RandomAccessFile& file, const ByteSlice& slice, char* out) {
  const int64_t rows_at_once = std::max<int64_t>(1, kBounceBytes / slice.stride);
  std::vector<char> bounce(RunBytes(slice));
  for (int64_t row = 0; row < slice.rows; row += rows_at_once) {
    const int64_t rows = std::min(rows_at_once, slice.rows - row);
    const int64_t bytes = (rows - 1) * slice.stride + slice.width;
    RETURN_IF_ERROR(file.Read(slice.offset + row * slice.stride,
                              absl::MakeSpan(bounce).first(static_cast<size_t>(bytes))));
    for (int64_t i = 0; i < rows; ++i, out += slice.width) {
      std::memcpy(out, bounce.data() + i * slice.stride, slice.width);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadBytes(const RandomAccessFile& file, const ByteSlice& slice, char* out) {
  if (slice.rows == 0 || slice.width == 0) return absl::OkStatus();
  if (slice.width == slice.stride) {
    return file.Read(slice.offset, absl::MakeSpan(out, slice.rows * slice.width));
  }
  if (InRuns(slice)) return ReadRuns(file, slice, out);
  for (int64_t row = 0; row < slice.rows; ++row, out += slice.width) {
    RETURN_IF_ERROR(file.Read(slice.offset + row * slice.stride, absl::MakeSpan(out, slice.width)));
  }
  return absl::OkStatus();
}

absl::Status ReadPacked(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                        int64_t row_begin, int64_t row_end, int64_t column_begin,
                        int64_t column_end, char* out) {
  const int64_t row_bytes = tensor.format->Bytes(column_end - column_begin);
  const int64_t at_once = PackedRowsAtOnce(column_end - column_begin);
  for (int64_t row = row_begin; row < row_end; row += at_once) {
    RETURN_IF_ERROR(tensor.packed->Read(checkpoint, row, std::min(row_end, row + at_once),
                                        column_begin, column_end,
                                        out + (row - row_begin) * row_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t SliceBufferBytes(const CheckpointTensor& tensor, int64_t rows, int64_t columns) {
  if (tensor.packed != nullptr) {
    // Scales and zero points are read of whole rows.
    const int64_t wide = tensor.shape.size() > 1 ? tensor.shape[1] : columns;
    return kPackedBytesPerElement * wide * std::min(rows, PackedRowsAtOnce(columns));
  }
  if (tensor.shape.size() < 2) return 0;
  int64_t whole = 1;
  for (size_t i = 1; i < tensor.shape.size(); ++i) whole *= tensor.shape[i];
  const ByteSlice slice = {0, rows, tensor.format->Bytes(columns), tensor.format->Bytes(whole)};
  return InRuns(slice) ? RunBytes(slice) : 0;
}

absl::Status ReadTensorSlice(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                             int64_t row_begin, int64_t row_end, int64_t column_begin,
                             int64_t column_end, void* out) {
  RETURN_IF_ERROR(CheckReadable(checkpoint, tensor));
  const WeightFormat& format = *tensor.format;
  const bool is_vector = tensor.shape.size() < 2;
  const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape[0];
  ASSIGN_OR_RETURN(const int64_t columns,
                   is_vector ? absl::StatusOr<int64_t>(1)
                             : CountElements(absl::MakeConstSpan(tensor.shape).subspan(1)));
  const int64_t row_multiple = is_vector ? format.block_elements : 1;
  const int64_t column_multiple = is_vector ? 1 : format.block_elements;
  RETURN_IF_ERROR(CheckRange(checkpoint, tensor, "rows", row_begin, row_end, rows, row_multiple));
  RETURN_IF_ERROR(CheckRange(checkpoint, tensor, "columns", column_begin, column_end, columns,
                             column_multiple));
  if (tensor.packed != nullptr) {
    return ReadPacked(checkpoint, tensor, row_begin, row_end, column_begin, column_end,
                      static_cast<char*>(out));
  }
  ByteSlice slice;
  if (is_vector) {
    slice.rows = column_end - column_begin;
    slice.width = slice.stride = format.Bytes(row_end - row_begin);
    slice.offset = tensor.offset + format.Bytes(row_begin);
  } else {
    slice.rows = row_end - row_begin;
    slice.width = format.Bytes(column_end - column_begin);
    slice.stride = format.Bytes(columns);
    slice.offset = tensor.offset + row_begin * slice.stride + format.Bytes(column_begin);
  }
  return ReadBytes(*checkpoint.files()[tensor.file], slice, static_cast<char*>(out));
}

absl::Status ReadElements(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                          int64_t element_bytes, int64_t columns, int64_t row_begin,
                          int64_t row_end, int64_t column_begin, int64_t column_end, void* out) {
  const int64_t row_bytes = element_bytes * columns;
  if (row_bytes <= 0 || tensor.bytes % row_bytes != 0) {
    return Error(checkpoint, tensor, absl::StrCat("rows of ", row_bytes, " bytes"),
                 absl::StrCat(tensor.bytes, " bytes"));
  }
  const int64_t rows = tensor.bytes / row_bytes;
  RETURN_IF_ERROR(CheckRange(checkpoint, tensor, "rows", row_begin, row_end, rows, 1));
  RETURN_IF_ERROR(CheckRange(checkpoint, tensor, "columns", column_begin, column_end, columns, 1));
  const ByteSlice slice = {tensor.offset + row_begin * row_bytes + column_begin * element_bytes,
                           row_end - row_begin, (column_end - column_begin) * element_bytes,
                           row_bytes};
  return ReadBytes(*checkpoint.files()[tensor.file], slice, static_cast<char*>(out));
}

absl::Status ReadTensor(const Checkpoint& checkpoint, const CheckpointTensor& tensor, void* out) {
  RETURN_IF_ERROR(CheckReadable(checkpoint, tensor));
  if (tensor.packed != nullptr) {
    return ReadPacked(checkpoint, tensor, 0, tensor.shape[0], 0, tensor.shape[1],
                      static_cast<char*>(out));
  }
  const ByteSlice slice = {tensor.offset, 1, tensor.bytes, tensor.bytes};
  return ReadBytes(*checkpoint.files()[tensor.file], slice, static_cast<char*>(out));
}

}  // namespace tprun
