#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/tensor_reader.h"

// FP8 with scales: X.weight in E4M3 and X.weight_scale per tensor, per output channel, per group or
// per block (vllm-project/compressed-tensors), or X.weight_scale_inv per block of 128 x 128
// (deepseek-ai/DeepSeek-V3, inference/kernel.py), which is multiplied too, despite its name.
// NVIDIA's Model Optimizer has one F32 weight_scale per tensor.

namespace tprun {
namespace {

struct ScaleGrid {
  int64_t block_rows = 0;
  int64_t block_columns = 0;
  int64_t columns = 0;  // scales per row of blocks
};

class Fp8Matrix : public PackedTensor {
 public:
  Fp8Matrix(CheckpointTensor weight, CheckpointTensor scale, ScaleGrid grid,
            const WeightFormat* format)
      : weight_(std::move(weight)), scale_(std::move(scale)), grid_(grid), format_(format) {}

  absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                    int64_t column_begin, int64_t column_end, void* out) const override {
    const int64_t rows = row_end - row_begin;
    const int64_t columns = column_end - column_begin;
    if (rows == 0 || columns == 0) return absl::OkStatus();
    std::vector<char> values(rows * columns);
    RETURN_IF_ERROR(ReadElements(checkpoint, weight_, 1, weight_.shape[1], row_begin, row_end,
                                 column_begin, column_end, values.data()));
    const int64_t first = row_begin / grid_.block_rows;
    const int64_t last = (row_end - 1) / grid_.block_rows + 1;
    ASSIGN_OR_RETURN(const std::vector<float> scales, ReadScales(checkpoint, first, last));
    const int64_t block = format_->block_elements;
    char* to = static_cast<char*>(out);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row =
          scales.data() + ((row_begin + r) / grid_.block_rows - first) * grid_.columns;
      for (int64_t c = 0; c < columns; c += block, to += format_->block_bytes) {
        std::memcpy(to, row + (column_begin + c) / grid_.block_columns, sizeof(float));
        std::memcpy(to + sizeof(float), values.data() + r * columns + c, block);
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::vector<float>> ReadScales(const Checkpoint& checkpoint, int64_t first,
                                                int64_t last) const {
    const WeightFormat& format = *scale_.format;
    std::vector<char> raw(format.Bytes((last - first) * grid_.columns));
    RETURN_IF_ERROR(ReadElements(checkpoint, scale_, format.block_bytes, grid_.columns, first, last,
                                 0, grid_.columns, raw.data()));
    std::vector<float> scales((last - first) * grid_.columns);
    format.dequantize(raw.data(), scales.data(), static_cast<int64_t>(scales.size()));
    return scales;
  }

  const CheckpointTensor weight_, scale_;
  const ScaleGrid grid_;
  const WeightFormat* const format_;
};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct BlockShape {
  int64_t rows = 128;
  int64_t columns = 128;
};

// weight_block_size of DeepSeek's config, block_structure of compressed-tensors'.
absl::StatusOr<BlockShape> ReadBlockShape(const Json& quantization) {
  const Json* list = FindMember(quantization, "weight_block_size");
  const Json* groups = FindMember(quantization, "config_groups");
  if (list == nullptr && groups != nullptr && groups->is_object() && !groups->empty()) {
    const Json* weights = FindMember(groups->begin().value(), "weights");
    if (weights != nullptr) list = FindMember(*weights, "block_structure");
  }
  BlockShape shape;
  if (list == nullptr) return shape;
  const bool pair = list->is_array() && list->size() == 2 && (*list)[0].is_number_integer() &&
                    (*list)[1].is_number_integer();
  if (pair) shape = {(*list)[0].get<int64_t>(), (*list)[1].get<int64_t>()};
  if (pair && shape.rows > 0 && shape.columns > 0) return shape;
  return absl::InvalidArgumentError(
      absl::StrCat("quantization_config: wanted a block of two whole numbers, found ",
                   list->dump().substr(0, 80)));
}

absl::StatusOr<ScaleGrid> GridOf(const CheckpointTensor& weight, const CheckpointTensor& scale,
                                 const BlockShape& block) {
  const int64_t rows = weight.shape[0];
  const int64_t columns = weight.shape[1];
  int64_t count = 1;
  for (int64_t extent : scale.shape) count *= extent;
  const int64_t across = scale.shape.size() == 2 ? scale.shape[1] : 1;
  if (count == 1) return ScaleGrid{rows, columns, 1};
  if (count == rows && across == 1) return ScaleGrid{1, columns, 1};
  if (scale.shape.size() == 2 && scale.shape[0] == CeilDivide(rows, block.rows) &&
      across == CeilDivide(columns, block.columns)) {
    return ScaleGrid{block.rows, block.columns, across};
  }
  if (scale.shape.size() == 2 && scale.shape[0] == rows && across > 0 && columns % across == 0) {
    return ScaleGrid{1, columns / across, across};
  }
  return PackedError(scale.name,
                     absl::StrCat("one scale, one per row of ", ShapeText(weight.shape),
                                  " or one per block of ", block.rows, " x ", block.columns),
                     absl::StrCat("shape ", ShapeText(scale.shape)));
}

absl::Status AddOne(CheckpointBuilder& builder, const CheckpointTensor& weight,
                    const std::string& scale_name, const BlockShape& block) {
  ASSIGN_OR_RETURN(const CheckpointTensor* scale,
                   FindCompanion(builder.checkpoint(), scale_name, {"F32", "BF16", "F16"}));
  ASSIGN_OR_RETURN(const ScaleGrid grid, GridOf(weight, *scale, block));
  const int64_t columns = weight.shape[1];
  const bool any_cut = grid.block_columns >= columns;
  const auto fits = [&](const WeightFormat& format) {
    return columns % format.block_elements == 0 &&
           (any_cut || grid.block_columns % format.block_elements == 0);
  };
  const WeightFormat* format = fits(kFp8Format)      ? &kFp8Format
                               : fits(kFp8B32Format) ? &kFp8B32Format
                                                     : nullptr;
  RETURN_IF_ERROR(CheckBlocks(weight.name, format, columns, 32));
  builder.AddPacked(MakePacked(weight, weight.name, weight.shape[0], columns, *format,
                               std::make_shared<Fp8Matrix>(weight, *scale, grid, format)));
  return absl::OkStatus();
}

}  // namespace

absl::Status AddFp8Weights(CheckpointBuilder& builder, const Json& quantization) {
  ASSIGN_OR_RETURN(const BlockShape block, ReadBlockShape(quantization));
  std::vector<CheckpointTensor> weights;
  for (const auto& [name, tensor] : builder.checkpoint().tensors()) {
    // Scales may be of this type too (NVFP4).
    const bool scale = absl::StrContains(name, "_scale");
    if (tensor.type_name == "F8_E4M3" && tensor.shape.size() == 2 && !scale) {
      weights.push_back(tensor);
    }
  }
  for (const CheckpointTensor& weight : weights) {
    const std::string inverse = absl::StrCat(weight.name, "_scale_inv");
    const bool has_inverse = builder.checkpoint().Find(inverse) != nullptr;
    RETURN_IF_ERROR(AddOne(builder, weight,
                           has_inverse ? inverse : absl::StrCat(weight.name, "_scale"), block));
  }
  return absl::OkStatus();
}

}  // namespace tprun
