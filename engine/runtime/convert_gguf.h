#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/gguf_writer.h"
#include "engine/model/model_spec.h"

namespace tprun {

// Some rows of a GGUF tensor, and where they come from.
struct GgufPiece {
  int tensor = 0;         // index into GgufConversion::layout.tensors
  int64_t first_row = 0;  // of it
  TensorSpec source;      // with the format that its rows get
  // > 0: rows of each head of so many change from half-split to interleaved pairs, of which the
  // first rope_dims are pairs (llama.cpp: LlamaModel.permute of convert_hf_to_gguf.py).
  int64_t head_dim = 0;
  int64_t rope_dims = 0;
  bool add_one = false;       // norms that multiply by 1 + w
  bool turned = false;        // each of source.experts matrices is written transposed
  std::vector<float> values;  // instead of a source: what is written as it is
};

// All that a conversion writes.
struct GgufConversion {
  GgufLayout layout;
  std::vector<GgufPiece> pieces;
};

// The tensors of a Hugging Face model under the names of its GGUF form (see DescribeAsGguf), whose
// metadata is `metadata`; formats are those of original's tensors.
absl::StatusOr<GgufConversion> PlanGgufOfFolder(const ModelSpec& original, const ModelSpec& gguf,
                                                const Json& metadata);

// The tensors of a GGUF file; those of `spec` in its formats, others as they are.
absl::StatusOr<GgufConversion> PlanGgufOfGguf(const Checkpoint& checkpoint, const ModelSpec& spec,
                                              const Json& metadata);

// Bytes written so far and in all; false: stop. From any thread of the pool, one call at a time.
using ConvertProgress = std::function<bool(int64_t done, int64_t total)>;

// Writes header and tensors, some megabytes at a time on each thread of the pool, never more of the
// model in memory. Cancelled when `progress` said so.
absl::Status WriteGguf(const Checkpoint& checkpoint, const GgufConversion& conversion,
                       ThreadPool& pool, const ConvertProgress& progress, OutputFile& file);

}  // namespace tprun
