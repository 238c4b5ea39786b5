#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "topology/format_topology.h"
#include "topology/svg_draw.h"
#include "topology/svg_host.h"
#include "topology/text_view.h"

namespace tprun {
namespace {

constexpr int kMargin = 24;
constexpr int kFabricWidth = 96;  // a column at the left for each network
constexpr size_t kMaxHosts = 12;
constexpr size_t kMaxFabrics = 4;

// What `body` draws, in a row under all hosts.
std::string Legend(const std::string& body, int x, int y) {
  std::string svg;
  const auto draws = [&](absl::string_view part) { return absl::StrContains(body, part); };
  const auto add = [&](LinkKind kind, int width) {
    const std::string color = StyleOf(kind).color;
    if (!draws("stroke=\"" + color)) return;
    absl::StrAppend(&svg, SvgLine(absl::StrFormat("M%d %d H%d", x, y - 4, x + 30), kind, 4),
                    SvgText(x + 38, y, StyleOf(kind).label, "font-size=\"12\""));
    x += width;
  };
  add(LinkKind::kNvlink, 110);
  add(LinkKind::kPcie, 95);
  add(LinkKind::kSystem, 215);
  add(LinkKind::kNetwork, 120);
  if (draws("⚠ x")) {
    absl::StrAppend(&svg, SvgText(x, y, "⚠ slot narrower than the card",
                                  absl::StrCat("font-size=\"12\" fill=\"", kWarningColor, "\"")));
    x += 215;
  }
  return svg + SvgText(x, y, "rates per direction; bars: memory taken",
                       "font-size=\"12\" fill=\"#444444\"");
}

// The hosts of a fabric hang on a bar at their left. `middles`: of the hosts that are drawn.
std::string FabricSvg(const Fabric& fabric, const std::map<int, int>& middles, int x, int right,
                      int down) {
  std::vector<int> ends;
  for (int host : fabric.hosts) {
    const auto middle = middles.find(host);
    // The lines of two fabrics are not one.
    if (middle != middles.end()) ends.push_back(middle->second + down);
  }
  if (ends.empty()) return "";
  const auto [top, bottom] = std::minmax_element(ends.begin(), ends.end());
  std::string path = absl::StrFormat("M%d %d V%d", x, *top - 34, *bottom + 34);
  for (int y : ends) absl::StrAppendFormat(&path, " M%d %d H%d", x, y, right);
  std::vector<std::string> lines = {Shortened(fabric.name, 12)};
  lines.push_back(fabric.nics_per_host > 1
                      ? absl::StrCat(fabric.nics_per_host, " × ",
                                     RateText(fabric.bandwidth_bytes_per_s / fabric.nics_per_host))
                      : RateText(fabric.bandwidth_bytes_per_s));
  if (fabric.oversubscription > 1)
    lines.push_back(absl::StrFormat("%.3g:1", fabric.oversubscription));
  std::string labels;
  int y = *top - 50 - 16 * (static_cast<int>(lines.size()) - 1);
  for (const std::string& line : lines) {
    absl::StrAppend(&labels, SvgLabel(x, y += 16, line, StyleOf(fabric.kind).color));
  }
  return SvgLine(path, fabric.kind, fabric.kind == LinkKind::kNvlink ? 7 : 3.5) + labels;
}

}  // namespace

std::string TopologySvg(const Topology& topology) {
  const size_t fabrics = std::min(kMaxFabrics, topology.fabrics.size());
  const int left = kMargin + kFabricWidth * static_cast<int>(fabrics);
  const TextView view(topology, false);
  std::string body;
  std::map<int, int> middles;
  size_t hidden = 0;
  // Of a path the file's name says enough.
  const size_t slash = topology.source.rfind('/');
  const bool is_path = slash != std::string::npos && slash + 1 < topology.source.size() &&
                       !absl::StrContains(topology.source, " ");
  const std::string title =
      Shortened(is_path ? topology.source.substr(slash + 1) : topology.source, 90);
  int width = std::max(760, left + 11 * static_cast<int>(title.size()) + kMargin);
  int y = 2 * kMargin + 10;
  for (int host = 0; host < static_cast<int>(topology.hosts.size()); ++host) {
    if (!view.IsShown(host)) continue;  // drawn with the first that is alike
    if (middles.size() == kMaxHosts) {
      hidden += view.count[host];
      continue;
    }
    const HostPicture picture = DrawHost(view, host);
    absl::StrAppendFormat(&body, "<g transform=\"translate(%d %d)\">\n%s</g>\n", left, y,
                          picture.svg);
    width = std::max(width, left + picture.width + kMargin);
    middles[host] = y + picture.height / 2;
    y += picture.height + kMargin;
  }
  for (size_t i = 0; i < fabrics; ++i) {
    const int x = kMargin + kFabricWidth * static_cast<int>(i) + kFabricWidth / 2;
    absl::StrAppend(&body,
                    FabricSvg(topology.fabrics[i], middles, x, left, 18 * static_cast<int>(i)));
  }
  if (hidden > 0) {
    absl::StrAppend(&body, SvgText(left, y + 8, absl::StrCat("and ", hidden, " more hosts")));
    y += kMargin;
  }
  absl::StrAppend(&body, Legend(body, left, y + 10));
  // One soft background of its own: the picture looks the same on light and dark pages.
  return absl::StrCat(
      absl::StrFormat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                      "viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans, Arial, sans-serif\" "
                      "font-size=\"13\" fill=\"#1a1a1a\">\n",
                      width, y + 30, width, y + 30),
      SvgBox(0, 0, width, y + 30, "fill=\"#fbfbf8\""),
      SvgText(kMargin, kMargin + 10, title, "font-size=\"17\" font-weight=\"bold\""), body,
      "</svg>\n");
}

}  // namespace tprun
