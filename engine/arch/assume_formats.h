#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/json.h"
#include "engine/model/model_spec.h"

namespace tprun {

// Sets the formats of a model of which there is only a config. All matrices get `assumed` where it
// is given (embedding and head too; "q4_k_m" and its like are mixtures, see below), else what the
// config's quantization_config says for those it quantises and torch_dtype for the others.
// Matrices whose rows are no whole number of blocks get the fallback of ggml's quantiser or f16;
// vectors are f32.
absl::Status AssumeFormats(const Json& config, const WeightFormat* assumed, ModelSpec& spec);

// Sets the formats of a model whose checkpoint's formats are set already, so that its matrices are
// stored as `wanted` once they are loaded: the same rules as for a bare config. InvalidArgument:
// there is no encoder for it; no matrix has rows of whole blocks (the message names formats that
// fit); a matrix is quantised already and `wanted` is not f32, f16 or bf16.
absl::Status ConvertFormats(const WeightFormat& wanted, ModelSpec& spec);

// What is to be told of matrices that did not get `wanted` because of their rows, "" if all did.
std::string FallbackNote(const WeightFormat& wanted, const ModelSpec& spec);

// The layouts of quantisers that can be read, for messages.
inline constexpr char kReadableQuantisers[] =
    "GPTQ of 4 or 8 bits (checkpoint_format gptq or gptq_v2), AWQ of 4 bits (version gemm), "
    "bitsandbytes nf4, fp4 and int8, FP8 with scales, compressed-tensors of 4 or 8 bits (integers, "
    "FP8), mxfp4 of gpt-oss";

// What the config says that its linear layer `tensor` is quantised to, nullptr if none of them is.
absl::StatusOr<const WeightFormat*> QuantizedFormat(const Json& config, absl::string_view tensor);

// Whether the config says that activations are rounded to fp8 where they meet weights of fp8.
bool DeclaresFp8Activations(const Json& config);

// The type of `tensor` in a GGUF file that llama.cpp's quantiser wrote as `mix` (one of the formats
// named *_s, *_m, *_l; src/llama-quant.cpp at ggml-org/llama.cpp, 2025): these give more bits to
// some tensors. Any other format is returned as it is.
const WeightFormat* FormatInMix(const WeightFormat* mix, const ModelSpec& spec,
                                const TensorSpec& tensor);

}  // namespace tprun
