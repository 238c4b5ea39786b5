#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tprun {

// How the elements of a weight tensor are stored. A row of a matrix is a whole number of blocks;
// blocks are never cut, so `block_elements` bounds how finely a tensor can be split along its rows.
//
// To add a format: one file here that defines a `const WeightFormat`, one line in registry.cc, a
// test with golden bytes (tests/engine/format/), and, to be fast, a dot product in
// engine/kernels/matmul_cpu.cc.
struct WeightFormat {
  absl::string_view name;         // "bf16", "q8_0": what --weights and the plan call it
  int ggml_type;                  // id in GGUF, -1 if it has none
  absl::string_view safetensors;  // dtype in safetensors ("BF16"), "" if it has none
  int64_t block_elements;
  int64_t block_bytes;
  // Decodes count / block_elements blocks; count is a multiple of block_elements.
  // nullptr: there is no decoder, only the sizes are known (see planned_formats.h).
  void (*dequantize)(const void* blocks, float* out, int64_t count);
  // Encodes, rounding to nearest; for tests, random weights and conversion. nullptr as above, or
  // where finding good blocks takes a search that only ggml's quantiser has.
  void (*quantize)(const float* in, void* blocks, int64_t count);

  bool decodable() const { return dequantize != nullptr; }

  // Bytes of `elements` elements, a multiple of block_elements.
  int64_t Bytes(int64_t elements) const { return elements / block_elements * block_bytes; }
};

// Every format that can be decoded, in a stable order.
absl::Span<const WeightFormat* const> AllWeightFormats();

// nullptr when there is none of that type that can be decoded.
const WeightFormat* FindGgmlType(int ggml_type);
const WeightFormat* FindSafetensorsType(absl::string_view dtype);

// By name in any case ("q4_K"), decodable or not; nullptr when there is none. GGUF's types have
// ggml's names in lower case.
const WeightFormat* FindWeightFormat(absl::string_view name);

// As FindWeightFormat; InvalidArgument lists the names there are.
absl::StatusOr<const WeightFormat*> ParseWeightFormat(absl::string_view name);

extern const WeightFormat kF32Format;
extern const WeightFormat kF16Format;
extern const WeightFormat kBF16Format;
extern const WeightFormat kQ8_0Format;
extern const WeightFormat kQ4_0Format;
extern const WeightFormat kQ4_1Format;
extern const WeightFormat kQ5_0Format;
extern const WeightFormat kQ5_1Format;
extern const WeightFormat kQ2_KFormat;
extern const WeightFormat kQ3_KFormat;
extern const WeightFormat kQ4_KFormat;
extern const WeightFormat kQ5_KFormat;
extern const WeightFormat kQ6_KFormat;
extern const WeightFormat kIq4NlFormat;
extern const WeightFormat kIq4XsFormat;
extern const WeightFormat kMxfp4Format;
extern const WeightFormat kIq1SFormat;
extern const WeightFormat kIq1MFormat;
extern const WeightFormat kIq2XxsFormat;
extern const WeightFormat kIq2XsFormat;
extern const WeightFormat kIq2SFormat;
extern const WeightFormat kIq3XxsFormat;
extern const WeightFormat kIq3SFormat;
extern const WeightFormat kTq1Format;
extern const WeightFormat kTq2Format;
extern const WeightFormat kFp8Format;
extern const WeightFormat kFp8B32Format;
extern const WeightFormat kE4M3Format;  // of KV caches: no scale, so not among the weights'
extern const WeightFormat kNf4Format;
extern const WeightFormat kFp4Format;
extern const WeightFormat kBnbInt8Format;

}  // namespace tprun
