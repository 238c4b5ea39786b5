#pragma once

#include <string>

#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// Parts of a drawing as SVG text. Lengths in pixels.

// How a kind of link is drawn. Colours that stay apart for the colour-blind (Okabe and Ito); kinds
// also differ in their dashes.
struct LinkStyle {
  const char* color;
  const char* dashes;  // of stroke-dasharray; "": solid
  const char* label;   // in the legend
};
const LinkStyle& StyleOf(LinkKind kind);
inline constexpr char kWarningColor[] = "#d55e00";

// "4x16", with characters that XML cannot have replaced.
std::string SvgEscape(absl::string_view text);

// At most `letters` letters, the last an ellipsis where some are left out.
std::string Shortened(absl::string_view text, int letters);

std::string SvgText(int x, int y, absl::string_view text, absl::string_view attributes = "");
std::string SvgBox(int x, int y, int width, int height, absl::string_view attributes);

// A path "M1 2 V3" in the style of `kind`.
std::string SvgLine(absl::string_view path, LinkKind kind, double width);

// A text in `color` on a plate of the background's colour, so that lines below do not cross it.
std::string SvgLabel(int x, int y, absl::string_view text, const char* color);

// A bar that is filled as far as memory is taken.
std::string SvgMemoryBar(int x, int y, int width, int height, int64_t total, int64_t available);

// "450 GB/s", "?" for 0.
std::string RateText(double bytes_per_s);

}  // namespace tprun
