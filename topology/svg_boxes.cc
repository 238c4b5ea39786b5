#include "topology/svg_boxes.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "base/units.h"
#include "topology/svg_draw.h"

namespace tprun {

std::string SvgGpu(const DeviceInfo& gpu, int x, int y, int width, int height) {
  const int middle = x + width / 2;
  const int letters = width < 140 ? width / 8 : width / 7;
  const std::string name = absl::StrReplaceAll(
      gpu.name, {{"NVIDIA ", ""}, {"GeForce ", ""}, {"Tesla ", ""}, {" Generation", ""}});
  const std::string memory =
      gpu.memory_bytes <= 0                     ? "memory ?"
      : gpu.available_bytes >= gpu.memory_bytes ? FormatBytes(gpu.memory_bytes)
      : width < 140
          ? FormatBytes(gpu.available_bytes) + " free"
          : absl::StrFormat("%.3g of %s free", static_cast<double>(gpu.available_bytes) / kGiB,
                            FormatBytes(gpu.memory_bytes));
  std::string svg = SvgBox(x, y, width, height, "fill=\"#dcefe6\" stroke=\"#2f6f57\"");
  absl::StrAppend(
      &svg, "<title>", SvgEscape(gpu.name), "</title>\n",
      SvgText(middle, y + 18, gpu.id, "text-anchor=\"middle\" font-weight=\"bold\""),
      SvgText(middle, y + 35, Shortened(name, letters), "text-anchor=\"middle\" font-size=\"12\""),
      gpu.memory_bytes > 0
          ? SvgMemoryBar(x + 10, y + 44, width - 20, 9, gpu.memory_bytes, gpu.available_bytes)
          : "",
      SvgText(middle, y + 68, memory, "text-anchor=\"middle\" font-size=\"12\""),
      SvgText(middle, y + 84, MemoryBandwidth(gpu) > 0 ? RateText(MemoryBandwidth(gpu)) : "",
              "text-anchor=\"middle\" font-size=\"12\" fill=\"#444444\""));
  return svg;
}

std::string ShortCpuName(const std::string& name) {
  return absl::StrReplaceAll(name, {{"Intel(R) ", ""},
                                    {"(R)", ""},
                                    {"(TM)", ""},
                                    {" CPU", ""},
                                    {"AMD ", ""},
                                    {" Processor", ""}});
}

std::string CpuText(const DeviceInfo& cpu) {
  std::string text = ShortCpuName(cpu.name);
  if (cpu.cores > 0) absl::StrAppend(&text, ", ", cpu.cores, cpu.cores == 1 ? " core" : " cores");
  return absl::StrCat(text, ", ", RateText(MemoryBandwidth(cpu)));
}

std::string SvgNode(const std::string& text, int64_t total, int64_t available, int left, int right,
                    int y, int height) {
  const int middle = (left + right) / 2;
  std::string svg = SvgBox(left, y, right - left, height, "fill=\"#fbeecb\" stroke=\"#8a6d1c\"");
  absl::StrAppend(&svg, SvgText(middle, y + 20, Shortened(text, (right - left) / 8),
                                "text-anchor=\"middle\" font-weight=\"bold\" font-size=\"12\""));
  if (total <= 0) return svg;
  // 0 is not known, as everywhere.
  const bool known = available > 0;
  std::string memory = FormatBytes(total);
  if (known && available < total && right - left > 190) {
    memory = absl::StrCat(FormatBytes(available), " of ", memory, " free");
  } else if (known && available < total) {
    memory = absl::StrCat(FormatBytes(available), " free");
  }
  absl::StrAppend(
      &svg, SvgMemoryBar(left + 10, y + 29, right - left - 20, 9, total, known ? available : total),
      SvgText(middle, y + 55, memory, "text-anchor=\"middle\" font-size=\"12\""));
  return svg;
}

}  // namespace tprun
