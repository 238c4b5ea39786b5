#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/tensor_reader.h"

// bitsandbytes 0.50 (functional.py, QuantState; nn/modules.py). Four bits: X.weight holds the
// nibbles of the flattened matrix, the first of each two highest, and beside it
//
//   X.weight.absmax        F32 [blocks], or with double quantisation U8 [blocks]
//   X.weight.quant_map     F32 [16]: the levels
//   X.weight.nested_absmax F32, .nested_quant_map F32 [256]: of absmax, for double quantisation
//   X.weight.quant_state.bitsandbytes__nf4 (or __fp4): U8, a JSON with the rest
//
// LLM.int8: X.weight I8 [out, in] and X.SCB F32 [out].

namespace tprun {
namespace {

constexpr int64_t kBlock = 64;  // of our formats
constexpr int64_t kMostStateBytes = 1 << 16;
constexpr char kState[] = ".quant_state.bitsandbytes__";

struct FourBitState {
  const WeightFormat* format = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t block = 64;
  bool nested = false;
  int64_t nested_block = 256;
  float nested_offset = 0;
};

class FourBitMatrix : public PackedTensor {
 public:
  FourBitMatrix(FourBitState state, CheckpointTensor weights, CheckpointTensor absmax,
                CheckpointTensor nested_absmax, std::vector<float> nested_map)
      : state_(state),
        weights_(std::move(weights)),
        absmax_(std::move(absmax)),
        nested_absmax_(std::move(nested_absmax)),
        nested_map_(std::move(nested_map)) {}

  absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                    int64_t column_begin, int64_t column_end, void* out) const override {
    const int64_t rows = row_end - row_begin;
    const int64_t columns = column_end - column_begin;
    if (rows == 0 || columns == 0) return absl::OkStatus();
    std::vector<char> nibbles(rows * columns / 2);
    RETURN_IF_ERROR(ReadElements(checkpoint, weights_, 1, state_.columns / 2, row_begin, row_end,
                                 column_begin / 2, column_end / 2, nibbles.data()));
    // Of whole rows: 1/64 of the values.
    const int64_t first = row_begin * state_.columns / state_.block;
    const int64_t last = (row_end * state_.columns - 1) / state_.block + 1;
    ASSIGN_OR_RETURN(const std::vector<float> absmax, ReadAbsmax(checkpoint, first, last));
    char* to = static_cast<char*>(out);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; c += kBlock, to += state_.format->block_bytes) {
        const int64_t flat = (row_begin + r) * state_.columns + column_begin + c;
        std::memcpy(to, &absmax[flat / state_.block - first], sizeof(float));
        std::memcpy(to + sizeof(float), nibbles.data() + (r * columns + c) / 2, kBlock / 2);
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::vector<float>> ReadFloats(const Checkpoint& checkpoint,
                                                const CheckpointTensor& tensor, int64_t first,
                                                int64_t last) const {
    std::vector<float> values(last - first);
    RETURN_IF_ERROR(
        ReadElements(checkpoint, tensor, sizeof(float), 1, first, last, 0, 1, values.data()));
    return values;
  }

  absl::StatusOr<std::vector<float>> ReadAbsmax(const Checkpoint& checkpoint, int64_t first,
                                                int64_t last) const {
    if (!state_.nested) return ReadFloats(checkpoint, absmax_, first, last);
    std::vector<uint8_t> codes(last - first);
    RETURN_IF_ERROR(ReadElements(checkpoint, absmax_, 1, 1, first, last, 0, 1, codes.data()));
    const int64_t first_nested = first / state_.nested_block;
    ASSIGN_OR_RETURN(
        const std::vector<float> nested,
        ReadFloats(checkpoint, nested_absmax_, first_nested, (last - 1) / state_.nested_block + 1));
    std::vector<float> values(last - first);
    for (int64_t i = 0; i < last - first; ++i) {
      const float scaled =
          nested_map_[codes[i]] * nested[(first + i) / state_.nested_block - first_nested];
      values[i] = scaled + state_.nested_offset;
    }
    return values;
  }

  const FourBitState state_;
  const CheckpointTensor weights_, absmax_, nested_absmax_;
  const std::vector<float> nested_map_;
};

class Int8Matrix : public PackedTensor {
 public:
  Int8Matrix(CheckpointTensor weights, CheckpointTensor absmax)
      : weights_(std::move(weights)), absmax_(std::move(absmax)) {}

  absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                    int64_t column_begin, int64_t column_end, void* out) const override {
    const int64_t rows = row_end - row_begin;
    const int64_t columns = column_end - column_begin;
    std::vector<char> values(rows * columns);
    RETURN_IF_ERROR(ReadElements(checkpoint, weights_, 1, weights_.shape[1], row_begin, row_end,
                                 column_begin, column_end, values.data()));
    std::vector<float> absmax(rows);
    RETURN_IF_ERROR(ReadElements(checkpoint, absmax_, sizeof(float), 1, row_begin, row_end, 0, 1,
                                 absmax.data()));
    char* to = static_cast<char*>(out);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; c += kBlock, to += kBnbInt8Format.block_bytes) {
        std::memcpy(to, &absmax[r], sizeof(float));
        std::memcpy(to + sizeof(float), values.data() + r * columns + c, kBlock);
      }
    }
    return absl::OkStatus();
  }

 private:
  const CheckpointTensor weights_, absmax_;
};

// A small tensor of floats, whole.
absl::StatusOr<std::vector<float>> SmallFloats(const Checkpoint& checkpoint,
                                               const std::string& name, int64_t count) {
  ASSIGN_OR_RETURN(const CheckpointTensor* tensor, FindCompanion(checkpoint, name, {"F32"}));
  std::vector<float> values(count);
  if (tensor->bytes != count * static_cast<int64_t>(sizeof(float))) {
    return PackedError(name, absl::StrCat(count, " numbers"), ShapeText(tensor->shape));
  }
  RETURN_IF_ERROR(
      ReadElements(checkpoint, *tensor, sizeof(float), count, 0, 1, 0, count, values.data()));
  return values;
}

// The levels of the format are constants of ours: the checkpoint's must be the same.
absl::Status CheckLevels(const Checkpoint& checkpoint, const std::string& weight,
                         const WeightFormat& format) {
  const std::string name = absl::StrCat(weight, ".quant_map");
  ASSIGN_OR_RETURN(const std::vector<float> map, SmallFloats(checkpoint, name, 16));
  std::vector<uint8_t> block(format.block_bytes);
  const float one = 1;
  std::memcpy(block.data(), &one, sizeof(one));
  for (int i = 0; i < 8; ++i) block[4 + i] = static_cast<uint8_t>(2 * i << 4 | (2 * i + 1));
  std::vector<float> levels(format.block_elements);
  format.dequantize(block.data(), levels.data(), format.block_elements);
  if (std::equal(map.begin(), map.end(), levels.begin())) return absl::OkStatus();
  return PackedError(name, absl::StrCat("the levels of ", format.name), "others");
}

absl::StatusOr<FourBitState> ReadState(const Checkpoint& checkpoint, const std::string& weight) {
  FourBitState state;
  const CheckpointTensor* tensor = nullptr;
  for (const WeightFormat* format : {&kNf4Format, &kFp4Format}) {
    if (tensor != nullptr) break;
    tensor = checkpoint.Find(absl::StrCat(weight, kState, format->name));
    state.format = format;
  }
  if (tensor == nullptr || tensor->bytes > kMostStateBytes) {
    return PackedError(absl::StrCat(weight, kState, "nf4 or fp4"), "a JSON", "none");
  }
  std::string text(tensor->bytes, '\0');
  RETURN_IF_ERROR(ReadElements(checkpoint, *tensor, 1, 1, 0, tensor->bytes, 0, 1, text.data()));
  const absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return Annotate(json.status(), tensor->name);
  const Json* shape = FindMember(*json, "shape");
  if (shape == nullptr || !shape->is_array() || shape->size() != 2 ||
      !(*shape)[0].is_number_integer() || !(*shape)[1].is_number_integer()) {
    return PackedError(tensor->name, "a shape of two whole numbers", MemberText(*json, "shape"));
  }
  state.rows = (*shape)[0].get<int64_t>();
  state.columns = (*shape)[1].get<int64_t>();
  ASSIGN_OR_RETURN(state.block, GetIntOr(*json, "blocksize", 64));
  state.nested = FindMember(*json, "nested_blocksize") != nullptr;
  ASSIGN_OR_RETURN(state.nested_block, GetIntOr(*json, "nested_blocksize", 256));
  ASSIGN_OR_RETURN(const double offset, GetDoubleOr(*json, "nested_offset", 0));
  state.nested_offset = static_cast<float>(offset);
  return state;
}

// Sizes in agreement with the bytes that are there, which bounds all that follows.
absl::Status CheckState(const FourBitState& state, const CheckpointTensor& weights,
                        const CheckpointTensor& absmax) {
  if (state.block < kBlock || state.block % kBlock != 0 || state.nested_block < 1) {
    return PackedError(weights.name, absl::StrCat("blocks of a multiple of ", kBlock),
                       absl::StrCat(state.block));
  }
  if (state.rows < 1 || state.columns < 1 || state.rows > weights.bytes * 2 / state.columns ||
      state.rows * state.columns != weights.bytes * 2) {
    return PackedError(
        weights.name, absl::StrCat("the nibbles of a matrix of ", state.rows, " x ", state.columns),
        absl::StrCat(weights.bytes, " bytes"));
  }
  RETURN_IF_ERROR(CheckBlocks(weights.name, state.format, state.columns, kBlock));
  const int64_t blocks = (state.rows * state.columns - 1) / state.block + 1;
  const absl::string_view type = state.nested ? "U8" : "F32";
  if (absmax.type_name == type && absmax.bytes == blocks * (state.nested ? 1 : 4)) {
    return absl::OkStatus();
  }
  return PackedError(absmax.name, absl::StrCat(blocks, " of ", type),
                     absl::StrCat(ShapeText(absmax.shape), " of ", absmax.type_name));
}

absl::Status AddFourBits(CheckpointBuilder& builder, const std::string& weight) {
  const Checkpoint& checkpoint = builder.checkpoint();
  ASSIGN_OR_RETURN(const CheckpointTensor* weights, FindCompanion(checkpoint, weight, {}));
  ASSIGN_OR_RETURN(const CheckpointTensor* absmax,
                   FindCompanion(checkpoint, absl::StrCat(weight, ".absmax"), {"F32", "U8"}));
  ASSIGN_OR_RETURN(const FourBitState state, ReadState(checkpoint, weight));
  RETURN_IF_ERROR(CheckState(state, *weights, *absmax));
  RETURN_IF_ERROR(CheckLevels(checkpoint, weight, *state.format));
  CheckpointTensor nested_absmax;
  std::vector<float> nested_map;
  if (state.nested) {
    ASSIGN_OR_RETURN(const CheckpointTensor* nested,
                     FindCompanion(checkpoint, absl::StrCat(weight, ".nested_absmax"), {"F32"}));
    nested_absmax = *nested;
    ASSIGN_OR_RETURN(nested_map,
                     SmallFloats(checkpoint, absl::StrCat(weight, ".nested_quant_map"), 256));
  }
  const CheckpointTensor like = *weights;
  auto packed = std::make_shared<FourBitMatrix>(state, like, *absmax, std::move(nested_absmax),
                                                std::move(nested_map));
  builder.AddPacked(
      MakePacked(like, weight, state.rows, state.columns, *state.format, std::move(packed)));
  return absl::OkStatus();
}

absl::Status AddInt8(CheckpointBuilder& builder, const std::string& module) {
  const Checkpoint& checkpoint = builder.checkpoint();
  const std::string name = absl::StrCat(module, ".weight");
  ASSIGN_OR_RETURN(const CheckpointTensor* weights, FindCompanion(checkpoint, name, {"I8"}));
  ASSIGN_OR_RETURN(const CheckpointTensor* absmax,
                   FindCompanion(checkpoint, absl::StrCat(module, ".SCB"), {"F32"}));
  const bool matrix = weights->shape.size() == 2;
  if (!matrix || absmax->bytes != weights->shape[0] * static_cast<int64_t>(sizeof(float))) {
    return PackedError(absmax->name, "a number per row of a matrix", ShapeText(absmax->shape));
  }
  RETURN_IF_ERROR(CheckBlocks(name, &kBnbInt8Format, weights->shape[1], kBlock));
  const CheckpointTensor like = *weights;
  auto packed = std::make_shared<Int8Matrix>(like, *absmax);
  builder.AddPacked(
      MakePacked(like, name, like.shape[0], like.shape[1], kBnbInt8Format, std::move(packed)));
  return absl::OkStatus();
}

}  // namespace

absl::Status AddBitsAndBytes(CheckpointBuilder& builder, const Json&) {
  for (const std::string& weight : NamesWithSuffix(builder.checkpoint(), ".weight.absmax")) {
    RETURN_IF_ERROR(AddFourBits(builder, absl::StrCat(weight, ".weight")));
  }
  for (const std::string& module : NamesWithSuffix(builder.checkpoint(), ".SCB")) {
    RETURN_IF_ERROR(AddInt8(builder, module));
  }
  return absl::OkStatus();
}

}  // namespace tprun
