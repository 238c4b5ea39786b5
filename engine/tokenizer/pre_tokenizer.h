#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/json.h"

namespace tprun {

// Text and how it is cut into pieces; steps refine the cuts and may rewrite the text.
struct PreTokens {
  struct Range {
    size_t begin;
    size_t end;
  };
  std::string text;
  std::vector<Range> pieces;
  bool starts_text = true;  // the first piece is the beginning of what is encoded
};

class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual absl::Status Apply(PreTokens* tokens) const = 0;
};

// How the matches of a pattern cut a text (the names are tokenizer.json's).
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// InvalidArgument for a malformed pattern. `invert` takes what is between the matches for a match.
absl::StatusOr<std::unique_ptr<PreTokenizerStep>> MakeSplitStep(absl::string_view pattern,
                                                                SplitBehavior behavior,
                                                                bool invert);

// Cuts text into the pieces that are then encoded on their own. Thread-safe after creation.
class PreTokenizer {
 public:
  // tokenizer.json's "pre_tokenizer": null, Sequence, Split, ByteLevel, Metaspace, Digits,
  // Punctuation. InvalidArgument for other kinds.
  static absl::StatusOr<PreTokenizer> FromJson(const Json* json);
  // Patterns applied one after another, matches and what is between them becoming pieces, then the
  // byte-level alphabet: how GGUF's tokenizer.ggml.pre and tiktoken mean it.
  static absl::StatusOr<PreTokenizer> FromPatterns(const std::vector<std::string>& patterns);

  absl::StatusOr<PreTokens> Apply(absl::string_view text, bool starts_text) const;

  bool byte_level() const { return byte_level_; }
  bool metaspace() const { return metaspace_; }
  bool prepends_space() const { return prepends_space_; }

 private:
  absl::Status AddJson(const Json& json, int depth);
  absl::Status AddSplitJson(const Json& json);
  absl::Status AddMetaspaceJson(const Json& json);
  absl::Status AddPattern(absl::string_view pattern, SplitBehavior behavior, bool invert = false);
  void AddByteLevel(bool add_prefix_space);

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool byte_level_ = false;
  bool metaspace_ = false;
  bool prepends_space_ = false;
};

// GPT-2's pattern, which the ByteLevel pre-tokenizer uses.
extern const char kGpt2Pattern[];
// Llama-3's, also that of GLM-4 and of tiktoken's cl100k_base.
extern const char kLlama3Pattern[];

// The patterns of a tokenizer.ggml.pre; InvalidArgument lists the names that are known.
absl::StatusOr<std::vector<std::string>> GgufPrePatterns(absl::string_view name);

// The inverse, for tokenizer.json's "pre_tokenizer": a name whose patterns cut as it does. NotFound
// when GGUF has none.
absl::StatusOr<std::string> GgufPreName(const Json& pre_tokenizer);

}  // namespace tprun
