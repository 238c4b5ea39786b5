#include "engine/tokenizer/bpe.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/tokenizer/utf8.h"

namespace tprun {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

struct Candidate {
  double priority;
  int32_t left;         // index of the left symbol
  int32_t left_length;  // its length when this was found, to tell later that it has changed
  int32_t length;       // of both
  int32_t id;
};

// std::push_heap keeps the largest on top: the one that goes first must compare largest.
bool GoesLater(const Candidate& a, const Candidate& b) {
  return a.priority != b.priority ? a.priority > b.priority : a.left > b.left;
}

}  // namespace

struct Bpe::Work {
  std::vector<BpeSymbol> symbols;
  std::vector<Candidate> heap;
  // How unused tokens came about, to take them apart again: bytes of the left part by text.
  absl::flat_hash_map<absl::string_view, int32_t> unused_splits;
};

absl::StatusOr<std::unique_ptr<BpeMerges>> PairMerges::Create(
    const std::vector<std::pair<std::string, std::string>>& pairs, const Vocabulary& vocabulary) {
  auto result = std::make_unique<PairMerges>();
  result->merges_.reserve(pairs.size());
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    const auto& [left, right] = pairs[rank];
    const std::string merged = absl::StrCat(left, right);
    for (const std::string* text : {&left, &right, &merged}) {
      if (vocabulary.Find(*text) >= 0) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "merge ", rank, " (\"", absl::CHexEscape(left), "\", \"", absl::CHexEscape(right),
          "\"): \"", absl::CHexEscape(*text), "\" is not in the vocabulary"));
    }
    const BpeMerge merge{static_cast<double>(rank), vocabulary.Find(merged)};
    result->merges_.insert_or_assign(PairKey(vocabulary.Find(left), vocabulary.Find(right)), merge);
  }
  return std::unique_ptr<BpeMerges>(std::move(result));
}

bool PairMerges::Find(const BpeSymbol& left, const BpeSymbol& right, absl::string_view,
                      BpeMerge* merge) const {
  if (left.id < 0 || right.id < 0) return false;
  const auto it = merges_.find(PairKey(left.id, right.id));
  if (it == merges_.end()) return false;
  *merge = it->second;
  return true;
}

bool PieceMerges::Find(const BpeSymbol&, const BpeSymbol&, absl::string_view text,
                       BpeMerge* merge) const {
  if (text.size() > vocabulary_->max_text_size()) return false;
  const int32_t id = vocabulary_->Find(text);
  if (id < 0) return false;
  const TokenKind kind = (*vocabulary_)[id].kind;
  const bool mergeable =
      kind == TokenKind::kNormal || kind == TokenKind::kUserDefined || kind == TokenKind::kUnused;
  if (!mergeable) return false;
  *merge = {priorities_[id], id};
  return true;
}

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::unique_ptr<BpeMerges> merges,
         const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), merges_(std::move(merges)), options_(options) {
  for (int byte = 0; byte < 256; ++byte) byte_ids_.push_back(vocabulary_->FindByte(byte));
}

void Bpe::PushMerge(absl::string_view piece, int32_t left, Work* work) const {
  if (left < 0 || work->symbols[left].next < 0) return;
  const BpeSymbol& a = work->symbols[left];
  const BpeSymbol& b = work->symbols[a.next];
  const absl::string_view text = piece.substr(a.begin, a.length + b.length);
  BpeMerge merge;
  if (!merges_->Find(a, b, text, &merge)) return;
  if ((*vocabulary_)[merge.id].kind == TokenKind::kUnused) {
    work->unused_splits.insert_or_assign(text, a.length);
  }
  work->heap.push_back({merge.priority, left, a.length, a.length + b.length, merge.id});
  std::push_heap(work->heap.begin(), work->heap.end(), GoesLater);
}

void Bpe::MergeAll(absl::string_view piece, Work* work) const {
  std::vector<BpeSymbol>& symbols = work->symbols;
  for (int32_t i = 0; i < static_cast<int32_t>(symbols.size()); ++i) PushMerge(piece, i, work);
  while (!work->heap.empty()) {
    std::pop_heap(work->heap.begin(), work->heap.end(), GoesLater);
    const Candidate top = work->heap.back();
    work->heap.pop_back();
    BpeSymbol& left = symbols[top.left];
    if (left.length == 0 || left.next < 0) continue;
    BpeSymbol& right = symbols[left.next];
    if (left.length + right.length != top.length) continue;
    if (left.length != top.left_length) {
      // The same text in other parts: still this merge only if these parts have it, too.
      BpeMerge merge;
      const bool same = merges_->Find(left, right, piece.substr(left.begin, top.length), &merge) &&
                        merge.id == top.id;
      if (!same) continue;
    }
    left.length = top.length;
    left.id = top.id;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) symbols[left.next].previous = top.left;
    PushMerge(piece, left.previous, work);
    PushMerge(piece, top.left, work);
  }
}

absl::Status Bpe::Encode(absl::string_view piece, std::vector<int32_t>* ids) const {
  if (piece.empty()) return absl::OkStatus();
  if (options_.ignore_merges && piece.size() <= vocabulary_->max_text_size()) {
    const int32_t id = vocabulary_->Find(piece);
    if (id >= 0) {
      ids->push_back(id);
      return absl::OkStatus();
    }
  }
  Work work;
  for (size_t i = 0; i < piece.size();) {
    BpeSymbol symbol;
    symbol.begin = static_cast<int32_t>(i);
    symbol.length = ReadUtf8Char(piece, i).length;
    symbol.id = vocabulary_->Find(piece.substr(i, symbol.length));
    symbol.previous = static_cast<int32_t>(work.symbols.size()) - 1;
    symbol.next = static_cast<int32_t>(work.symbols.size()) + 1;
    i += symbol.length;
    work.symbols.push_back(symbol);
  }
  work.symbols.back().next = -1;
  MergeAll(piece, &work);
  for (int32_t i = 0; i >= 0; i = work.symbols[i].next) {
    const BpeSymbol& symbol = work.symbols[i];
    RETURN_IF_ERROR(Emit(piece.substr(symbol.begin, symbol.length), symbol.id, work, ids));
  }
  return absl::OkStatus();
}

absl::Status Bpe::Emit(absl::string_view text, int32_t id, const Work& work,
                       std::vector<int32_t>* ids) const {
  // Parts still to be emitted, the next one last.
  std::vector<std::pair<absl::string_view, int32_t>> parts = {{text, id}};
  while (!parts.empty()) {
    const auto [part, part_id] = parts.back();
    parts.pop_back();
    if (part_id < 0) {
      RETURN_IF_ERROR(EmitUnknown(part, ids));
      continue;
    }
    const auto split =
        work.unused_splits.empty() ? work.unused_splits.end() : work.unused_splits.find(part);
    if (split == work.unused_splits.end()) {
      ids->push_back(part_id);
      continue;
    }
    const absl::string_view left = part.substr(0, split->second);
    const absl::string_view right = part.substr(split->second);
    parts.emplace_back(right, vocabulary_->Find(right));
    parts.emplace_back(left, vocabulary_->Find(left));
  }
  return absl::OkStatus();
}

absl::Status Bpe::EmitUnknown(absl::string_view text, std::vector<int32_t>* ids) const {
  const auto has_byte = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; };
  if (options_.byte_fallback && std::all_of(text.begin(), text.end(), has_byte)) {
    for (char c : text) ids->push_back(byte_ids_[static_cast<uint8_t>(c)]);
    return absl::OkStatus();
  }
  if (options_.unknown_id < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("the vocabulary has no token for \"", absl::CHexEscape(text),
                     "\" and no unknown token; take it out of the text"));
  }
  const bool fuse = options_.fuse_unknown && !ids->empty() && ids->back() == options_.unknown_id;
  if (!fuse) ids->push_back(options_.unknown_id);
  return absl::OkStatus();
}

}  // namespace tprun
