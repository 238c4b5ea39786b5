#include "topology/svg_draw.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/units.h"

namespace tprun {
namespace {

// Whether a byte begins a character of UTF-8.
bool Begins(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

}  // namespace

const LinkStyle& StyleOf(LinkKind kind) {
  static constexpr LinkStyle kNvlink = {"#009e73", "", "NVLink"};
  static constexpr LinkStyle kPcie = {"#0072b2", "", "PCIe"};
  static constexpr LinkStyle kSystem = {"#aa4499", "7 4", "between NUMA nodes (SYS)"};
  static constexpr LinkStyle kNetwork = {"#555555", "2 3", "network"};
  switch (kind) {
    case LinkKind::kNvlink:
    case LinkKind::kC2c:
      return kNvlink;
    case LinkKind::kSystem:
      return kSystem;
    case LinkKind::kNetwork:
      return kNetwork;
    default:
      return kPcie;
  }
}

std::string SvgEscape(absl::string_view text) {
  std::string clean;
  for (const char c : text) clean += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return absl::StrReplaceAll(
      clean, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&apos;"}});
}

std::string Shortened(absl::string_view text, int letters) {
  int count = 0;
  for (const char c : text) count += Begins(c) ? 1 : 0;
  if (count <= letters) return std::string(text);
  size_t end = 0;
  for (int kept = 0; end < text.size(); ++end) {
    if (Begins(text[end]) && ++kept >= letters) break;
  }
  return absl::StrCat(text.substr(0, end), "…");
}

std::string SvgText(int x, int y, absl::string_view text, absl::string_view attributes) {
  return absl::StrFormat("<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, attributes,
                         SvgEscape(text));
}

std::string SvgBox(int x, int y, int width, int height, absl::string_view attributes) {
  return absl::StrFormat("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" %s/>\n", x, y,
                         width, height, attributes);
}

std::string SvgLine(absl::string_view path, LinkKind kind, double width) {
  const LinkStyle& style = StyleOf(kind);
  const std::string dashes =
      *style.dashes == '\0' ? "" : absl::StrCat(" stroke-dasharray=\"", style.dashes, "\"");
  return absl::StrFormat("<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%.1f\"%s/>\n",
                         path, style.color, width, dashes);
}

std::string SvgLabel(int x, int y, absl::string_view text, const char* color) {
  int letters = 0;
  for (const char c : text) letters += Begins(c) ? 1 : 0;
  const int width = 7 * letters + 6;
  return absl::StrCat(
      SvgBox(x - width / 2, y - 11, width, 15, "fill=\"#fbfbf8\""),
      SvgText(x, y, text,
              absl::StrCat("text-anchor=\"middle\" font-size=\"11\" fill=\"", color, "\"")));
}

std::string SvgMemoryBar(int x, int y, int width, int height, int64_t total, int64_t available) {
  std::string svg = SvgBox(x, y, width, height, "fill=\"#ffffff\" stroke=\"#888888\"");
  if (total <= 0) return svg;
  const double taken = 1 - static_cast<double>(std::min(available, total)) / total;
  const int filled = static_cast<int>(taken * width);
  if (filled > 0) absl::StrAppend(&svg, SvgBox(x, y, filled, height, "fill=\"#888888\""));
  return svg;
}

std::string RateText(double bytes_per_s) {
  return bytes_per_s > 0 ? FormatBandwidth(bytes_per_s) : "?";
}

}  // namespace tprun
