#include "topology/svg_nvlinks.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "topology/svg_draw.h"

namespace tprun {
namespace {

constexpr int kTrack = 24;  // height of one level of arcs

std::string LinkText(const Link& link, bool with_rate) {
  const std::string count = link.count > 0 ? absl::StrCat("NV", link.count) : "NVLink";
  return with_rate ? absl::StrCat(count, " ", RateText(link.bandwidth_bytes_per_s)) : count;
}

double Thickness(const Link& link) { return 2.5 + 0.7 * std::min(link.count, 12); }

}  // namespace

SvgNvlinks::SvgNvlinks(const Topology& topology, const std::map<int, int>& places)
    : places_(places) {
  std::set<std::pair<int, double>> kinds;
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNvlink || !places_.count(link.a) || !places_.count(link.b))
      continue;
    const auto [left, right] = std::minmax(places_[link.a], places_[link.b]);
    arcs_.push_back({&link, left, right});
    kinds.insert({link.count, link.bandwidth_bytes_per_s});
  }
  const size_t count = places_.size();
  bar_ = count >= 3 && arcs_.size() == count * (count - 1) / 2 && kinds.size() == 1;
  std::stable_sort(arcs_.begin(), arcs_.end(), [](const Arc& a, const Arc& b) {
    return std::make_tuple(a.right - a.left, a.left) < std::make_tuple(b.right - b.left, b.left);
  });
  for (size_t i = 0; i < arcs_.size(); ++i) {
    std::set<int> taken;
    for (size_t j = 0; j < i; ++j) {
      if (arcs_[j].left < arcs_[i].right && arcs_[i].left < arcs_[j].right) {
        taken.insert(arcs_[j].track);
      }
    }
    while (taken.count(arcs_[i].track)) ++arcs_[i].track;
    tracks_ = std::max(tracks_, arcs_[i].track + 1);
  }
  if (bar_) tracks_ = 2;
}

int SvgNvlinks::height() const { return tracks_ > 0 ? tracks_ * kTrack + 14 : 6; }

// Ports from left to right: arcs to the left with the farthest first, then those to the right.
int SvgNvlinks::Port(int place, const Arc& wanted, int gpu_x, int gpu_width) const {
  std::vector<const Arc*> ends;
  for (const Arc& arc : arcs_) {
    if (arc.left == place || arc.right == place) ends.push_back(&arc);
  }
  std::sort(ends.begin(), ends.end(), [place](const Arc* a, const Arc* b) {
    const bool a_left = a->right == place;
    const bool b_left = b->right == place;
    if (a_left != b_left) return a_left;
    return a_left ? a->track < b->track : a->track > b->track;
  });
  const int index = static_cast<int>(std::find(ends.begin(), ends.end(), &wanted) - ends.begin());
  return gpu_x + gpu_width * (index + 1) / (static_cast<int>(ends.size()) + 1);
}

std::string SvgNvlinks::Draw(const std::function<int(int place)>& gpu_x, int gpu_width, int top,
                             int gpu_y) const {
  if (arcs_.empty()) return "";
  if (bar_) return Bar(gpu_x, gpu_width, top, gpu_y);
  std::string lines, labels;
  for (const Arc& arc : arcs_) {
    const int x1 = Port(arc.left, arc, gpu_x(arc.left), gpu_width);
    const int x2 = Port(arc.right, arc, gpu_x(arc.right), gpu_width);
    const int y = gpu_y - 14 - arc.track * kTrack;
    absl::StrAppend(
        &lines, SvgLine(absl::StrFormat("M%d %d V%d Q%d %d %d %d H%d Q%d %d %d %d V%d", x1, gpu_y,
                                        y + 8, x1, y, x1 + 8, y, x2 - 8, x2, y, x2, y + 8, gpu_y),
                        LinkKind::kNvlink, Thickness(*arc.link)));
    absl::StrAppend(&labels, SvgLabel((x1 + x2) / 2, y + 4, LinkText(*arc.link, arcs_.size() <= 6),
                                      StyleOf(LinkKind::kNvlink).color));
  }
  return lines + labels;
}

std::string SvgNvlinks::Bar(const std::function<int(int place)>& gpu_x, int gpu_width, int top,
                            int gpu_y) const {
  const Link& link = *arcs_[0].link;
  int first = places_.begin()->second, last = first;
  const int y = top + 2;
  std::string path;
  for (const auto& [gpu, place] : places_) {
    first = std::min(first, place);
    last = std::max(last, place);
    absl::StrAppendFormat(&path, "M%d %d V%d ", gpu_x(place) + gpu_width / 2, y + 22, gpu_y);
  }
  const int left = gpu_x(first);
  const int right = gpu_x(last) + gpu_width;
  const std::string text = absl::StrCat(link.via_switch ? "NVSwitch" : "NVLink mesh", ": ",
                                        LinkText(link, true), " between every two");
  return absl::StrCat(SvgLine(path, LinkKind::kNvlink, std::min(9.0, Thickness(link))),
                      SvgBox(left, y, right - left, 24,
                             absl::StrCat("fill=\"", StyleOf(LinkKind::kNvlink).color, "\"")),
                      SvgText((left + right) / 2, y + 17, text,
                              "text-anchor=\"middle\" fill=\"#ffffff\" font-weight=\"bold\""));
}

}  // namespace tprun
