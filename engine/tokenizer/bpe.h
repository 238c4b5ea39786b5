#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/tokenizer/vocabulary.h"

namespace tprun {

// A stretch of text that is one token so far; `id` is -1 where the vocabulary has none for it.
struct BpeSymbol {
  int32_t begin = 0;
  int32_t length = 0;  // 0: merged into its left neighbour
  int32_t id = -1;
  int32_t previous = -1;
  int32_t next = -1;
};

struct BpeMerge {
  double priority = 0;  // lower goes first
  int32_t id = -1;      // of the merged token
};

// Which neighbours may become one token, and which do so first.
class BpeMerges {
 public:
  virtual ~BpeMerges() = default;
  // False when the two do not merge. `text` is what both cover.
  virtual bool Find(const BpeSymbol& left, const BpeSymbol& right, absl::string_view text,
                    BpeMerge* merge) const = 0;
};

// An explicit list of pairs, first pair first (Hugging Face, GGUF "gpt2").
class PairMerges : public BpeMerges {
 public:
  // InvalidArgument when a side or the merged token is not in the vocabulary.
  static absl::StatusOr<std::unique_ptr<BpeMerges>> Create(
      const std::vector<std::pair<std::string, std::string>>& pairs, const Vocabulary& vocabulary);
  bool Find(const BpeSymbol& left, const BpeSymbol& right, absl::string_view text,
            BpeMerge* merge) const override;

 private:
  absl::flat_hash_map<uint64_t, BpeMerge> merges_;
};

// Any two neighbours whose text is a piece of the vocabulary (SentencePiece: by descending score;
// tiktoken: by rank). `priorities` is by id.
class PieceMerges : public BpeMerges {
 public:
  PieceMerges(std::shared_ptr<const Vocabulary> vocabulary, std::vector<double> priorities)
      : vocabulary_(std::move(vocabulary)), priorities_(std::move(priorities)) {}
  bool Find(const BpeSymbol& left, const BpeSymbol& right, absl::string_view text,
            BpeMerge* merge) const override;

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> priorities_;
};

struct BpeOptions {
  bool ignore_merges = false;  // a piece that is a token is emitted at once (Llama-3)
  bool byte_fallback = false;  // unknown characters become "<0xNN>" tokens
  bool fuse_unknown = false;   // a run of unknown characters is one unknown token
  int32_t unknown_id = -1;     // -1: unknown characters are an error
};

// Byte pair encoding of one piece of text, in O(n log n) by a heap of merges over a linked list.
class Bpe {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::unique_ptr<BpeMerges> merges,
      const BpeOptions& options);

  // Appends to `ids`. InvalidArgument for a character that the vocabulary cannot express.
  absl::Status Encode(absl::string_view piece, std::vector<int32_t>* ids) const;

 private:
  struct Work;
  void PushMerge(absl::string_view piece, int32_t left, Work* work) const;
  void MergeAll(absl::string_view piece, Work* work) const;
  absl::Status Emit(absl::string_view text, int32_t id, const Work& work,
                    std::vector<int32_t>* ids) const;
  absl::Status EmitUnknown(absl::string_view text, std::vector<int32_t>* ids) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::unique_ptr<BpeMerges> merges_;
  BpeOptions options_;
  std::vector<int32_t> byte_ids_;  // of "<0xNN>"
};

}  // namespace tprun
