#include "topology/text_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

// Characters of UTF-8, not bytes.
size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace

std::string Styled(absl::string_view text, absl::string_view style, bool color) {
  return color && !style.empty() ? absl::StrCat(style, text, "\x1b[0m") : std::string(text);
}

std::string TextTable(std::vector<std::string> heads, const TextRows& rows, bool color) {
  std::vector<bool> right;
  std::vector<size_t> widths;
  std::vector<TextCell> head_cells;
  for (std::string& head : heads) {
    right.push_back(!head.empty() && head.back() == '>');
    if (right.back()) head.pop_back();
    widths.push_back(Width(head));
    head_cells.emplace_back(head, kBold);
  }
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i].text));
  }
  const auto line = [&](const std::vector<TextCell>& cells) {
    std::string text;
    std::string blanks;  // only written where something follows
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - Width(cells[i].text), ' ');
      if (right[i]) blanks += padding;
      if (!cells[i].text.empty()) {
        absl::StrAppend(&text, blanks, Styled(cells[i].text, cells[i].style, color));
        blanks.clear();
      }
      if (!right[i]) blanks += padding;
      blanks += "  ";
    }
    return text + "\n";
  };
  std::string table = line(head_cells);
  for (const auto& row : rows) table += line(row);
  return table;
}

void DropEmptyColumns(std::vector<std::string>& heads, TextRows& rows) {
  for (size_t i = heads.size(); i-- > 0;) {
    const bool empty =
        std::all_of(rows.begin(), rows.end(), [i](const auto& row) { return row[i].text.empty(); });
    if (!empty) continue;
    heads.erase(heads.begin() + static_cast<std::ptrdiff_t>(i));
    for (auto& row : rows) row.erase(row.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace tprun
