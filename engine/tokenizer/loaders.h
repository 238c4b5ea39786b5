#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/json.h"
#include "engine/tokenizer/side_files.h"
#include "engine/tokenizer/text_tokenizer.h"

namespace tprun {

// One function per vocabulary file. Each takes the file's text and what stands beside it, and gives
// parts that are complete but for ApplySideFiles.

// Hugging Face's tokenizer.json: model BPE, byte-level or with U+2581 and byte fallback.
absl::StatusOr<TokenizerParts> LoadHuggingFace(absl::string_view text);

// A SentencePiece tokenizer.model. BPE models without a normalisation table are encoded by this
// program: user-defined pieces are found in normalised text, extra white space is removed if the
// model says so (Llama-2's does not). Others go through the library.
absl::StatusOr<TokenizerParts> LoadSentencePiece(absl::string_view bytes, const SideFiles& side);

// A tiktoken file: lines "base64(bytes) rank" (Llama-3, GLM-4). Special tokens come from
// tokenizer_config.json, else, for 128000 ranks, they are Llama-3's.
absl::StatusOr<TokenizerParts> LoadTiktoken(absl::string_view text, const SideFiles& side);

// The tokenizer.ggml.* keys: model "llama" or "gpt2". NotFound when there are none.
absl::StatusOr<TokenizerParts> LoadGguf(const Json& metadata);

}  // namespace tprun
