#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace tprun {

// Styles of a terminal.
inline constexpr absl::string_view kBold = "\x1b[1m";
inline constexpr absl::string_view kDim = "\x1b[2m";
inline constexpr absl::string_view kGreen = "\x1b[32m";
inline constexpr absl::string_view kYellow = "\x1b[33m";
inline constexpr absl::string_view kRed = "\x1b[31m";

// `text` in `style` where `color` is set.
std::string Styled(absl::string_view text, absl::string_view style, bool color);

struct TextCell {
  TextCell(std::string text) : text(std::move(text)) {}  // NOLINT: cells are texts
  TextCell(const char* text) : text(text) {}             // NOLINT
  TextCell(std::string text, absl::string_view style) : text(std::move(text)), style(style) {}
  std::string text;
  absl::string_view style;  // "": plain
};
using TextRows = std::vector<std::vector<TextCell>>;

// Columns left-aligned, but those whose heading ends in '>' (numbers).
std::string TextTable(std::vector<std::string> heads, const TextRows& rows, bool color);

// Takes the columns out whose cells are all empty.
void DropEmptyColumns(std::vector<std::string>& heads, TextRows& rows);

}  // namespace tprun
