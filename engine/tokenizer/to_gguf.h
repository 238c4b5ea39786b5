#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/json.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/tokenizer/tokenizer.h"

namespace tprun {

// The tokenizer.ggml.* keys, and tokenizer.chat_template, for the vocabulary of a Hugging Face
// folder: SentencePiece's BPE (tokenizer.model, or a tokenizer.json that came from one, whose order
// of merges then gives the scores) or byte-level BPE. `vocab`: rows of the embedding; ids without a
// token get one that is not used. {} where the folder has no tokenizer. InvalidArgument: GGUF
// cannot tell how this tokenizer works.
absl::StatusOr<Json> GgufTokenizerMetadata(const Checkpoint& checkpoint, int64_t vocab);

// Both give the same ids for a few texts of many kinds. InvalidArgument tells one that differs.
absl::Status CompareTokenizers(const Tokenizer& original, const Tokenizer& converted);

}  // namespace tprun
