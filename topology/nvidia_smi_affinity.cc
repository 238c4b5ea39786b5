#include "topology/nvidia_smi_affinity.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "topology/nvidia_smi_text.h"

namespace tprun {
namespace {

// Words of blanks-only difference are the same: "CPU    Affinity".
std::string SingleSpaced(absl::string_view text) {
  return absl::StrJoin(absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipWhitespace()), " ");
}

// What nvidia-smi prints behind the matrix: each value behind a tab, GPU NUMA ID behind two, and
// one more in front of a NUMA Affinity that is N/A.
std::string AsPrinted(const AffinityValues& values, int columns) {
  std::string tail = absl::StrCat("\t", values[0].value_or(""));
  if (columns > 1) {
    absl::StrAppend(&tail, values[1] == "N/A" ? "\t\t" : "\t", values[1].value_or(""));
  }
  if (columns > 2) absl::StrAppend(&tail, "\t\t", values[2].value_or(""));
  return tail;
}

// Tabs as blanks, with stops at every eighth column; `column` is where the text begins.
std::string Expanded(absl::string_view text, size_t column) {
  std::string expanded;
  for (const char c : text) {
    if (c != '\t') {
      expanded.push_back(c);
      continue;
    }
    const size_t at = column + expanded.size();
    expanded.append(8 - at % 8, ' ');
  }
  return expanded;
}

// Every way to put `words` into `columns` columns in order.
std::vector<AffinityValues> Placements(const std::vector<Word>& words, int columns) {
  std::vector<AffinityValues> placements;
  for (int mask = 0; mask < 1 << columns; ++mask) {
    AffinityValues values;
    size_t next = 0;
    for (int column = 0; column < columns; ++column) {
      if (!(mask >> column & 1)) continue;
      if (next < words.size()) values[column] = std::string(words[next].text);
      ++next;
    }
    if (next == words.size()) placements.push_back(std::move(values));
  }
  return placements;
}

// How far the values are from the heads of their columns, in characters.
size_t Distance(const AffinityValues& values, const std::vector<Word>& words,
                const std::array<size_t, 3>& heads) {
  size_t distance = 0;
  size_t next = 0;
  for (size_t column = 0; column < values.size(); ++column) {
    if (!values[column].has_value()) continue;
    const size_t at = words[next++].position;
    distance += at > heads[column] ? at - heads[column] : heads[column] - at;
  }
  return distance;
}

// Where each column's name begins in the header.
std::array<size_t, 3> Heads(absl::string_view header, size_t position) {
  std::array<size_t, 3> heads = {};
  size_t column = 0;
  for (const Word& word : WordsOf(header)) {
    if (word.position < position || column == heads.size()) continue;
    const bool is_first_word = column == 0   ? word.text == "CPU"
                               : column == 1 ? word.text == "NUMA"
                                             : word.text == "GPU";
    if (is_first_word) heads[column++] = word.position;
  }
  return heads;
}

absl::StatusOr<AffinityValues> ByTabs(absl::string_view tail,
                                      const std::vector<AffinityValues>& placements, int columns) {
  // The last cell may be " X ", with a blank behind it.
  tail.remove_prefix(std::min(tail.size(), tail.find_first_not_of(' ')));
  const absl::string_view found = absl::StripTrailingAsciiWhitespace(tail);
  for (const AffinityValues& values : placements) {
    const std::string printed = AsPrinted(values, columns);
    if (absl::StripTrailingAsciiWhitespace(printed) == found) return values;
  }
  return absl::InvalidArgumentError("cells are blank and the tabs do not tell which");
}

}  // namespace

absl::StatusOr<int> ParseAffinityHeader(absl::string_view tail) {
  std::string names = SingleSpaced(tail);
  int columns = 0;
  for (absl::string_view name : kAffinityColumns) {
    if (names.empty()) break;
    if (!absl::StartsWith(names, name)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "wanted the columns CPU Affinity, NUMA Affinity, GPU NUMA ID, found \"", names, "\""));
    }
    names = std::string(absl::StripAsciiWhitespace(absl::string_view(names).substr(name.size())));
    ++columns;
  }
  if (!names.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a column is not known: \"", names.substr(0, 80), "\""));
  }
  return columns;
}

absl::StatusOr<AffinityValues> ReadAffinities(absl::string_view row, size_t position,
                                              absl::string_view header, size_t header_position,
                                              int columns) {
  const absl::string_view tail = row.substr(position);
  std::vector<Word> words = WordsOf(tail);
  if (words.size() > static_cast<size_t>(columns)) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted at most ", columns, " values behind the matrix, found \"",
                     absl::StripAsciiWhitespace(tail).substr(0, 80), "\""));
  }
  const std::vector<AffinityValues> placements = Placements(words, columns);
  if (placements.size() == 1) return placements[0];
  if (absl::StrContains(row, '\t')) return ByTabs(tail, placements, columns);
  // Tabs became blanks: find the print that has them in the same columns.
  const size_t indentation = row.find_first_not_of(' ');
  for (const AffinityValues& values : placements) {
    const std::string printed = Expanded(AsPrinted(values, columns), position - indentation);
    if (absl::StripTrailingAsciiWhitespace(printed) == tail) return values;
  }
  // Set up by hand: each value below the head that it is nearest to.
  const std::array<size_t, 3> heads = Heads(header, header_position);
  for (Word& word : words) word.position += position;
  const AffinityValues* best = &placements[0];
  for (const AffinityValues& values : placements) {
    if (Distance(values, words, heads) < Distance(*best, words, heads)) best = &values;
  }
  return *best;
}

}  // namespace tprun
