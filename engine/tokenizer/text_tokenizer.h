#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace tprun {

// `text` without the mark of the options; kept: where the result may point to.
absl::string_view WithoutMark(absl::string_view text, absl::string_view mark, std::string* kept);

// Encodes text between two added tokens. Thread-safe after creation.
class SegmentEncoder {
 public:
  virtual ~SegmentEncoder() = default;
  // Appends to `ids`. `starts_text`: nothing stands before the segment.
  virtual absl::Status Encode(absl::string_view segment, bool starts_text,
                              const EncodeOptions& options, std::vector<int32_t>* ids) const = 0;
};

// Normalise, find added tokens that are looked for in normalised text, split, merge.
class BpeSegmentEncoder : public SegmentEncoder {
 public:
  BpeSegmentEncoder(Normalizer normalizer, AddedTokens normalized_tokens,
                    PreTokenizer pre_tokenizer, Bpe bpe)
      : normalizer_(std::move(normalizer)),
        normalized_tokens_(std::move(normalized_tokens)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        bpe_(std::move(bpe)) {}
  absl::Status Encode(absl::string_view segment, bool starts_text, const EncodeOptions& options,
                      std::vector<int32_t>* ids) const override;

 private:
  Normalizer normalizer_;
  AddedTokens normalized_tokens_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
};

// What a loader makes out of a file.
struct TokenizerParts {
  std::shared_ptr<Vocabulary> vocabulary;
  std::vector<AddedToken> added_tokens;  // all; the encoder looks for the normalized ones
  std::unique_ptr<SegmentEncoder> encoder;
  std::vector<int32_t> prefix_ids;  // in front of a text: BOS, or what the model's file says
  int32_t bos_id = -1;
  std::vector<int32_t> end_ids;
  bool strip_leading_space = false;  // Decode drops the space that encoding put in front
};

// The Tokenizer of every vocabulary kind; the kinds differ in their parts.
class TextTokenizer : public Tokenizer {
 public:
  explicit TextTokenizer(TokenizerParts parts);

  int32_t vocab_size() const override { return parts_.vocabulary->size(); }
  int32_t bos_id() const override { return parts_.bos_id; }
  absl::Span<const int32_t> end_ids() const override { return parts_.end_ids; }
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view text,
                                              const EncodeOptions& options) const override;
  std::string MarkSpecial(absl::string_view text, absl::string_view mark) const override;
  std::string TokenBytes(int32_t id) const override;
  std::string Decode(absl::Span<const int32_t> ids) const override;

 private:
  TokenizerParts parts_;
  AddedTokens raw_tokens_, special_tokens_;
};

}  // namespace tprun
