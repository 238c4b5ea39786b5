#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

struct EncodeOptions {
  // Put the vocabulary's BOS in front if this model's tokenizer does so.
  bool add_bos = true;
  // Recognise special tokens (<|eot_id|>) in the text; else their characters are plain text.
  bool parse_special = true;
  // Left out of the text once special tokens were looked for, so that what it stands in is none
  // (see MarkSpecial).
  absl::string_view mark;
};

// Text to token ids and back. Thread-safe after creation.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;  // -1: none
  // Ids that end generation (EOS, end of turn).
  virtual absl::Span<const int32_t> end_ids() const = 0;

  // Text is UTF-8; bytes that are not are encoded as bytes where the vocabulary has them.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // `text` with `mark` after the first character of every special token that it spells: encoded
  // with the same mark it is plain text, whatever stands around it. Special tokens of one character
  // are not marked. `mark`: characters that are not in `text`.
  virtual std::string MarkSpecial(absl::string_view text, absl::string_view mark) const = 0;

  // The bytes of one token: what it adds to the text after other text. Control tokens give "".
  // May be part of a UTF-8 character. Ids outside the vocabulary give "".
  virtual std::string TokenBytes(int32_t id) const = 0;

  // The text of a whole sequence; drops the space that encoding put in front, if it did.
  virtual std::string Decode(absl::Span<const int32_t> ids) const = 0;
};

// Text as it is made: gives out only whole UTF-8 characters.
class StreamDecoder {
 public:
  // `after_prompt`: the ids come after other text, so that a leading space is kept.
  StreamDecoder(const Tokenizer& tokenizer, bool after_prompt)
      : tokenizer_(tokenizer), first_(!after_prompt) {}
  std::string Push(int32_t id);
  std::string Finish();  // what is left, an incomplete character as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
  bool first_;
};

// The tokenizer of a model: from GGUF metadata, or tokenizer.json, or tokenizer.model
// (SentencePiece or tiktoken ranks) in the checkpoint's folder, in this order. BOS and end ids take
// tokenizer_config.json, generation_config.json and config.json into account. NotFound when
// there is none; InvalidArgument says what is malformed or unsupported, and what is supported.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const Checkpoint& checkpoint);

// One vocabulary file by itself (tokenizer.json, tokenizer.model, *.gguf).
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFile(const std::string& path);

}  // namespace tprun
