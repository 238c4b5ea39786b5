#include "topology/svg_host.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "topology/path_model.h"
#include "topology/paths.h"
#include "topology/pcie.h"
#include "topology/svg_boxes.h"
#include "topology/svg_draw.h"

namespace tprun {
namespace {

constexpr int kMargin = 22;
constexpr int kTitle = 40;
constexpr int kTrack = 24;  // height of one level of NVLink arcs
constexpr int kDrop = 46;   // between rows, for lines and their labels
constexpr int kSwitchHeight = 24;
constexpr int kNodeHeight = 66;
constexpr int kNicHeight = 24;
constexpr int kNodeGap = 76;  // between NUMA nodes, for the rate of the sockets' link
constexpr size_t kMaxGpus = 16;

// GPUs that share a PCIe switch, or one that shares none.
struct Group {
  int numa_node = -1;
  std::string bridge;  // "": no switch is known
  std::vector<int> gpus;
};

struct Arc {
  const Link* link = nullptr;
  int left = 0, right = 0;  // places of the GPUs
  int track = 0;
};

class HostDrawing {
 public:
  HostDrawing(const Topology& topology, int host) : topology_(topology), host_(host) {
    Collect();
    Arrange();
  }

  HostPicture Draw() {
    std::string body = absl::StrCat(Title(), Nvlinks(), Gpus(), Switches());
    body += Nodes();
    body += Nics();
    const int height = NicY() + (nics_.empty() ? 0 : kDrop / 2 + kNicHeight) + kMargin;
    return {SvgBox(0, 0, width_, height, "fill=\"#f3f3ef\" stroke=\"#888888\"") + body, width_,
            height};
  }

 private:
  void Collect() {
    std::vector<int> gpus;
    for (size_t i = 0; i < topology_.devices.size(); ++i) {
      const DeviceInfo& device = topology_.devices[i];
      if (device.host != host_) continue;
      if (device.kind == DeviceKind::kCpu) {
        cpu_ = static_cast<int>(i);
      } else if (gpus.size() < kMaxGpus) {
        gpus.push_back(static_cast<int>(i));
      } else {
        ++hidden_;
      }
    }
    // By NUMA node and switch, else in their order.
    std::map<std::string, int> below;
    for (int gpu : gpus) ++below[Bridge(gpu)];
    for (int gpu : gpus) {
      const DeviceInfo& device = topology_.devices[gpu];
      const std::string bridge = below[Bridge(gpu)] > 1 ? Bridge(gpu) : "";
      auto group = std::find_if(groups_.begin(), groups_.end(), [&](const Group& other) {
        return other.numa_node == device.numa_node && other.bridge == bridge && !bridge.empty();
      });
      if (group == groups_.end()) {
        groups_.push_back({device.numa_node, bridge, {}});
        group = std::prev(groups_.end());
      }
      group->gpus.push_back(gpu);
    }
    std::stable_sort(groups_.begin(), groups_.end(),
                     [](const Group& a, const Group& b) { return a.numa_node < b.numa_node; });
    for (const Group& group : groups_) {
      for (int gpu : group.gpus) {
        place_[gpu] = static_cast<int>(order_.size());
        order_.push_back(gpu);
      }
    }
    for (const Nic& nic : topology_.nics) {
      if (nic.host == host_) ++nics_[{nic.numa_node, nic.bandwidth_bytes_per_s}].count;
      if (nic.host == host_) nics_[{nic.numa_node, nic.bandwidth_bytes_per_s}].name = nic.name;
    }
  }

  std::string Bridge(int gpu) const {
    const std::vector<std::string>& bridges = topology_.devices[gpu].pci_bridges;
    return bridges.empty() ? "" : bridges[0];
  }

  void Arrange() {
    const bool many = order_.size() > 8;
    gpu_width_ = many ? 104 : 150;
    gap_ = many ? 14 : 26;
    CollectArcs();
    const int columns = std::max<int>(order_.empty() ? 3 : 2, static_cast<int>(order_.size()));
    int apart = 0;
    for (size_t i = 0; i < order_.size(); ++i) {
      const bool crosses = i > 0 && topology_.devices[order_[i]].numa_node !=
                                        topology_.devices[order_[i - 1]].numa_node;
      if (crosses) apart += kNodeGap;
      shift_.push_back(apart);
    }
    width_ = 2 * kMargin + columns * gpu_width_ + (columns - 1) * gap_ + apart;
    // At least as wide as the text of a CPU needs.
    width_ = std::max(width_, 520);
  }

  // NVLinks between GPUs: one bar when all are joined by switches or alike, else arcs on tracks
  // that do not cross.
  void CollectArcs() {
    const size_t count = order_.size();
    std::set<std::pair<int, double>> kinds;
    for (const Link& link : topology_.links) {
      if (link.kind != LinkKind::kNvlink || !place_.count(link.a) || !place_.count(link.b)) {
        continue;
      }
      const auto [left, right] = std::minmax(place_[link.a], place_[link.b]);
      arcs_.push_back({&link, left, right});
      kinds.insert({link.count, link.bandwidth_bytes_per_s});
    }
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

  int GpuX(int place) const {
    const int used = static_cast<int>(order_.size()) * (gpu_width_ + gap_) - gap_ + shift_.back();
    return (width_ - used) / 2 + place * (gpu_width_ + gap_) + shift_[place];
  }
  int GpuMiddle(int place) const { return GpuX(place) + gpu_width_ / 2; }
  int GpuHeight() const { return order_.size() > 8 ? 88 : 92; }
  int GpuY() const { return kTitle + (tracks_ > 0 ? tracks_ * kTrack + 14 : 6); }
  int SwitchY() const { return GpuY() + GpuHeight() + kDrop; }
  bool HasSwitches() const {
    return std::any_of(groups_.begin(), groups_.end(),
                       [](const Group& group) { return !group.bridge.empty(); });
  }
  int NodeY() const {
    if (order_.empty()) return kTitle + 6;
    return HasSwitches() ? SwitchY() + kSwitchHeight + kDrop : SwitchY();
  }
  int NicY() const { return cpu_ < 0 ? NodeY() : NodeY() + kNodeHeight; }

  std::string Title() const {
    const Host& host = topology_.hosts[host_];
    std::string title = Shortened(host.name, 40);
    if (host.count > 1) absl::StrAppend(&title, "  ×", host.count);
    if (hidden_ > 0) absl::StrAppend(&title, "  (", hidden_, " more GPUs not drawn)");
    std::string svg = SvgText(kMargin, 27, title, "font-weight=\"bold\" font-size=\"15\"");
    if (const int pairs = PairsThroughHost(); pairs > 0) {
      absl::StrAppend(&svg, SvgText(width_ - kMargin, 27,
                                    absl::StrCat("⚠ ", pairs, pairs == 1 ? " pair" : " pairs",
                                                 " of GPUs only through host memory"),
                                    absl::StrCat("text-anchor=\"end\" font-size=\"12\" fill=\"",
                                                 kWarningColor, "\"")));
    }
    return svg;
  }

  int PairsThroughHost() const {
    const PathFinder finder(topology_);
    int pairs = 0;
    for (size_t i = 0; i < order_.size(); ++i) {
      for (size_t j = i + 1; j < order_.size(); ++j) {
        const Path path = finder.Between({.device = order_[i]}, {.device = order_[j]});
        const bool unknown =
            path.kind == LinkKind::kPcie && path.peer_access == PeerAccess::kUnknown;
        pairs += path.through_host && !unknown ? 1 : 0;
      }
    }
    return pairs;
  }

  static std::string LinkText(const Link& link, bool with_rate) {
    const std::string count = link.count > 0 ? absl::StrCat("NV", link.count) : "NVLink";
    return with_rate ? absl::StrCat(count, " ", RateText(link.bandwidth_bytes_per_s)) : count;
  }

  static double Thickness(const Link& link) { return 2.5 + 0.7 * std::min(link.count, 12); }

  std::string Nvlinks() const {
    if (arcs_.empty()) return "";
    if (bar_) return NvlinkBar();
    std::string lines, labels;
    std::map<int, std::vector<const Arc*>> ends;
    for (const Arc& arc : arcs_) {
      ends[arc.left].push_back(&arc);
      ends[arc.right].push_back(&arc);
    }
    // Ports from left to right: arcs to the left with the farthest first, then those to the right.
    const auto port = [&](int place, const Arc& wanted) {
      std::vector<const Arc*> arcs = ends[place];
      std::sort(arcs.begin(), arcs.end(), [place](const Arc* a, const Arc* b) {
        const bool a_left = a->right == place;
        const bool b_left = b->right == place;
        if (a_left != b_left) return a_left;
        return a_left ? a->track < b->track : a->track > b->track;
      });
      const int index =
          static_cast<int>(std::find(arcs.begin(), arcs.end(), &wanted) - arcs.begin());
      return GpuX(place) + gpu_width_ * (index + 1) / (static_cast<int>(arcs.size()) + 1);
    };
    for (const Arc& arc : arcs_) {
      const int x1 = port(arc.left, arc);
      const int x2 = port(arc.right, arc);
      const int y = GpuY() - 14 - arc.track * kTrack;
      absl::StrAppend(
          &lines,
          SvgLine(absl::StrFormat("M%d %d V%d Q%d %d %d %d H%d Q%d %d %d %d V%d", x1, GpuY(), y + 8,
                                  x1, y, x1 + 8, y, x2 - 8, x2, y, x2, y + 8, GpuY()),
                  LinkKind::kNvlink, Thickness(*arc.link)));
      absl::StrAppend(&labels,
                      SvgLabel((x1 + x2) / 2, y + 4, LinkText(*arc.link, arcs_.size() <= 6),
                               StyleOf(LinkKind::kNvlink).color));
    }
    return lines + labels;
  }

  std::string NvlinkBar() const {
    const Link& link = *arcs_[0].link;
    const int last = static_cast<int>(order_.size()) - 1;
    const int y = kTitle + 2;
    std::string path;
    for (int i = 0; i <= last; ++i) {
      absl::StrAppendFormat(&path, "M%d %d V%d ", GpuMiddle(i), y + 22, GpuY());
    }
    const std::string text = absl::StrCat(link.via_switch ? "NVSwitch" : "NVLink mesh", ": ",
                                          LinkText(link, true), " between every two");
    return absl::StrCat(SvgLine(path, LinkKind::kNvlink, std::min(9.0, Thickness(link))),
                        SvgBox(GpuX(0), y, GpuX(last) + gpu_width_ - GpuX(0), 24,
                               absl::StrCat("fill=\"", StyleOf(LinkKind::kNvlink).color, "\"")),
                        SvgText((GpuX(0) + GpuX(last) + gpu_width_) / 2, y + 17, text,
                                "text-anchor=\"middle\" fill=\"#ffffff\" font-weight=\"bold\""));
  }

  std::string Gpus() const {
    std::string svg;
    for (size_t i = 0; i < order_.size(); ++i) {
      absl::StrAppend(&svg, SvgGpu(topology_.devices[order_[i]], GpuX(static_cast<int>(i)), GpuY(),
                                   gpu_width_, GpuHeight()));
    }
    return svg;
  }

  const Link* ToCpu(int gpu) const {
    for (const Link& link : topology_.links) {
      if ((link.a == cpu_ && link.b == gpu) || (link.a == gpu && link.b == cpu_)) return &link;
    }
    return nullptr;
  }

  // From a GPU to its switch or CPU; a slot narrower than the card stands out.
  std::string Drop(int gpu, int bottom) const {
    const DeviceInfo& device = topology_.devices[gpu];
    const Link* link = cpu_ < 0 ? nullptr : ToCpu(gpu);
    const LinkKind kind = link != nullptr ? link->kind : LinkKind::kPcie;
    const int x = GpuMiddle(place_.at(gpu));
    const int top = GpuY() + GpuHeight();
    const bool narrow = device.pcie_width > 0 && device.pcie_width < device.pcie_max_width;
    double rate = PcieBandwidth(device.pcie_generation, device.pcie_width);
    if (link != nullptr) rate = link->bandwidth_bytes_per_s;
    std::string svg = SvgLine(absl::StrFormat("M%d %d V%d", x, top, bottom), kind,
                              kind == LinkKind::kNvlink || kind == LinkKind::kC2c
                                  ? 6
                                  : std::max(1.5, device.pcie_width / 4.0));
    const int y = top + kDrop / 2 + 4;
    if (narrow) {
      absl::StrAppend(
          &svg,
          SvgLabel(x, y - 8, absl::StrCat("⚠ x", device.pcie_width, " of x", device.pcie_max_width),
                   kWarningColor),
          SvgLabel(x, y + 8, RateText(rate), kWarningColor));
      return svg;
    }
    const std::string prefix = kind == LinkKind::kC2c      ? "C2C "
                               : kind == LinkKind::kNvlink ? absl::StrCat("NV", link->count, " ")
                                                           : "";
    return svg + SvgLabel(x, y, prefix + RateText(rate), StyleOf(kind).color);
  }

  std::string Switches() const {
    std::string svg;
    for (const Group& group : groups_) {
      const bool has_switch = !group.bridge.empty();
      const int bottom = has_switch ? SwitchY() : NodeY();
      for (int gpu : group.gpus) {
        if (cpu_ >= 0 || has_switch) absl::StrAppend(&svg, Drop(gpu, bottom));
      }
      if (!has_switch) continue;
      const int left = GpuX(place_.at(group.gpus.front()));
      const int right = GpuX(place_.at(group.gpus.back())) + gpu_width_;
      double widest = 0;
      for (int gpu : group.gpus) {
        const DeviceInfo& device = topology_.devices[gpu];
        widest = std::max(widest, PcieBandwidth(device.pcie_generation, device.pcie_width));
      }
      const int middle = (left + right) / 2;
      absl::StrAppend(
          &svg,
          SvgLine(absl::StrFormat("M%d %d V%d", middle, SwitchY() + kSwitchHeight, NodeY()),
                  LinkKind::kPcie, 4),
          SvgLabel(middle, SwitchY() + kSwitchHeight + kDrop / 2 + 4,
                   absl::StrCat(RateText(widest), " shared by ", group.gpus.size()),
                   StyleOf(LinkKind::kPcie).color),
          SvgBox(left, SwitchY(), right - left, kSwitchHeight,
                 absl::StrCat("fill=\"", StyleOf(LinkKind::kPcie).color, "\"")),
          SvgText(middle, SwitchY() + 16, Shortened("PCIe switch", (right - left) / 8),
                  "text-anchor=\"middle\" fill=\"#ffffff\" font-size=\"12\""));
    }
    return svg;
  }

  // The NUMA nodes that hold GPUs side by side, or the CPU as one box.
  std::string Nodes() {
    if (cpu_ < 0) return "";
    const DeviceInfo& cpu = topology_.devices[cpu_];
    std::vector<std::pair<int, std::pair<int, int>>> nodes;  // id and span
    for (const Group& group : groups_) {
      const int left = GpuX(place_.at(group.gpus.front()));
      const int right = GpuX(place_.at(group.gpus.back())) + gpu_width_;
      if (nodes.empty() || nodes.back().first != group.numa_node) {
        nodes.push_back({group.numa_node, {left, right}});
      }
      nodes.back().second.second = right;
    }
    if (nodes.size() < 2 || nodes.front().first < 0) {
      const int left = kMargin;
      spans_ = {{left, width_ - kMargin}};
      return SvgNode(CpuText(cpu), cpu.memory_bytes, cpu.available_bytes, left, width_ - kMargin,
                     NodeY(), kNodeHeight);
    }
    std::string svg;
    const int y = NodeY() + kNodeHeight / 2;
    absl::StrAppend(&svg, SvgLine(absl::StrFormat("M%d %d H%d", nodes.front().second.first, y,
                                                  nodes.back().second.second),
                                  LinkKind::kSystem, 3));
    for (size_t i = 0; i + 1 < nodes.size(); ++i) {
      absl::StrAppend(&svg,
                      SvgLabel((nodes[i].second.second + nodes[i + 1].second.first) / 2, y - 10,
                               absl::StrCat("SYS ", RateText(SocketBandwidth(cpu.name))),
                               StyleOf(LinkKind::kSystem).color));
    }
    for (const auto& [id, span] : nodes) {
      spans_.push_back(span);
      int64_t total = 0, available = 0;
      for (const NumaNode& node : topology_.hosts[host_].numa_nodes) {
        if (node.id != id) continue;
        total = node.memory_bytes;
        available = node.available_bytes;
      }
      std::string text = absl::StrCat("NUMA ", id);
      if (span.second - span.first > 220) absl::StrAppend(&text, "  ", ShortCpuName(cpu.name));
      absl::StrAppend(
          &svg, SvgNode(text, total, available, span.first, span.second, NodeY(), kNodeHeight));
    }
    return svg;
  }

  std::string Nics() const {
    std::string svg;
    const int count = static_cast<int>(nics_.size());
    const int width = std::min(260, (width_ - 2 * kMargin - (count - 1) * 12) / std::max(1, count));
    const int left = (width_ - count * width - (count - 1) * 12) / 2;
    int i = 0;
    for (const auto& [key, nic] : nics_) {
      const int x = left + i++ * (width + 12);
      const int y = NicY() + kDrop / 2;
      std::string text = nic.count == 1 ? nic.name : absl::StrCat(nic.count, " NICs");
      if (key.first >= 0) absl::StrAppend(&text, " (NUMA ", key.first, ")");
      if (key.second > 0) {
        absl::StrAppend(&text, nic.count == 1 ? " " : " of ", RateText(key.second));
      }
      // Not from the gap between two nodes.
      for (const auto& [from, to] : spans_) {
        if (x + width / 2 < from || x + width / 2 > to) continue;
        absl::StrAppend(&svg, SvgLine(absl::StrFormat("M%d %d V%d", x + width / 2, NicY(), y),
                                      LinkKind::kPcie, 3));
      }
      absl::StrAppend(&svg, SvgBox(x, y, width, kNicHeight, "fill=\"#e4e4ee\" stroke=\"#555577\""),
                      SvgText(x + width / 2, y + 16, Shortened(text, width / 7),
                              "text-anchor=\"middle\" font-size=\"12\""));
    }
    return svg;
  }

  struct NicCount {
    int count = 0;
    std::string name;
  };

  const Topology& topology_;
  const int host_;
  int cpu_ = -1;
  size_t hidden_ = 0;
  std::vector<Group> groups_;
  std::vector<int> order_;                  // GPUs from left to right
  std::vector<int> shift_;                  // of each, by the gaps between NUMA nodes
  std::vector<std::pair<int, int>> spans_;  // of the boxes of NUMA nodes
  std::map<int, int> place_;                // of each GPU in order_
  std::vector<Arc> arcs_;
  bool bar_ = false;
  int tracks_ = 0;
  std::map<std::pair<int, double>, NicCount> nics_;  // by NUMA node and rate
  int gpu_width_ = 0, gap_ = 0, width_ = 0;
};

}  // namespace

HostPicture DrawHost(const Topology& topology, int index) {
  return HostDrawing(topology, index).Draw();
}

}  // namespace tprun
