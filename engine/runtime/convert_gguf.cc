#include "engine/runtime/convert_gguf.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/model/placement.h"
#include "engine/runtime/read_shard.h"

namespace tprun {
namespace {

constexpr int64_t kPartBytes = int64_t{4} << 20;

bool IsRotated(TensorRole role) {
  return role == TensorRole::kQuery || role == TensorRole::kKey || role == TensorRole::kQueryBias ||
         role == TensorRole::kKeyBias;
}

bool IsNorm(TensorRole role) {
  return role == TensorRole::kNorm || role == TensorRole::kPostNorm ||
         role == TensorRole::kQueryNorm || role == TensorRole::kKeyNorm;
}

// Rows and columns of a piece; a vector is one row, as it is never cut.
struct Extent {
  int64_t rows;
  int64_t columns;
};

Extent ExtentOf(const TensorSpec& tensor) {
  if (tensor.shape.size() == 1) return {tensor.shape[0], 1};
  return {tensor.shape[0], tensor.shape[1]};
}

// As it is written.
Extent ExtentOf(const GgufPiece& piece) {
  const TensorSpec& source = piece.source;
  if (!piece.turned) return ExtentOf(source);
  return {source.experts * source.shape[1], source.shape[0] / source.experts};
}

// Rows of this many elements may be too short for the blocks that the others fit.
const WeightFormat* FormatFor(int64_t columns, const WeightFormat* format) {
  if (columns % format->block_elements == 0) return format;
  return columns % kQ8_0Format.block_elements == 0 ? &kQ8_0Format : &kF16Format;
}

GgufPiece PieceOf(const ModelSpec& original, const ModelSpec& gguf, size_t index) {
  GgufPiece piece;
  piece.source = original.tensors[index];
  piece.first_row = gguf.tensors[index].first_row;
  if (piece.source.role != gguf.tensors[index].role) {
    piece.turned = true;
    piece.source.format = FormatFor(gguf.tensors[index].shape[1], piece.source.format);
  }
  const Block& block = original.blocks[piece.source.block];
  const bool in_layer = block.kind == BlockKind::kAttention || block.kind == BlockKind::kMlp;
  if (block.kind == BlockKind::kAttention && IsRotated(piece.source.role)) {
    const AttentionSpec& from = original.layers[block.layer].attention;
    const AttentionSpec& to = gguf.layers[block.layer].attention;
    if (from.rope.layout != to.rope.layout) {
      piece.head_dim = from.head_dim;
      piece.rope_dims = from.rope.dims;
    }
  }
  if (IsNorm(piece.source.role)) {
    const NormSpec& from = in_layer ? original.layers[block.layer].norm : original.final_norm;
    const NormSpec& to = in_layer ? gguf.layers[block.layer].norm : gguf.final_norm;
    piece.add_one = from.unit_offset && !to.unit_offset;
  }
  return piece;
}

// [rows, columns], [experts, rows, columns] or [n], whichever GGUF has.
std::vector<int64_t> GgufShape(const TensorSpec& tensor) {
  std::vector<int64_t> shape = tensor.shape;
  if (tensor.source_rows > 0) shape[0] = tensor.source_rows;
  if (tensor.experts > 0) {
    shape[0] /= tensor.experts;
    shape.insert(shape.begin(), tensor.experts);
  }
  return shape;
}

void AddValues(const std::string& name, const std::vector<float>& factors,
               std::vector<GgufTensor>& tensors, std::vector<GgufPiece>& pieces) {
  if (factors.empty()) return;
  GgufPiece piece;
  piece.tensor = static_cast<int>(tensors.size());
  piece.values = factors;
  pieces.push_back(std::move(piece));
  tensors.push_back({name, {static_cast<int64_t>(factors.size())}, &kF32Format, 0, 0});
}

// llama.cpp reads divisors of the frequencies from tensors: Llama 3's, and long rope's two lists.
void AddRopeFactors(const ModelSpec& gguf, std::vector<GgufTensor>& tensors,
                    std::vector<GgufPiece>& pieces) {
  const RopeSpec& rope = gguf.layers[0].attention.rope;
  const bool is_long = rope.scaling == RopeScaling::kLongRope;
  AddValues(is_long ? "rope_factors_short.weight" : "rope_freqs.weight", rope.factors, tensors,
            pieces);
  AddValues("rope_factors_long.weight", rope.long_factors, tensors, pieces);
}

// Parts of one tensor have one format: the widest that one of them asks for.
void ShareFormats(const std::vector<GgufTensor>& tensors, std::vector<GgufPiece>& pieces) {
  for (GgufPiece& piece : pieces) {
    if (piece.values.empty() && piece.source.shape.size() > 1) {
      piece.source.format = tensors[piece.tensor].format;
    }
  }
}

bool IsWider(const WeightFormat& a, const WeightFormat& b) {
  return a.block_bytes * b.block_elements > b.block_bytes * a.block_elements;
}

// Some rows of a piece, as one thread writes them.
struct Part {
  const GgufPiece* piece;
  Range rows;
};

// The row of the source that GGUF's row `row` of a permuted piece holds.
int64_t SourceRow(const GgufPiece& piece, int64_t row) {
  const int64_t head = row / piece.head_dim;
  const int64_t i = row % piece.head_dim;
  if (i >= piece.rope_dims) return row;
  return head * piece.head_dim + i % 2 * (piece.rope_dims / 2) + i / 2;
}

// Rows of whole matrices, each transposed on the way.
absl::Status FillTurned(const Checkpoint& checkpoint, const Part& part, char* out) {
  TensorSpec source = part.piece->source;
  const WeightFormat& format = *std::exchange(source.format, &kF32Format);
  const int64_t rows = source.shape[0] / source.experts, columns = source.shape[1];
  std::vector<float> matrix(rows * columns), turned(rows * columns);
  for (int64_t row = part.rows.begin; row < part.rows.end; row += columns) {
    const int64_t first = row / columns * rows;
    const Shard shard = {{first, first + rows}, {0, columns}};
    RETURN_IF_ERROR(ReadShard(checkpoint, source, shard, matrix.data()));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) turned[c * rows + r] = matrix[r * columns + c];
    }
    format.quantize(turned.data(), out, rows * columns);
    out += format.Bytes(rows * columns);
  }
  return absl::OkStatus();
}

absl::Status Fill(const Checkpoint& checkpoint, const Part& part, char* out) {
  const GgufPiece& piece = *part.piece;
  if (!piece.values.empty()) {
    std::copy_n(reinterpret_cast<const char*>(piece.values.data()),
                piece.values.size() * sizeof(float), out);
    return absl::OkStatus();
  }
  if (piece.turned) return FillTurned(checkpoint, part, out);
  const Extent extent = ExtentOf(piece.source);
  const int64_t row_bytes = StoredFormat(piece.source).Bytes(extent.columns);
  if (piece.head_dim > 0) {
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row, out += row_bytes) {
      const int64_t from = SourceRow(piece, row);
      RETURN_IF_ERROR(
          ReadShard(checkpoint, piece.source, {{from, from + 1}, {0, extent.columns}}, out));
    }
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(ReadShard(checkpoint, piece.source, {part.rows, {0, extent.columns}}, out));
  if (!piece.add_one) return absl::OkStatus();
  float* values = reinterpret_cast<float*>(out);
  for (int64_t i = 0; i < part.rows.size(); ++i) values[i] += 1;
  return absl::OkStatus();
}

std::vector<Part> CutIntoParts(const GgufConversion& conversion) {
  std::vector<Part> parts;
  for (const GgufPiece& piece : conversion.pieces) {
    if (!piece.values.empty()) {
      parts.push_back({&piece, {0, static_cast<int64_t>(piece.values.size())}});
      continue;
    }
    const Extent extent = ExtentOf(piece);
    const int64_t row_bytes = StoredFormat(piece.source).Bytes(extent.columns);
    // Vectors whole: their rows are elements.
    const int64_t rows_at_once = piece.source.shape.size() == 1 ? extent.rows
                                 : piece.turned                 ? piece.source.shape[1]
                                                : std::max<int64_t>(1, kPartBytes / row_bytes);
    for (int64_t row = 0; row < extent.rows; row += rows_at_once) {
      parts.push_back({&piece, {row, std::min(extent.rows, row + rows_at_once)}});
    }
  }
  return parts;
}

absl::StatusOr<int64_t> WritePart(const Checkpoint& checkpoint, const GgufConversion& conversion,
                                  const Part& part, OutputFile& file) {
  const GgufPiece& piece = *part.piece;
  const GgufTensor& tensor = conversion.layout.tensors[piece.tensor];
  const int64_t row_bytes = !piece.values.empty()
                                ? static_cast<int64_t>(sizeof(float))
                                : StoredFormat(piece.source).Bytes(ExtentOf(piece).columns);
  std::string bytes(part.rows.size() * row_bytes, '\0');
  RETURN_IF_ERROR(Fill(checkpoint, part, bytes.data()));
  const int64_t offset = tensor.offset + (piece.first_row + part.rows.begin) * row_bytes;
  RETURN_IF_ERROR(file.WriteAt(offset, bytes));
  return static_cast<int64_t>(bytes.size());
}

}  // namespace

absl::StatusOr<GgufConversion> PlanGgufOfFolder(const ModelSpec& original, const ModelSpec& gguf,
                                                const Json& metadata) {
  std::vector<GgufTensor> tensors;
  std::vector<GgufPiece> pieces;
  std::map<std::string, int> index_of;
  for (size_t i = 0; i < gguf.tensors.size(); ++i) {
    const TensorSpec& tensor = gguf.tensors[i];
    // A tied head is the embedding's tensor.
    if (tensor.role == TensorRole::kHead && gguf.tied_head) continue;
    const auto [it, is_new] = index_of.try_emplace(tensor.name, static_cast<int>(tensors.size()));
    GgufPiece piece = PieceOf(original, gguf, i);
    piece.tensor = it->second;
    const WeightFormat& format = StoredFormat(piece.source);
    if (is_new) tensors.push_back({tensor.name, GgufShape(tensor), &format, 0, 0});
    GgufTensor& target = tensors[piece.tensor];
    if (IsWider(format, *target.format)) target.format = &format;
    pieces.push_back(std::move(piece));
  }
  ShareFormats(tensors, pieces);
  AddRopeFactors(gguf, tensors, pieces);
  GgufConversion conversion;
  ASSIGN_OR_RETURN(conversion.layout, LayOutGguf(metadata, std::move(tensors)));
  conversion.pieces = std::move(pieces);
  return conversion;
}

absl::StatusOr<GgufConversion> PlanGgufOfGguf(const Checkpoint& checkpoint, const ModelSpec& spec,
                                              const Json& metadata) {
  std::map<std::string, const WeightFormat*> formats;
  for (const TensorSpec& tensor : spec.tensors) {
    const WeightFormat*& format = formats[tensor.name];
    if (tensor.shape.size() < 2) continue;
    if (format == nullptr || IsWider(*tensor.format, *format)) format = tensor.format;
  }
  std::vector<GgufTensor> tensors;
  GgufConversion conversion;
  for (const auto& [name, source] : checkpoint.tensors()) {
    if (source.format == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", name, "\" is of type ",
                                                     source.type_name, ", which cannot be read"));
    }
    const auto found = formats.find(name);
    const bool converted = found != formats.end() && found->second != nullptr;
    GgufPiece piece;
    piece.tensor = static_cast<int>(tensors.size());
    piece.source.name = name;
    const int64_t columns = source.shape.empty() ? 1 : source.shape.back();
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < source.shape.size(); ++i) rows *= source.shape[i];
    piece.source.shape = {rows, columns};  // of two dimensions, so that its format is what it says
    piece.source.format = converted ? found->second : source.format;
    tensors.push_back({name, source.shape, piece.source.format, 0, 0});
    conversion.pieces.push_back(std::move(piece));
  }
  ASSIGN_OR_RETURN(conversion.layout, LayOutGguf(metadata, std::move(tensors)));
  return conversion;
}

absl::Status WriteGguf(const Checkpoint& checkpoint, const GgufConversion& conversion,
                       ThreadPool& pool, const ConvertProgress& progress, OutputFile& file) {
  RETURN_IF_ERROR(file.Reserve(conversion.layout.file_bytes));
  RETURN_IF_ERROR(file.WriteAt(0, conversion.layout.header));
  const std::vector<Part> parts = CutIntoParts(conversion);
  std::mutex mutex;  // guards what follows, and the callback
  absl::Status first_error;
  int64_t done = 0;
  size_t next = 0;
  const auto take = [&](const Part** part) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!first_error.ok() || next == parts.size()) return false;
    *part = &parts[next++];
    return true;
  };
  const auto work = [&](int64_t, int64_t, int) {
    for (const Part* part = nullptr; take(&part);) {
      const absl::StatusOr<int64_t> bytes = WritePart(checkpoint, conversion, *part, file);
      const std::lock_guard<std::mutex> lock(mutex);
      if (first_error.ok()) first_error = bytes.status();
      if (!first_error.ok()) return;
      done += *bytes;
      if (progress && !progress(done, conversion.layout.file_bytes)) {
        first_error = absl::CancelledError("interrupted; nothing was written");
      }
    }
  };
  pool.ParallelFor(pool.num_threads(), 1, work);
  return first_error;
}

}  // namespace tprun
