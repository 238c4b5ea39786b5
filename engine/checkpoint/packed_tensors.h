#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/checkpoint_builder.h"

namespace tprun {

// Checkpoints of quantisers keep a linear layer `X` in tensors of their own: X.qweight, X.scales...
// Here each of them becomes one tensor X.weight of [out, in] in a self-contained block format with
// the same values to the bit, so that slices, plans and kernels need to know nothing of it.
//
// To add a kind: a file here with one function as below and a line in packed_tensors.cc, a
// WeightFormat if none has its values, a golden test (tests/engine/checkpoint/quantized/).

// Adds the tensors of all kinds of a safetensors checkpoint; the quantiser's own stay beside them.
// InvalidArgument for tensors that do not fit each other or the config's quantization_config; a
// kind that is not known is left alone.
absl::Status AddPackedTensors(CheckpointBuilder& builder);

// One quantiser's.
absl::Status AddFp8Weights(CheckpointBuilder& builder, const Json& quantization);
absl::Status AddBitsAndBytes(CheckpointBuilder& builder, const Json& quantization);
absl::Status AddGptq(CheckpointBuilder& builder, const Json& quantization);
absl::Status AddAwq(CheckpointBuilder& builder, const Json& quantization);
absl::Status AddCompressedTensors(CheckpointBuilder& builder, const Json& quantization);

// What they share.

// The tensor X.weight; `like` is one of those it stands for, whose type and place it tells.
CheckpointTensor MakePacked(const CheckpointTensor& like, std::string name, int64_t rows,
                            int64_t columns, const WeightFormat& format,
                            std::shared_ptr<const PackedTensor> packed);

// The names of all tensors that end with `suffix`, without it.
std::vector<std::string> NamesWithSuffix(const Checkpoint& checkpoint, absl::string_view suffix);

// "tensor "X": wanted ..., found ...".
absl::Status PackedError(absl::string_view name, absl::string_view wanted, absl::string_view found);

// The tensor, which must be there and have one of these types (any, if there are none).
absl::StatusOr<const CheckpointTensor*> FindCompanion(
    const Checkpoint& checkpoint, const std::string& name,
    std::initializer_list<absl::string_view> types);

// That rows of `columns` are cut into groups of `format`'s block; else says which widths can be.
absl::Status CheckBlocks(absl::string_view name, const WeightFormat* format, int64_t columns,
                         int64_t least);

}  // namespace tprun
