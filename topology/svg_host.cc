#include "topology/svg_host.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "topology/path_model.h"
#include "topology/paths.h"
#include "topology/pcie.h"
#include "topology/svg_boxes.h"
#include "topology/svg_draw.h"
#include "topology/svg_nvlinks.h"

namespace tprun {
namespace {

constexpr int kMargin = 22;
constexpr int kTitle = 40;
constexpr int kDrop = 46;  // between rows, for lines and their labels
constexpr int kSwitchHeight = 24;
constexpr int kNodeHeight = 66;
constexpr int kNicHeight = 24;
constexpr int kNicGap = 8;
constexpr int kAnyNode = -2;  // the CPU as one box
constexpr int kNodeGap = 76;  // between NUMA nodes, for the rate of the sockets' link
constexpr size_t kMaxGpus = 16;
constexpr int kNoGpu = -1;  // a place that only its NUMA node takes

// GPUs that share a PCIe switch, or one that shares none.
struct Group {
  int numa_node = -1;
  std::string bridge;  // "": no switch is known
  std::vector<int> gpus;
  int first = 0, last = 0;  // places it takes
};

struct NicCount {
  int count = 0;
  std::string name;
};

class HostDrawing {
 public:
  HostDrawing(const TextView& view, int host) : view_(view), topology_(view.topology), host_(host) {
    Collect();
    Arrange();
  }

  HostPicture Draw() {
    std::string body = absl::StrCat(Title(), NvlinkLines(), Gpus(), Switches());
    body += Nodes();
    body += Nics();
    const int height = (nic_rows_ == 0 ? NicY() : NicTop(nic_rows_ - 1) + kNicHeight) + kMargin;
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
    for (const Nic& nic : topology_.nics) {
      if (nic.host == host_) ++nics_[{nic.numa_node, nic.bandwidth_bytes_per_s}].count;
      if (nic.host == host_) nics_[{nic.numa_node, nic.bandwidth_bytes_per_s}].name = nic.name;
    }
    AddNodesOfNics();
    std::stable_sort(groups_.begin(), groups_.end(),
                     [](const Group& a, const Group& b) { return a.numa_node < b.numa_node; });
    for (Group& group : groups_) {
      group.first = static_cast<int>(order_.size());
      for (int gpu : group.gpus) {
        place_[gpu] = static_cast<int>(order_.size());
        order_.push_back(gpu);
      }
      if (group.gpus.empty()) order_.push_back(kNoGpu);
      group.last = static_cast<int>(order_.size()) - 1;
    }
  }

  // A NUMA node that has NICs and no GPU gets a column of its own beside those that have GPUs.
  void AddNodesOfNics() {
    const bool nodes_known =
        !groups_.empty() && std::all_of(groups_.begin(), groups_.end(),
                                        [](const Group& group) { return group.numa_node >= 0; });
    if (!nodes_known) return;
    for (const auto& [key, nic] : nics_) {
      const int node = key.first;
      const bool drawn = std::any_of(groups_.begin(), groups_.end(),
                                     [&](const Group& group) { return group.numa_node == node; });
      if (node >= 0 && !drawn) groups_.push_back({node, "", {}});
    }
  }

  std::string Bridge(int gpu) const {
    const std::vector<std::string>& bridges = topology_.devices[gpu].pci_bridges;
    return bridges.empty() ? "" : bridges[0];
  }

  void Arrange() {
    nvlinks_ = std::make_unique<SvgNvlinks>(topology_, place_);
    const bool many = order_.size() > 8;
    gpu_width_ = many ? 104 : 150;
    gap_ = many ? 14 : 26;
    const int columns = std::max<int>(order_.empty() ? 3 : 2, static_cast<int>(order_.size()));
    int apart = 0;
    for (size_t i = 0; i < order_.size(); ++i) {
      const auto begins = std::find_if(groups_.begin(), groups_.end(), [&](const Group& group) {
        return group.first == static_cast<int>(i);
      });
      const bool crosses =
          i > 0 && begins != groups_.end() && begins->numa_node != std::prev(begins)->numa_node;
      if (crosses) apart += kNodeGap;
      shift_.push_back(apart);
    }
    width_ = 2 * kMargin + columns * gpu_width_ + (columns - 1) * gap_ + apart;
    // At least as wide as the text of a CPU needs.
    width_ = std::max(width_, 520);
  }

  int GpuX(int place) const {
    const int used = static_cast<int>(order_.size()) * (gpu_width_ + gap_) - gap_ + shift_.back();
    return (width_ - used) / 2 + place * (gpu_width_ + gap_) + shift_[place];
  }
  int GpuMiddle(int place) const { return GpuX(place) + gpu_width_ / 2; }
  int GpuHeight() const { return order_.size() > 8 ? 88 : 92; }
  int GpuY() const { return kTitle + nvlinks_->height(); }
  int SwitchY() const { return GpuY() + GpuHeight() + kDrop; }
  bool HasSwitches() const {
    return std::any_of(groups_.begin(), groups_.end(),
                       [](const Group& group) { return !group.bridge.empty(); });
  }
  int NodeY() const {
    if (order_.empty()) return kTitle + 6;
    return HasSwitches() ? SwitchY() + kSwitchHeight + kDrop : SwitchY();
  }
  int NicY() const {
    if (HasNodes()) return NodeY() + kNodeHeight;
    return HasSwitches() ? SwitchY() + kSwitchHeight : GpuY() + GpuHeight();
  }

  std::string Title() const {
    const Host& host = topology_.hosts[host_];
    const int count = host.count * view_.count[host_];
    std::string title =
        Shortened(count > 1 && host.count == 1 ? view_.HostSpan(host_) : host.name, 40);
    if (count > 1) absl::StrAppend(&title, "  ×", count);
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
    int pairs = 0;
    for (size_t i = 0; i < order_.size(); ++i) {
      for (size_t j = i + 1; j < order_.size(); ++j) {
        if (order_[i] == kNoGpu || order_[j] == kNoGpu) continue;
        const Path path = view_.finder.Between({.device = order_[i]}, {.device = order_[j]});
        const bool unknown =
            path.kind == LinkKind::kPcie && path.peer_access == PeerAccess::kUnknown;
        pairs += path.through_host && !unknown ? 1 : 0;
      }
    }
    return pairs;
  }

  std::string NvlinkLines() const {
    return nvlinks_->Draw([this](int place) { return GpuX(place); }, gpu_width_, kTitle, GpuY());
  }

  std::string Gpus() const {
    std::string svg;
    for (size_t i = 0; i < order_.size(); ++i) {
      if (order_[i] == kNoGpu) continue;
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
    if (rate <= 0 && prefix.empty()) return svg;
    return svg + SvgLabel(x, y, prefix + RateText(rate), StyleOf(kind).color);
  }

  std::string Switches() const {
    std::string svg;
    for (const Group& group : groups_) {
      const bool has_switch = !group.bridge.empty();
      const int bottom = has_switch ? SwitchY() : NodeY();
      for (int gpu : group.gpus) {
        if (HasNodes() || has_switch) absl::StrAppend(&svg, Drop(gpu, bottom));
      }
      if (!has_switch) continue;
      const int left = GpuX(group.first);
      const int right = GpuX(group.last) + gpu_width_;
      double widest = 0;
      for (int gpu : group.gpus) {
        const DeviceInfo& device = topology_.devices[gpu];
        widest = std::max(widest, PcieBandwidth(device.pcie_generation, device.pcie_width));
      }
      const int middle = (left + right) / 2;
      if (HasNodes()) {
        absl::StrAppend(
            &svg,
            SvgLine(absl::StrFormat("M%d %d V%d", middle, SwitchY() + kSwitchHeight, NodeY()),
                    LinkKind::kPcie, 4),
            SvgLabel(middle, SwitchY() + kSwitchHeight + kDrop / 2 + 4,
                     absl::StrCat(RateText(widest), " shared by ", group.gpus.size()),
                     StyleOf(LinkKind::kPcie).color));
      }
      absl::StrAppend(&svg,
                      SvgBox(left, SwitchY(), right - left, kSwitchHeight,
                             absl::StrCat("fill=\"", StyleOf(LinkKind::kPcie).color, "\"")),
                      SvgText(middle, SwitchY() + 16, Shortened("PCIe switch", (right - left) / 8),
                              "text-anchor=\"middle\" fill=\"#ffffff\" font-size=\"12\""));
    }
    return svg;
  }

  // Whether anything is drawn below the GPUs: the CPU, or NUMA nodes that a dump tells of.
  bool HasNodes() const { return cpu_ >= 0 || IsApart(); }
  // Several NUMA nodes side by side, else the CPU is one box.
  bool IsApart() const {
    return groups_.size() > 1 && groups_.front().numa_node >= 0 &&
           groups_.front().numa_node != groups_.back().numa_node;
  }

  std::string Nodes() {
    if (!HasNodes()) return "";
    const DeviceInfo cpu = cpu_ >= 0 ? topology_.devices[cpu_] : DeviceInfo();
    if (!IsApart()) {
      spans_[kAnyNode] = {kMargin, width_ - kMargin};
      return SvgNode(CpuText(cpu), cpu.memory_bytes, cpu.available_bytes, kMargin, width_ - kMargin,
                     NodeY(), kNodeHeight);
    }
    for (const Group& group : groups_) {
      const int right = GpuX(group.last) + gpu_width_;
      const auto [span, is_new] =
          spans_.emplace(group.numa_node, std::make_pair(GpuX(group.first), right));
      span->second.second = right;
    }
    return Sockets(cpu) + NodeBoxes(cpu);
  }

  std::string Sockets(const DeviceInfo& cpu) const {
    const int y = NodeY() + kNodeHeight / 2;
    std::string lines, labels;
    for (auto left = spans_.begin(), right = std::next(left); right != spans_.end();
         ++left, ++right) {
      const int from = left->second.second;
      const int to = right->second.first;
      absl::StrAppend(&lines,
                      SvgLine(absl::StrFormat("M%d %d H%d", from, y, to), LinkKind::kSystem, 3));
      const bool one = InOnePackage(topology_.hosts[host_], left->first, right->first);
      if (cpu.name.empty() && !one) continue;
      absl::StrAppend(
          &labels,
          SvgLabel((from + to) / 2, y - 10,
                   one ? "one socket" : absl::StrCat("SYS ", RateText(SocketBandwidth(cpu.name))),
                   StyleOf(LinkKind::kSystem).color));
    }
    return lines + labels;
  }

  std::string NodeBoxes(const DeviceInfo& cpu) const {
    std::string svg;
    for (const auto& [id, span] : spans_) {
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

  // Each below its NUMA node; those of which it is not known below all of them, and below the CPU
  // side by side.
  std::string Nics() {
    std::string svg;
    std::map<int, int> rows;  // taken below each node
    std::vector<std::pair<std::pair<int, double>, NicCount>> others;
    for (const auto& nic : nics_) {
      const auto span = spans_.find(nic.first.first);
      if (span == spans_.end()) {
        others.push_back(nic);
        continue;
      }
      const int row = rows[span->first]++;
      nic_rows_ = std::max(nic_rows_, row + 1);
      const auto [left, right] = span->second;
      const int width = std::min(260, right - left);
      const int x = (left + right - width) / 2;
      const int from = row == 0 ? NicY() : NicTop(row) - kNicGap;
      absl::StrAppend(&svg, NicLine((left + right) / 2, from, NicTop(row)),
                      NicBox(nic.first, nic.second, x, NicTop(row), width));
    }
    return svg + OtherNics(others, nic_rows_);
  }

  std::string OtherNics(const std::vector<std::pair<std::pair<int, double>, NicCount>>& nics,
                        int row) {
    if (nics.empty()) return "";
    nic_rows_ = row + 1;
    std::string svg;
    const int count = static_cast<int>(nics.size());
    const int width = std::min(260, (width_ - 2 * kMargin - (count - 1) * 12) / count);
    int x = (width_ - count * width - (count - 1) * 12) / 2;
    for (const auto& [key, nic] : nics) {
      // Which of several nodes a NIC hangs on is not known: then it hangs on none.
      if (spans_.count(kAnyNode)) svg += NicLine(x + width / 2, NicY(), NicTop(row));
      svg += NicBox(key, nic, x, NicTop(row), width);
      x += width + 12;
    }
    return svg;
  }

  int NicTop(int row) const { return NicY() + kDrop / 2 + row * (kNicHeight + kNicGap); }

  static std::string NicLine(int x, int from, int to) {
    return SvgLine(absl::StrFormat("M%d %d V%d", x, from, to), LinkKind::kPcie, 3);
  }

  std::string NicBox(const std::pair<int, double>& key, const NicCount& nic, int x, int y,
                     int width) const {
    std::string text = nic.count == 1 ? nic.name : absl::StrCat(nic.count, " NICs");
    if (key.second > 0) {
      absl::StrAppend(&text, nic.count == 1 ? " " : " of ", RateText(key.second));
    }
    if (key.first >= 0 && !spans_.count(key.first)) {
      absl::StrAppend(&text, " (NUMA ", key.first, ")");
    } else if (key.first < 0 && spans_.size() > 1) {
      text += " (NUMA ?)";
    }
    return SvgBox(x, y, width, kNicHeight, "fill=\"#e4e4ee\" stroke=\"#555577\"") +
           SvgText(x + width / 2, y + 16, Shortened(text, width / 7),
                   "text-anchor=\"middle\" font-size=\"12\"");
  }

  const TextView& view_;
  const Topology& topology_;
  const int host_;
  int cpu_ = -1;
  size_t hidden_ = 0;
  std::vector<Group> groups_;
  std::vector<int> order_;                    // GPUs from left to right
  std::vector<int> shift_;                    // of each, by the gaps between NUMA nodes
  std::map<int, std::pair<int, int>> spans_;  // of the boxes of NUMA nodes
  std::map<int, int> place_;                  // of each GPU in order_
  std::unique_ptr<SvgNvlinks> nvlinks_;
  int nic_rows_ = 0;
  std::map<std::pair<int, double>, NicCount> nics_;  // by NUMA node and rate
  int gpu_width_ = 0, gap_ = 0, width_ = 0;
};

}  // namespace

HostPicture DrawHost(const TextView& view, int index) { return HostDrawing(view, index).Draw(); }

}  // namespace tprun
