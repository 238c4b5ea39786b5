#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/grouped_integers.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/tensor_reader.h"

// compressed-tensors (vllm-project/compressed-tensors 0.12: compressors/quantized_compressors):
// FP8 weights (see fp8_weights.cc), integers of 4 or 8 bits packed along the inputs,
//
//   X.weight_packed      I32 [out, in / n]    n values per word, the first lowest, 2^(bits-1) added
//   X.weight_scale       [out, groups]        groups of equal size; one for a whole row
//   X.weight_zero_point  I32 [out / n, groups] packed along the outputs, likewise; absent: 0
//
//   X.weight_shape       I64 [2]              out, in; absent in old files: num_bits of the config
//
// and integers of 8 bits as they are: X.weight I8 [out, in] with X.weight_scale [out, 1] or [1] and
// X.weight_zero_point likewise, I8; absent: 0.

namespace tprun {
namespace {

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

class PackedMatrix : public GroupedIntegers {
 public:
  PackedMatrix(const IntegerMatrix& matrix, CheckpointTensor weights, CheckpointTensor scales,
               const CheckpointTensor* zeros)
      : GroupedIntegers(matrix), weights_(std::move(weights)), scales_(std::move(scales)) {
    if (zeros != nullptr) zeros_ = *zeros;
  }

  absl::Status Fill(const Checkpoint& checkpoint, IntegerSlice& slice) const override {
    RETURN_IF_ERROR(FillQuants(checkpoint, slice));
    RETURN_IF_ERROR(FillZeros(checkpoint, slice));
    const auto bytes = static_cast<int64_t>(SizeOf(matrix().scale_type));
    slice.scales.resize(slice.rows() * slice.groups() * bytes);
    return ReadElements(checkpoint, scales_, bytes, scales_.shape.back(), slice.row_begin,
                        slice.row_end, slice.group_begin, slice.group_end, slice.scales.data());
  }

 private:
  int64_t per_word() const { return 32 / matrix().bits; }
  uint32_t mask() const { return (1u << matrix().bits) - 1; }

  absl::Status FillQuants(const Checkpoint& checkpoint, IntegerSlice& slice) const {
    const int64_t first = slice.column_begin / per_word();
    const int64_t last = CeilDivide(slice.column_end, per_word());
    ASSIGN_OR_RETURN(const std::vector<uint32_t> words,
                     ReadWords(checkpoint, weights_, weights_.shape[1], slice.row_begin,
                               slice.row_end, first, last));
    slice.quants.resize(slice.rows() * slice.columns());
    for (int64_t r = 0; r < slice.rows(); ++r) {
      for (int64_t c = 0; c < slice.columns(); ++c) {
        const int64_t column = slice.column_begin + c;
        const uint32_t word = words[r * (last - first) + column / per_word() - first];
        const auto shift = static_cast<int>(column % per_word()) * matrix().bits;
        slice.quants[r * slice.columns() + c] = static_cast<uint8_t>((word >> shift) & mask());
      }
    }
    return absl::OkStatus();
  }

  // Both are stored with 2^(bits-1) added, which their difference does not see.
  absl::Status FillZeros(const Checkpoint& checkpoint, IntegerSlice& slice) const {
    const auto middle = static_cast<uint8_t>(1 << (matrix().bits - 1));
    slice.zeros.assign(slice.rows() * slice.groups(), middle);
    if (zeros_.bytes == 0) return absl::OkStatus();
    const int64_t first = slice.row_begin / per_word();
    ASSIGN_OR_RETURN(
        const std::vector<uint32_t> words,
        ReadWords(checkpoint, zeros_, zeros_.shape[1], first, CeilDivide(slice.row_end, per_word()),
                  slice.group_begin, slice.group_end));
    for (int64_t r = 0; r < slice.rows(); ++r) {
      const int64_t row = slice.row_begin + r;
      const auto shift = static_cast<int>(row % per_word()) * matrix().bits;
      for (int64_t g = 0; g < slice.groups(); ++g) {
        const uint32_t word = words[(row / per_word() - first) * slice.groups() + g];
        slice.zeros[r * slice.groups() + g] = static_cast<uint8_t>((word >> shift) & mask());
      }
    }
    return absl::OkStatus();
  }

  const CheckpointTensor weights_, scales_;
  CheckpointTensor zeros_;
};

// Signed bytes: 128 added to both value and zero.
class ByteMatrix : public GroupedIntegers {
 public:
  ByteMatrix(const IntegerMatrix& matrix, CheckpointTensor weights, CheckpointTensor scales,
             const CheckpointTensor* zeros)
      : GroupedIntegers(matrix), weights_(std::move(weights)), scales_(std::move(scales)) {
    if (zeros != nullptr) zeros_ = *zeros;
  }

  absl::Status Fill(const Checkpoint& checkpoint, IntegerSlice& slice) const override {
    slice.quants.resize(slice.rows() * slice.columns());
    RETURN_IF_ERROR(ReadElements(checkpoint, weights_, 1, matrix().columns, slice.row_begin,
                                 slice.row_end, slice.column_begin, slice.column_end,
                                 slice.quants.data()));
    slice.zeros.assign(slice.rows(), 0);
    if (zeros_.bytes > 0) {
      RETURN_IF_ERROR(ReadPerRow(checkpoint, zeros_, 1, slice, slice.zeros.data()));
    }
    for (uint8_t& quant : slice.quants) quant ^= 0x80;
    for (uint8_t& zero : slice.zeros) zero ^= 0x80;
    const auto bytes = static_cast<int64_t>(SizeOf(matrix().scale_type));
    slice.scales.resize(slice.rows() * bytes);
    return ReadPerRow(checkpoint, scales_, bytes, slice, slice.scales.data());
  }

 private:
  // An element for each of the slice's rows, of [out, 1] or the same one for all.
  absl::Status ReadPerRow(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                          int64_t bytes, const IntegerSlice& slice, void* out) const {
    if (tensor.bytes != bytes || matrix().rows == 1) {
      return ReadElements(checkpoint, tensor, bytes, 1, slice.row_begin, slice.row_end, 0, 1, out);
    }
    RETURN_IF_ERROR(ReadElements(checkpoint, tensor, bytes, 1, 0, 1, 0, 1, out));
    char* to = static_cast<char*>(out);
    for (int64_t r = 1; r < slice.rows(); ++r) std::copy_n(to, bytes, to + r * bytes);
    return absl::OkStatus();
  }

  const CheckpointTensor weights_, scales_;
  CheckpointTensor zeros_;
};

// Groups of layers may have bits of their own: what the shape of the packed words says. `bits`
// where the file does not tell the shape of the matrix.
absl::StatusOr<int> BitsOf(const Checkpoint& checkpoint, const std::string& module,
                           const CheckpointTensor& weights, int bits) {
  const CheckpointTensor* shape = checkpoint.Find(absl::StrCat(module, ".weight_shape"));
  if (shape == nullptr || shape->type_name != "I64" || shape->bytes != 16) return bits;
  int64_t extents[2];
  RETURN_IF_ERROR(ReadElements(checkpoint, *shape, sizeof(int64_t), 2, 0, 1, 0, 2, extents));
  for (const int known : {4, 8}) {
    if (extents[1] > 0 && weights.shape[1] == CeilDivide(extents[1], 32 / known)) return known;
  }
  return PackedError(weights.name, absl::StrCat("rows of ", extents[1], " elements of 4 or 8 bits"),
                     absl::StrCat(weights.shape[1], " words"));
}

absl::Status AddPackedModule(CheckpointBuilder& builder, int bits, const std::string& module) {
  const Checkpoint& checkpoint = builder.checkpoint();
  ASSIGN_OR_RETURN(const CheckpointTensor* weights,
                   FindCompanion(checkpoint, absl::StrCat(module, ".weight_packed"), {"I32"}));
  ASSIGN_OR_RETURN(
      const CheckpointTensor* scales,
      FindCompanion(checkpoint, absl::StrCat(module, ".weight_scale"), {"F16", "BF16", "F32"}));
  if (checkpoint.Find(absl::StrCat(module, ".weight_g_idx")) != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor \"", module,
                     ".weight_g_idx\": act-order of compressed-tensors is not supported; "
                     "take a checkpoint without it, or one that AutoGPTQ wrote"));
  }
  if (weights->shape.size() != 2) return PackedError(weights->name, "two dimensions", "others");
  ASSIGN_OR_RETURN(bits, BitsOf(checkpoint, module, *weights, bits));
  IntegerMatrix matrix;
  matrix.bits = bits;
  matrix.rows = weights->shape[0];
  matrix.columns = weights->shape[1] * (32 / bits);
  ASSIGN_OR_RETURN(matrix.scale_type, ScaleTypeOf(*scales));
  const int64_t groups = scales->shape.size() == 2 ? scales->shape[1] : 0;
  if (groups <= 0 || scales->shape[0] != matrix.rows || matrix.columns % groups != 0 ||
      matrix.columns == 0) {
    return PackedError(scales->name,
                       absl::StrCat("shape [", matrix.rows, ", groups of equal size]"),
                       ShapeText(scales->shape));
  }
  matrix.group = matrix.columns / groups;
  const CheckpointTensor* zeros = checkpoint.Find(absl::StrCat(module, ".weight_zero_point"));
  const std::vector<int64_t> zero_shape = {CeilDivide(matrix.rows, 32 / bits), groups};
  if (zeros != nullptr && (zeros->type_name != "I32" || zeros->shape != zero_shape)) {
    return PackedError(zeros->name, absl::StrCat("I32 of shape ", ShapeText(zero_shape)),
                       absl::StrCat(zeros->type_name, " of shape ", ShapeText(zeros->shape)));
  }
  const CheckpointTensor like = *weights;
  return AddGrouped(builder, like, absl::StrCat(module, ".weight"),
                    std::make_shared<PackedMatrix>(matrix, *weights, *scales, zeros));
}

absl::Status AddByteModule(CheckpointBuilder& builder, const CheckpointTensor& weights) {
  ASSIGN_OR_RETURN(const CheckpointTensor* scales,
                   FindCompanion(builder.checkpoint(), absl::StrCat(weights.name, "_scale"),
                                 {"F16", "BF16", "F32"}));
  IntegerMatrix matrix;
  matrix.bits = 8;
  matrix.rows = weights.shape[0];
  matrix.columns = matrix.group = weights.shape[1];
  ASSIGN_OR_RETURN(matrix.scale_type, ScaleTypeOf(*scales));
  const int64_t count = scales->bytes / static_cast<int64_t>(SizeOf(matrix.scale_type));
  if ((count != 1 && count != matrix.rows) || matrix.columns == 0) {
    return PackedError(scales->name, absl::StrCat("one scale or ", matrix.rows),
                       ShapeText(scales->shape));
  }
  const CheckpointTensor* zeros =
      builder.checkpoint().Find(absl::StrCat(weights.name, "_zero_point"));
  if (zeros != nullptr && (zeros->type_name != "I8" || zeros->bytes != count)) {
    return PackedError(zeros->name, absl::StrCat(count, " of I8"),
                       absl::StrCat(zeros->type_name, " of shape ", ShapeText(zeros->shape)));
  }
  return AddGrouped(builder, weights, weights.name,
                    std::make_shared<ByteMatrix>(matrix, weights, *scales, zeros));
}

}  // namespace

absl::Status AddCompressedTensors(CheckpointBuilder& builder, const Json& quantization) {
  RETURN_IF_ERROR(AddFp8Weights(builder, quantization));
  ASSIGN_OR_RETURN(const std::string layout, GetStringOr(quantization, "format", ""));
  if (layout == "marlin-24") return absl::OkStatus();  // planned by the config
  int64_t bits = 4;
  const Json* groups = FindMember(quantization, "config_groups");
  if (groups != nullptr && groups->is_object() && !groups->empty()) {
    const Json* weights = FindMember(groups->begin().value(), "weights");
    if (weights != nullptr) {
      ASSIGN_OR_RETURN(bits, GetIntOr(*weights, "num_bits", 4));
    }
  }
  if (bits == 4 || bits == 8) {
    for (const std::string& module : NamesWithSuffix(builder.checkpoint(), ".weight_packed")) {
      // NVFP4 has the same name for bytes of another meaning: planned by the config.
      if (builder.checkpoint().Find(absl::StrCat(module, ".weight_packed"))->type_name != "I32") {
        continue;
      }
      RETURN_IF_ERROR(AddPackedModule(builder, static_cast<int>(bits), module));
    }
  }
  std::vector<CheckpointTensor> bytes;
  for (const auto& [name, tensor] : builder.checkpoint().tensors()) {
    const bool zeros = absl::EndsWith(name, "_zero_point");
    if (tensor.type_name == "I8" && tensor.shape.size() == 2 && !zeros) bytes.push_back(tensor);
  }
  for (const CheckpointTensor& tensor : bytes) RETURN_IF_ERROR(AddByteModule(builder, tensor));
  return absl::OkStatus();
}

}  // namespace tprun
