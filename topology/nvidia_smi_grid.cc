#include "topology/nvidia_smi_grid.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"

namespace tprun {
namespace {

constexpr std::array<absl::string_view, 7> kWays = {"NODE", "PIX", "PXB", "PHB", "SYS", "SOC", "X"};
constexpr std::array<absl::string_view, 7> kStates = {"OK", "CNS", "GNS", "TNS", "NS", "DR", "U"};
constexpr size_t kMaxColumns = 1024;
constexpr size_t kMaxGrids = 64;  // more in one paste are garbage, and are left out

bool Contains(absl::Span<const absl::string_view> list, absl::string_view text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// The length of the cell that `text` starts with ("NV12", "NODE"), 0 if there is none.
size_t LeadingWay(absl::string_view text) {
  if (absl::StartsWith(text, "NV")) {
    size_t end = 2;
    while (end < text.size() && absl::ascii_isdigit(text[end])) ++end;
    return end > 2 && end <= 5 ? end : 0;
  }
  for (absl::string_view way : kWays) {
    if (absl::StartsWith(text, way)) return way.size();
  }
  return 0;
}

// The cells of a word; none if it is no cell.
std::vector<std::string> CellsOf(absl::string_view word) {
  if (Contains(kStates, word)) return {std::string(word)};
  std::vector<std::string> cells;
  while (!word.empty()) {
    const size_t length = LeadingWay(word);
    if (length == 0) return {};
    cells.emplace_back(word.substr(0, length));
    word.remove_prefix(length);
  }
  return cells;
}

// The names of a word of the header, which may have run together: "NIC8NIC9", "GPU7mlx5_0".
std::vector<std::string> NamesOf(absl::string_view word) {
  std::vector<std::string> names;
  size_t start = 0;
  for (size_t i = 1; i < word.size(); ++i) {
    const absl::string_view rest = word.substr(i);
    const bool starts = absl::StartsWith(rest, "GPU") || absl::StartsWith(rest, "NIC") ||
                        absl::StartsWith(rest, "mlx");
    if (!starts || !absl::ascii_isdigit(word[i - 1])) continue;
    names.emplace_back(word.substr(start, i - start));
    start = i;
  }
  names.emplace_back(word.substr(start));
  return names;
}

bool IsRow(const std::vector<Word>& words, const NvidiaSmiGrid* grid) {
  if (words.size() < 2) return false;
  const bool is_gpu = GpuNumber(words[0].text) >= 0;
  const bool has_cells = !CellsOf(words[1].text).empty();
  if (grid == nullptr) return is_gpu && has_cells;
  const std::vector<std::string>& columns = grid->columns;
  if (std::find(columns.begin(), columns.end(), words[0].text) != columns.end()) return true;
  return has_cells && words[0].text != "X" && (is_gpu || words.size() > 2);
}

bool IsHeader(absl::string_view line, const std::vector<Word>& words) {
  if (words.empty() || GpuNumber(NamesOf(words[0].text)[0]) < 0) return false;
  if (words.size() == 1) return true;
  // A row has a cell there, or something unreadable.
  const absl::string_view second = words[1].text;
  return GpuNumber(NamesOf(second)[0]) >= 0 || second == "CPU" || absl::StartsWith(second, "NIC") ||
         absl::StartsWith(second, "mlx") || absl::StrContains(line, "Affinity");
}

NvidiaSmiGrid ReadHeader(const TextLine& line, const std::vector<Word>& words) {
  NvidiaSmiGrid grid;
  grid.line = grid.header_line = line.number;
  grid.header = line.text;
  grid.tail_position = line.text.size();
  for (const Word& word : words) {
    // The affinity columns: "CPU Affinity", "NUMA Affinity", "GPU NUMA ID".
    if (word.text == "CPU" || word.text == "NUMA" || word.text == "GPU") {
      grid.tail_position = word.position;
      break;
    }
    for (std::string& name : NamesOf(word.text)) {
      if (grid.columns.size() < kMaxColumns) grid.columns.push_back(std::move(name));
    }
  }
  return grid;
}

NvidiaSmiGrid::Row ReadRow(const TextLine& line, const std::vector<Word>& words, size_t columns) {
  NvidiaSmiGrid::Row row;
  row.name = std::string(words[0].text);
  row.line = line.number;
  row.text = line.text;
  row.tail_position = words[0].end();
  for (size_t i = 1; i < words.size() && row.cells.size() < columns; ++i) {
    std::vector<std::string> cells = CellsOf(words[i].text);
    if (cells.empty()) break;
    for (std::string& cell : cells) row.cells.push_back(std::move(cell));
    row.tail_position = words[i].end();
  }
  return row;
}

bool HasRow(const NvidiaSmiGrid& grid, absl::string_view name) {
  return std::any_of(grid.rows.begin(), grid.rows.end(),
                     [name](const NvidiaSmiGrid::Row& row) { return row.name == name; });
}

// Puts the tables together, line by line.
class GridFinder {
 public:
  void Add(const TextLine& line) {
    const std::vector<Word> words = WordsOf(line.text);
    if (words.empty()) return;
    if (IsHeader(line.text, words)) {
      Close();
      grid_ = ReadHeader(line, words);
      is_open_ = true;
    } else if (IsRow(words, is_open_ ? &grid_ : nullptr)) {
      AddRow(line, words);
    } else {
      Close();
    }
  }

  bool is_full() const { return grids_.size() == kMaxGrids; }

  std::vector<NvidiaSmiGrid> Finish() {
    Close();
    return std::move(grids_);
  }

 private:
  void Close() {
    // A line of prose may begin as a header does; no row follows it.
    if (is_open_ && !grid_.rows.empty()) grids_.push_back(std::move(grid_));
    grid_ = {};
    is_open_ = false;
  }

  void AddRow(const TextLine& line, const std::vector<Word>& words) {
    const bool is_headerless = is_open_ && grid_.header_line == 0;
    if (is_headerless && HasRow(grid_, words[0].text)) Close();
    if (!is_open_) {
      grid_ = {};
      grid_.line = line.number;
      is_open_ = true;
    }
    if (grid_.rows.size() == kMaxColumns) return;
    const size_t columns = grid_.header_line == 0 ? kMaxColumns : grid_.columns.size();
    grid_.rows.push_back(ReadRow(line, words, columns));
  }

  std::vector<NvidiaSmiGrid> grids_;
  NvidiaSmiGrid grid_;
  bool is_open_ = false;
};

}  // namespace

int GpuNumber(absl::string_view name) {
  int number = 0;
  if (!absl::ConsumePrefix(&name, "GPU") || name.empty() || name.size() > 4) return -1;
  if (!absl::ascii_isdigit(name.front()) || !absl::SimpleAtoi(name, &number)) return -1;
  return number;
}

bool NvidiaSmiGrid::is_peer_states() const {
  for (const Row& row : rows) {
    for (const std::string& cell : row.cells) {
      if (Contains(kStates, cell)) return true;
    }
  }
  return false;
}

std::vector<NvidiaSmiGrid> FindGrids(const std::vector<TextLine>& lines) {
  GridFinder finder;
  for (const TextLine& line : lines) {
    if (finder.is_full()) break;
    finder.Add(line);
  }
  return finder.Finish();
}

}  // namespace tprun
