#include "engine/tokenizer/added_tokens.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// Letters outside ASCII count as part of a word.
bool IsWordByte(char c) {
  return absl::ascii_isalnum(c) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}

bool InsideWord(absl::string_view text, size_t begin, size_t end) {
  const bool left = begin > 0 && IsWordByte(text[begin - 1]);
  const bool right = end < text.size() && IsWordByte(text[end]);
  return left || right;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  const auto is_empty = [](const AddedToken& token) { return token.content.empty(); };
  tokens_.erase(std::remove_if(tokens_.begin(), tokens_.end(), is_empty), tokens_.end());
  const auto by_content = [](const auto& a, const auto& b) { return a.content < b.content; };
  std::stable_sort(tokens_.begin(), tokens_.end(), by_content);
  for (int i = 0; i < static_cast<int>(tokens_.size()); ++i) {
    auto& range = first_byte_[static_cast<uint8_t>(tokens_[i].content[0])];
    if (range.second == 0) range.first = i;
    range.second = i + 1;
  }
}

// Narrows the range of tokens that begin like the text byte by byte; in it, the token that is
// exactly the bytes so far stands first.
const AddedToken* AddedTokens::FindAt(absl::string_view text, size_t position,
                                      bool parse_special) const {
  const auto range = first_byte_[static_cast<uint8_t>(text[position])];
  auto begin = tokens_.begin() + range.first;
  auto end = tokens_.begin() + range.second;
  const AddedToken* longest = nullptr;
  for (size_t length = 1; begin != end; ++length) {
    const AddedToken& token = *begin;
    const bool complete = token.content.size() == length;
    const bool wanted = complete && (parse_special || !token.special) &&
                        !(token.single_word && InsideWord(text, position, position + length));
    if (wanted) longest = &token;
    if (position + length >= text.size()) break;
    const auto byte_of = [&](const AddedToken& t) {
      return t.content.size() > length ? static_cast<uint8_t>(t.content[length]) : -1;
    };
    const int byte = static_cast<uint8_t>(text[position + length]);
    begin = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) < byte; });
    end = std::partition_point(begin, end, [&](const auto& t) { return byte_of(t) <= byte; });
  }
  return longest;
}

absl::Status AddedTokens::Split(absl::string_view text, bool parse_special,
                                const std::function<absl::Status(absl::string_view, size_t)>& plain,
                                const std::function<void(int32_t)>& token) const {
  size_t done = 0;  // everything before is given out
  for (size_t i = 0; i < text.size();) {
    const AddedToken* found = FindAt(text, i, parse_special);
    if (found == nullptr) {
      ++i;
      continue;
    }
    size_t begin = i;
    size_t end = i + found->content.size();
    while (found->lstrip && begin > done && absl::ascii_isspace(text[begin - 1])) --begin;
    while (found->rstrip && end < text.size() && absl::ascii_isspace(text[end])) ++end;
    if (begin > done) RETURN_IF_ERROR(plain(text.substr(done, begin - done), done));
    token(found->id);
    done = i = end;
  }
  if (done < text.size()) RETURN_IF_ERROR(plain(text.substr(done), done));
  return absl::OkStatus();
}

std::string AddedTokens::Mark(absl::string_view text, absl::string_view mark) const {
  std::string marked;
  bool begun = false;  // a token, with the character before
  for (size_t i = 0; i < text.size(); ++i) {
    const bool in_character = (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80;
    if (begun && !in_character) {
      absl::StrAppend(&marked, mark);
      begun = false;
    }
    begun = begun || FindAt(text, i, /*parse_special=*/true) != nullptr;
    marked.push_back(text[i]);
  }
  return marked;
}

}  // namespace tprun
