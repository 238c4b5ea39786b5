#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/grouped_integers.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/tensor_reader.h"

// GPTQ (arXiv 2210.17323) as AutoGPTQ 0.7 and GPTQModel write it (qlinear_cuda.py): of X
//
//   qweight  I32 [in / n, out]     n = 32 / bits consecutive inputs per word, the first lowest
//   qzeros   I32 [groups, out / n] outputs in order; the zero less one, in "gptq_v2" itself
//   scales   F16 [groups, out]
//   g_idx    I32 [in]              the group of each input

namespace tprun {
namespace {

struct GptqTensors {
  CheckpointTensor weights, zeros, scales;
  int zero_offset = 1;
  std::vector<int32_t> group_of;  // of each column; empty: column / group
};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

class GptqMatrix : public GroupedIntegers {
 public:
  GptqMatrix(const IntegerMatrix& matrix, GptqTensors tensors)
      : GroupedIntegers(matrix), tensors_(std::move(tensors)) {}

  absl::Status Fill(const Checkpoint& checkpoint, IntegerSlice& slice) const override {
    RETURN_IF_ERROR(FillQuants(checkpoint, slice));
    RETURN_IF_ERROR(FillZeros(checkpoint, slice));
    return ReadTransposed(checkpoint, tensors_.scales,
                          static_cast<int64_t>(SizeOf(matrix().scale_type)), matrix().rows, slice,
                          slice.scales);
  }

  const GptqTensors& tensors() const { return tensors_; }

 private:
  absl::Status FillQuants(const Checkpoint& checkpoint, IntegerSlice& slice) const {
    const int64_t per_word = 32 / matrix().bits;
    const uint32_t mask = (1u << matrix().bits) - 1;
    const int64_t first = slice.column_begin / per_word;
    ASSIGN_OR_RETURN(
        const std::vector<uint32_t> words,
        ReadWords(checkpoint, tensors_.weights, matrix().rows, first,
                  CeilDivide(slice.column_end, per_word), slice.row_begin, slice.row_end));
    slice.quants.resize(slice.rows() * slice.columns());
    for (int64_t c = 0; c < slice.columns(); ++c) {
      const int64_t column = slice.column_begin + c;
      const uint32_t* row = words.data() + (column / per_word - first) * slice.rows();
      const auto shift = static_cast<int>(column % per_word) * matrix().bits;
      for (int64_t r = 0; r < slice.rows(); ++r) {
        slice.quants[r * slice.columns() + c] = static_cast<uint8_t>((row[r] >> shift) & mask);
      }
    }
    return absl::OkStatus();
  }

  absl::Status FillZeros(const Checkpoint& checkpoint, IntegerSlice& slice) const {
    const int64_t per_word = 32 / matrix().bits;
    const uint32_t mask = (1u << matrix().bits) - 1;
    const int64_t first = slice.row_begin / per_word;
    const int64_t last = CeilDivide(slice.row_end, per_word);
    ASSIGN_OR_RETURN(const std::vector<uint32_t> words,
                     ReadWords(checkpoint, tensors_.zeros, CeilDivide(matrix().rows, per_word),
                               slice.group_begin, slice.group_end, first, last));
    slice.zeros.resize(slice.rows() * slice.groups());
    for (int64_t g = 0; g < slice.groups(); ++g) {
      for (int64_t r = 0; r < slice.rows(); ++r) {
        const int64_t row = slice.row_begin + r;
        const uint32_t word = words[g * (last - first) + row / per_word - first];
        const uint32_t zero = word >> static_cast<int>(row % per_word) * matrix().bits;
        slice.zeros[r * slice.groups() + g] =
            static_cast<uint8_t>((zero + tensors_.zero_offset) & mask);
      }
    }
    return absl::OkStatus();
  }

  const GptqTensors tensors_;
};

// Act-order: the columns of a group lie scattered, so that no block of a row has one scale. Each
// value is made and rounded to the type of the scales, which is what AutoGPTQ multiplies with.
class ScatteredGptqMatrix : public PackedTensor {
 public:
  explicit ScatteredGptqMatrix(std::shared_ptr<const GptqMatrix> matrix)
      : matrix_(std::move(matrix)) {}

  const WeightFormat& format() const { return *matrix_->tensors().scales.format; }

  absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                    int64_t column_begin, int64_t column_end, void* out) const override {
    const IntegerMatrix& shape = matrix_->matrix();
    IntegerSlice slice;
    slice.row_begin = row_begin;
    slice.row_end = row_end;
    slice.column_begin = column_begin;
    slice.column_end = column_end;
    slice.group_end = CeilDivide(shape.columns, shape.group);
    if (slice.rows() == 0 || slice.columns() == 0) return absl::OkStatus();
    RETURN_IF_ERROR(matrix_->Fill(checkpoint, slice));
    std::vector<float> scales(slice.rows() * slice.groups());
    format().dequantize(slice.scales.data(), scales.data(), static_cast<int64_t>(scales.size()));
    std::vector<float> values(slice.rows() * slice.columns());
    for (int64_t r = 0; r < slice.rows(); ++r) {
      for (int64_t c = 0; c < slice.columns(); ++c) {
        const int64_t group = r * slice.groups() + matrix_->tensors().group_of[column_begin + c];
        const int64_t at = r * slice.columns() + c;
        values[at] = scales[group] * static_cast<float>(slice.quants[at] - slice.zeros[group]);
      }
    }
    format().quantize(values.data(), out, static_cast<int64_t>(values.size()));
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const GptqMatrix> matrix_;
};

struct GptqConfig {
  int bits = 4;
  int64_t group = 128;
  int zero_offset = 1;
};

absl::StatusOr<GptqConfig> ReadGptqConfig(const Json& quantization) {
  GptqConfig config;
  ASSIGN_OR_RETURN(const int64_t bits, GetIntOr(quantization, "bits", 4));
  ASSIGN_OR_RETURN(config.group, GetIntOr(quantization, "group_size", 128));
  ASSIGN_OR_RETURN(const std::string form, GetStringOr(quantization, "checkpoint_format", "gptq"));
  const bool known = form == "gptq" || form == "gptq_v2" || form == "";
  if ((bits != 4 && bits != 8) || !known) {
    return absl::UnimplementedError("");  // planned by the config, told by CheckRunnable
  }
  config.bits = static_cast<int>(bits);
  config.zero_offset = form == "gptq_v2" ? 0 : 1;
  return config;
}

// Empty when column / group is all that g_idx says.
absl::StatusOr<std::vector<int32_t>> ReadGroups(const Checkpoint& checkpoint,
                                                const std::string& module,
                                                const IntegerMatrix& matrix) {
  const CheckpointTensor* tensor = checkpoint.Find(absl::StrCat(module, ".g_idx"));
  if (tensor == nullptr) return std::vector<int32_t>();
  if (tensor->type_name != "I32" || tensor->bytes != matrix.columns * 4) {
    return PackedError(tensor->name, absl::StrCat("I32 of shape [", matrix.columns, "]"),
                       absl::StrCat(tensor->type_name, " of shape ", ShapeText(tensor->shape)));
  }
  std::vector<int32_t> groups(matrix.columns);
  RETURN_IF_ERROR(
      ReadElements(checkpoint, *tensor, 4, matrix.columns, 0, 1, 0, matrix.columns, groups.data()));
  const int64_t count = CeilDivide(matrix.columns, matrix.group);
  bool in_order = true;
  for (int64_t c = 0; c < matrix.columns; ++c) {
    if (groups[c] < 0 || groups[c] >= count) {
      return PackedError(tensor->name, absl::StrCat("groups from 0 to ", count - 1),
                         absl::StrCat(groups[c]));
    }
    in_order = in_order && groups[c] == c / matrix.group;
  }
  if (in_order) groups.clear();
  return groups;
}

absl::Status CheckShape(const CheckpointTensor& tensor, int64_t rows, int64_t columns) {
  if (tensor.shape == std::vector<int64_t>{rows, columns}) return absl::OkStatus();
  return PackedError(tensor.name, absl::StrCat("shape [", rows, ", ", columns, "]"),
                     ShapeText(tensor.shape));
}

absl::Status AddModule(CheckpointBuilder& builder, const GptqConfig& config,
                       const std::string& module) {
  const Checkpoint& checkpoint = builder.checkpoint();
  GptqTensors tensors;
  ASSIGN_OR_RETURN(const CheckpointTensor* weights,
                   FindCompanion(checkpoint, absl::StrCat(module, ".qweight"), {"I32"}));
  ASSIGN_OR_RETURN(const CheckpointTensor* zeros,
                   FindCompanion(checkpoint, absl::StrCat(module, ".qzeros"), {"I32"}));
  ASSIGN_OR_RETURN(const CheckpointTensor* scales,
                   FindCompanion(checkpoint, absl::StrCat(module, ".scales"), {"F16", "BF16"}));
  const int64_t per_word = 32 / config.bits;
  if (weights->shape.size() != 2) return CheckShape(*weights, 0, 0);
  IntegerMatrix matrix;
  matrix.rows = weights->shape[1];
  matrix.columns = weights->shape[0] * per_word;
  matrix.bits = config.bits;
  matrix.group = config.group > 0 ? config.group : std::max<int64_t>(1, matrix.columns);
  ASSIGN_OR_RETURN(matrix.scale_type, ScaleTypeOf(*scales));
  const int64_t groups = CeilDivide(matrix.columns, matrix.group);
  RETURN_IF_ERROR(CheckShape(*scales, groups, matrix.rows));
  RETURN_IF_ERROR(CheckShape(*zeros, groups, CeilDivide(matrix.rows, per_word)));
  tensors = {*weights, *zeros, *scales, config.zero_offset, {}};
  ASSIGN_OR_RETURN(tensors.group_of, ReadGroups(checkpoint, module, matrix));
  const bool scattered = !tensors.group_of.empty();
  const CheckpointTensor like = *weights;
  auto packed = std::make_shared<GptqMatrix>(matrix, std::move(tensors));
  const std::string name = absl::StrCat(module, ".weight");
  if (!scattered) return AddGrouped(builder, like, name, std::move(packed));
  auto wide = std::make_shared<ScatteredGptqMatrix>(std::move(packed));
  const WeightFormat& format = wide->format();
  builder.AddPacked(MakePacked(like, name, matrix.rows, matrix.columns, format, std::move(wide)));
  return absl::OkStatus();
}

}  // namespace

absl::Status AddGptq(CheckpointBuilder& builder, const Json& quantization) {
  const absl::StatusOr<GptqConfig> config = ReadGptqConfig(quantization);
  if (absl::IsUnimplemented(config.status())) return absl::OkStatus();
  RETURN_IF_ERROR(Annotate(config.status(), "quantization_config"));
  for (const std::string& module : NamesWithSuffix(builder.checkpoint(), ".qweight")) {
    RETURN_IF_ERROR(AddModule(builder, *config, module));
  }
  return absl::OkStatus();
}

}  // namespace tprun
