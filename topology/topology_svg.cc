#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/units.h"
#include "topology/format_topology.h"

namespace tprun {
namespace {

// Sizes in pixels.
constexpr int kMargin = 24;
constexpr int kGpuWidth = 168;
constexpr int kGpuHeight = 84;
constexpr int kGap = 40;
constexpr int kCpuHeight = 62;
constexpr int kPcieHeight = 92;  // between GPUs and CPU, for the lines and their labels
constexpr int kArcHeight = 26;   // per level of arcs above the GPUs
constexpr int kHeader = 44;
constexpr int kHostGap = 70;
constexpr size_t kMaxHosts = 12;
constexpr size_t kMaxGpus = 16;  // drawn per host

struct KindStyle {
  LinkKind kind;
  const char* color;
  const char* label;
};
// Colours that stay apart for the colour-blind (Okabe and Ito).
constexpr std::array<KindStyle, 4> kStyles = {{{LinkKind::kNvlink, "#009e73", "NVLink"},
                                               {LinkKind::kPcie, "#0072b2", "PCIe"},
                                               {LinkKind::kSystem, "#cc79a7", "between sockets"},
                                               {LinkKind::kNetwork, "#d55e00", "network"}}};

const KindStyle& StyleOf(LinkKind kind) {
  for (const KindStyle& style : kStyles) {
    if (style.kind == kind) return style;
  }
  return kStyles[0];
}

// Control characters are not allowed in XML at all.
std::string Escape(absl::string_view text) {
  std::string clean;
  for (const char c : text) {
    clean += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return absl::StrReplaceAll(
      clean, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&apos;"}});
}

std::string Shortened(absl::string_view text, size_t max) {
  if (text.size() <= max) return std::string(text);
  // Not within a character of several bytes.
  size_t end = max - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return absl::StrCat(text.substr(0, end), "…");
}

std::string Text(int x, int y, absl::string_view text, absl::string_view attributes = "") {
  return absl::StrFormat("<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, attributes, Escape(text));
}

std::string Box(int x, int y, int width, int height, absl::string_view style) {
  return absl::StrFormat("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"8\" %s/>\n", x, y,
                         width, height, style);
}

// A label in the line's colour on a white plate, so that lines below do not cross it.
std::string Label(int x, int y, absl::string_view text, const char* color) {
  const int width = 7 * static_cast<int>(text.size()) + 8;
  return absl::StrCat(
      absl::StrFormat("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"16\" rx=\"3\" "
                      "fill=\"#ffffff\"/>\n",
                      x - width / 2, y - 12, width),
      Text(x, y, text,
           absl::StrCat("text-anchor=\"middle\" font-size=\"12\" fill=\"", color, "\"")));
}

std::string Stroke(LinkKind kind) {
  return absl::StrCat("fill=\"none\" stroke-width=\"2.5\" stroke=\"", StyleOf(kind).color, "\"");
}

std::string Memory(const DeviceInfo& device) {
  if (device.memory_bytes == 0) return "memory unknown";
  if (device.available_bytes == device.memory_bytes) return FormatBytes(device.memory_bytes);
  return absl::StrCat(FormatBytes(device.available_bytes), " of ", FormatBytes(device.memory_bytes),
                      " free");
}

std::string Rate(double rate) { return rate > 0 ? FormatBandwidth(rate) : "? GB/s"; }

// The devices of one host and where they are drawn.
struct HostDrawing {
  int host = 0;
  int cpu = -1;
  std::vector<int> gpus;
  size_t hidden_gpus = 0;
  std::vector<const Link*> links;  // between the GPUs shown or with the CPU
  bool all_nvlink = false;         // every pair at one rate: drawn as one bar
  int arc_levels = 0;
  int width = 0, height = 0;

  int GpuX(int position) const { return kMargin + position * (kGpuWidth + kGap); }
  int GpuY() const { return kHeader + arc_levels * kArcHeight; }
  int CpuY() const { return gpus.empty() ? kHeader : GpuY() + kGpuHeight + kPcieHeight; }
};

int PositionOf(const std::vector<int>& gpus, int device) {
  const auto found = std::find(gpus.begin(), gpus.end(), device);
  return found == gpus.end() ? -1 : static_cast<int>(found - gpus.begin());
}

// Three or more GPUs of which each pair has NVLink at the same rate.
bool IsFullMesh(const HostDrawing& drawing) {
  const size_t count = drawing.gpus.size();
  size_t pairs = 0;
  double rate = -1;
  for (const Link* link : drawing.links) {
    if (link->kind != LinkKind::kNvlink) continue;
    if (rate >= 0 && link->bandwidth_bytes_per_s != rate) return false;
    rate = link->bandwidth_bytes_per_s;
    ++pairs;
  }
  return count >= 3 && pairs == count * (count - 1) / 2;
}

HostDrawing Arrange(const Topology& topology, int host) {
  HostDrawing drawing;
  drawing.host = host;
  for (size_t i = 0; i < topology.devices.size(); ++i) {
    const DeviceInfo& device = topology.devices[i];
    if (device.host != host) continue;
    if (device.kind == DeviceKind::kCpu) {
      drawing.cpu = static_cast<int>(i);
    } else if (drawing.gpus.size() < kMaxGpus) {
      drawing.gpus.push_back(static_cast<int>(i));
    } else {
      ++drawing.hidden_gpus;
    }
  }
  const auto shown = [&](int device) {
    return device == drawing.cpu || PositionOf(drawing.gpus, device) >= 0;
  };
  for (const Link& link : topology.links) {
    if (shown(link.a) && shown(link.b)) drawing.links.push_back(&link);
  }
  drawing.all_nvlink = IsFullMesh(drawing);
  for (const Link* link : drawing.links) {
    if (link->kind != LinkKind::kNvlink) continue;
    const int span =
        std::abs(PositionOf(drawing.gpus, link->a) - PositionOf(drawing.gpus, link->b));
    drawing.arc_levels = std::max(drawing.arc_levels, drawing.all_nvlink ? 2 : span + 1);
  }
  const int columns = std::max<int>(2, static_cast<int>(drawing.gpus.size()));
  drawing.width = 2 * kMargin + columns * kGpuWidth + (columns - 1) * kGap;
  drawing.height = drawing.CpuY() + kCpuHeight + kMargin;
  return drawing;
}

std::string DeviceBox(const DeviceInfo& device, int x, int y, int width, int height) {
  const bool is_cpu = device.kind == DeviceKind::kCpu;
  std::string name = absl::StrReplaceAll(device.name, {{"NVIDIA ", ""}, {"GeForce ", ""}});
  const size_t letters = static_cast<size_t>(width) / 8;
  std::string svg =
      Box(x, y, width, height,
          is_cpu ? "fill=\"#fff4d6\" stroke=\"#b58900\"" : "fill=\"#e3f4ea\" stroke=\"#3d8b5f\"");
  absl::StrAppend(&svg, "<title>", Escape(device.name), "</title>\n");
  const int middle = x + width / 2;
  constexpr absl::string_view kCentered = "text-anchor=\"middle\"";
  absl::StrAppend(&svg, Text(middle, y + 22,
                             is_cpu ? Shortened(name, letters)
                                    : Shortened(absl::StrCat(device.id, "  ", name), letters),
                             "text-anchor=\"middle\" font-weight=\"bold\""));
  const std::string second =
      is_cpu ? absl::StrCat(device.cores, device.cores == 1 ? " core, " : " cores, ",
                            Memory(device), ", ", Rate(device.memory_bandwidth_bytes_per_s))
             : Memory(device);
  absl::StrAppend(&svg, Text(middle, y + 44, second, kCentered));
  if (!is_cpu) {
    absl::StrAppend(&svg, Text(middle, y + 64, Rate(device.memory_bandwidth_bytes_per_s),
                               "text-anchor=\"middle\" fill=\"#555555\""));
  }
  return svg;
}

// NVLink between two GPUs as an arch above them, higher for a wider one.
std::string NvlinkArch(const HostDrawing& drawing, const Link& link) {
  const auto [left, right] =
      std::minmax({PositionOf(drawing.gpus, link.a), PositionOf(drawing.gpus, link.b)});
  const int level = right - left;
  // Ends are set apart by level, so that arches that share a GPU do not share a line.
  const int x1 = drawing.GpuX(left) + kGpuWidth / 2 + 10 + 8 * level;
  const int x2 = drawing.GpuX(right) + kGpuWidth / 2 - 10 - 8 * level;
  const int bottom = drawing.GpuY();
  const int top = bottom - 14 - level * kArcHeight + kArcHeight / 2;
  return absl::StrCat(
      absl::StrFormat("<path d=\"M%d %d V%d Q%d %d %d %d H%d Q%d %d %d %d V%d\" %s/>\n", x1, bottom,
                      top + 8, x1, top, x1 + 8, top, x2 - 8, x2, top, x2, top + 8, bottom,
                      Stroke(link.kind)),
      Label((x1 + x2) / 2, top + 4, Rate(link.bandwidth_bytes_per_s), StyleOf(link.kind).color));
}

std::string NvlinkBar(const HostDrawing& drawing) {
  const int last = static_cast<int>(drawing.gpus.size()) - 1;
  const int y = drawing.GpuY() - kArcHeight;
  double rate = 0;
  for (const Link* link : drawing.links) {
    if (link->kind == LinkKind::kNvlink) rate = link->bandwidth_bytes_per_s;
  }
  std::string path = absl::StrFormat("M%d %d H%d", drawing.GpuX(0) + kGpuWidth / 2, y,
                                     drawing.GpuX(last) + kGpuWidth / 2);
  for (int i = 0; i <= last; ++i) {
    absl::StrAppendFormat(&path, " M%d %d V%d", drawing.GpuX(i) + kGpuWidth / 2, y, drawing.GpuY());
  }
  return absl::StrCat(
      "<path d=\"", path, "\" ", Stroke(LinkKind::kNvlink), "/>\n",
      Label((drawing.GpuX(0) + drawing.GpuX(last) + kGpuWidth) / 2, y + 4,
            absl::StrCat("every pair ", Rate(rate)), StyleOf(LinkKind::kNvlink).color));
}

// A straight drop from a GPU to the CPU's box, which spans the host.
std::string CpuLine(const HostDrawing& drawing, const Link& link) {
  const int gpu = link.a == drawing.cpu ? link.b : link.a;
  const int x = drawing.GpuX(PositionOf(drawing.gpus, gpu)) + kGpuWidth / 2;
  const int top = drawing.GpuY() + kGpuHeight;
  return absl::StrCat(
      absl::StrFormat("<path d=\"M%d %d V%d\" %s/>\n", x, top, drawing.CpuY(), Stroke(link.kind)),
      Label(x, top + kPcieHeight / 2 + 4, Rate(link.bandwidth_bytes_per_s),
            StyleOf(link.kind).color));
}

std::string HostSvg(const Topology& topology, const HostDrawing& drawing) {
  std::string svg = Box(0, 0, drawing.width, drawing.height, "fill=\"#fafafa\" stroke=\"#888888\"");
  const Host& host = topology.hosts[drawing.host];
  std::string title = Shortened(host.name, 40);
  if (drawing.hidden_gpus > 0) {
    absl::StrAppend(&title, "  (", drawing.hidden_gpus, " more GPUs not drawn)");
  }
  absl::StrAppend(&svg, Text(kMargin, 28, title, "font-weight=\"bold\" font-size=\"16\""));
  for (const Link* link : drawing.links) {
    if (link->a == drawing.cpu || link->b == drawing.cpu) {
      absl::StrAppend(&svg, CpuLine(drawing, *link));
    } else if (link->kind == LinkKind::kNvlink && !drawing.all_nvlink) {
      absl::StrAppend(&svg, NvlinkArch(drawing, *link));
    }
  }
  if (drawing.all_nvlink) absl::StrAppend(&svg, NvlinkBar(drawing));
  for (size_t i = 0; i < drawing.gpus.size(); ++i) {
    absl::StrAppend(&svg,
                    DeviceBox(topology.devices[drawing.gpus[i]], drawing.GpuX(static_cast<int>(i)),
                              drawing.GpuY(), kGpuWidth, kGpuHeight));
  }
  if (drawing.cpu >= 0) {
    absl::StrAppend(&svg, DeviceBox(topology.devices[drawing.cpu], kMargin, drawing.CpuY(),
                                    drawing.width - 2 * kMargin, kCpuHeight));
  }
  return svg;
}

// Only what is drawn, in a row under all hosts.
std::string Legend(const Topology& topology, int x, int y) {
  std::string svg;
  for (const KindStyle& style : kStyles) {
    const bool used = std::any_of(topology.links.begin(), topology.links.end(),
                                  [&](const Link& link) { return link.kind == style.kind; });
    // GPU pairs in different sockets meet in the CPU box; their rate is that of the drops.
    if (!used || style.kind == LinkKind::kSystem) continue;
    absl::StrAppend(
        &svg,
        absl::StrFormat("<path d=\"M%d %d H%d\" %s/>\n", x, y - 4, x + 28, Stroke(style.kind)),
        Text(x + 36, y, style.label));
    x += 130;
  }
  absl::StrAppend(&svg, Text(x, y, "GB/s per direction", "fill=\"#555555\""));
  return svg;
}

// The network as a bar on the left that the hosts hang on. Its label is the range of rates.
std::string NetworkSvg(const Topology& topology, const std::vector<int>& middles, int x) {
  double least = 0, most = 0;
  for (const Link& link : topology.links) {
    if (link.kind != LinkKind::kNetwork) continue;
    const double rate = link.bandwidth_bytes_per_s;
    least = most == 0 ? rate : std::min(least, rate);
    most = std::max(most, rate);
  }
  if (most == 0 || middles.size() < 2) return "";
  std::string path = absl::StrFormat("M%d %d V%d", x, middles.front(), middles.back());
  for (int y : middles) absl::StrAppendFormat(&path, " M%d %d H%d", x, y, x + kHostGap);
  const std::string label =
      least == most ? Rate(most) : absl::StrCat(Rate(least), " - ", Rate(most));
  return absl::StrCat("<path d=\"", path, "\" ", Stroke(LinkKind::kNetwork), "/>\n",
                      Label(x + kHostGap / 2 + 6, (middles[0] + middles[1]) / 2, label,
                            StyleOf(LinkKind::kNetwork).color));
}

}  // namespace

std::string TopologySvg(const Topology& topology) {
  const bool several = topology.hosts.size() > 1;
  const int left = several ? kMargin + kHostGap : kMargin;
  const int shown = static_cast<int>(std::min(kMaxHosts, topology.hosts.size()));
  std::string body;
  std::vector<int> middles;
  const std::string title = Shortened(topology.source, 100);
  int width = std::max(640, left + 12 * static_cast<int>(title.size()) + kMargin);
  int y = 2 * kMargin + 10;
  for (int host = 0; host < shown; ++host) {
    const HostDrawing drawing = Arrange(topology, host);
    absl::StrAppendFormat(&body, "<g transform=\"translate(%d %d)\">\n%s</g>\n", left, y,
                          HostSvg(topology, drawing));
    width = std::max(width, left + drawing.width + kMargin);
    middles.push_back(y + drawing.height / 2);
    y += drawing.height + kMargin;
  }
  absl::StrAppend(&body, NetworkSvg(topology, middles, kMargin));
  if (topology.hosts.size() > kMaxHosts) {
    absl::StrAppend(
        &body,
        Text(left, y + 8, absl::StrCat("and ", topology.hosts.size() - kMaxHosts, " more hosts")));
    y += kMargin;
  }
  absl::StrAppend(&body, Legend(topology, left, y + 14));
  return absl::StrCat(
      absl::StrFormat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
                      "viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans, Arial, sans-serif\" "
                      "font-size=\"13\">\n",
                      width, y + 40, width, y + 40),
      "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
      Text(left, kMargin + 12, title, "font-size=\"18\" font-weight=\"bold\""), body, "</svg>\n");
}

}  // namespace tprun
