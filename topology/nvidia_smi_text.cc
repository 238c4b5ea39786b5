#include "topology/nvidia_smi_text.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "topology/bus_id.h"

namespace tprun {
namespace {

constexpr size_t kMaxLine = 16 << 10;

// The length of a terminal code at the start of `text`: ESC [ ... m, the same with the ESC written
// as ^[, or with the ESC lost. 0: none.
size_t TerminalCode(absl::string_view text) {
  size_t i = 0;
  if (absl::StartsWith(text, "\x1b")) i = 1;
  if (absl::StartsWith(text, "^[[")) i = 2;
  if (i >= text.size() || text[i] != '[') return i == 1 ? 1 : 0;
  ++i;
  const size_t digits = i;
  while (i < text.size() && (absl::ascii_isdigit(text[i]) || text[i] == ';')) ++i;
  if (i == text.size()) return 0;
  // Without its ESC only the codes for a letter's look are known for what they are.
  const bool has_escape = text.front() != '[';
  if (has_escape && absl::ascii_isalpha(text[i])) return i + 1;
  return text[i] == 'm' && i > digits && i - digits <= 2 ? i + 1 : 0;
}

std::string WithoutTerminalCodes(absl::string_view line) {
  std::string clean;
  clean.reserve(line.size());
  while (!line.empty()) {
    const size_t next = line.find_first_of("\x1b^[");
    clean.append(line.data(), std::min(next, line.size()));
    if (next == absl::string_view::npos) break;
    line.remove_prefix(next);
    const size_t code = TerminalCode(line);
    if (code == 0) clean.push_back(line.front());
    line.remove_prefix(std::max<size_t>(code, 1));
  }
  return clean;
}

}  // namespace

std::vector<TextLine> CleanLines(absl::string_view text) {
  text = absl::StripPrefix(text, "\xEF\xBB\xBF");
  std::vector<TextLine> lines;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.size() > kMaxLine) continue;
    std::string clean = WithoutTerminalCodes(line);
    // Blanks at the end go; tabs stay, as they tell which columns are blank.
    while (!clean.empty() && (clean.back() == ' ' || clean.back() == '\r')) clean.pop_back();
    lines.push_back({number, std::move(clean)});
  }
  return lines;
}

std::vector<Word> WordsOf(absl::string_view line) {
  std::vector<Word> words;
  for (size_t i = 0; i < line.size();) {
    if (absl::ascii_isspace(line[i])) {
      ++i;
      continue;
    }
    const size_t start = i;
    while (i < line.size() && !absl::ascii_isspace(line[i])) ++i;
    words.push_back({line.substr(start, i - start), start});
  }
  return words;
}

bool IsStated(absl::string_view value) {
  static constexpr std::array<absl::string_view, 10> kUnknown = {"",
                                                                 "N/A",
                                                                 "NA",
                                                                 "None",
                                                                 "Not Supported",
                                                                 "Not Available",
                                                                 "Unknown Error",
                                                                 "Unknown",
                                                                 "Insufficient Permissions",
                                                                 "GPU requires reset"};
  value = absl::StripAsciiWhitespace(value);
  if (absl::ConsumePrefix(&value, "[")) absl::ConsumeSuffix(&value, "]");
  return std::none_of(kUnknown.begin(), kUnknown.end(), [value](absl::string_view unknown) {
    return absl::EqualsIgnoreCase(value, unknown);
  });
}

std::optional<int64_t> ParseQuantity(absl::string_view value, absl::string_view unit) {
  value = absl::StripAsciiWhitespace(value);
  absl::ConsumeSuffix(&value, unit);
  value = absl::StripAsciiWhitespace(value);
  int64_t number = 0;
  if (!absl::SimpleAtoi(value, &number) || number < 0 || number > int64_t{1} << 40) {
    return std::nullopt;
  }
  return number;
}

std::optional<GpuHeading> ParseGpuHeading(absl::string_view line) {
  line = absl::StripAsciiWhitespace(line);
  const size_t uuid = line.rfind(" (UUID: ");
  const size_t colon = line.find(": ");
  GpuHeading heading;
  if (!absl::ConsumePrefix(&line, "GPU ") || uuid == absl::string_view::npos || colon >= uuid) {
    return std::nullopt;
  }
  // Positions were those of the line with "GPU ".
  if (!absl::SimpleAtoi(line.substr(0, colon - 4), &heading.index) || heading.index < 0 ||
      heading.index > 99999 || line.back() != ')') {
    return std::nullopt;
  }
  heading.name = std::string(line.substr(colon - 2, uuid - colon - 2));
  heading.uuid = std::string(line.substr(uuid + 4, line.size() - uuid - 5));
  return heading;
}

std::string MigMode(absl::string_view value) {
  if (value == "Enabled" || value == "Enabled*") return "on";
  return value == "Disabled" || value == "Disabled*" ? "off" : "";
}

std::string PciIdOf(absl::string_view device_id) {
  if (!absl::ConsumePrefix(&device_id, "0x") || device_id.size() != 8) return "";
  return NormalPciId(device_id.substr(4), device_id.substr(0, 4));
}

Topology EmptyDump(const std::string& path) {
  Topology topology;
  topology.source = path;
  topology.hosts.push_back({.name = std::string(kUnnamedHost)});
  return topology;
}

DeviceInfo NumberedGpu(int index, absl::string_view source) {
  DeviceInfo gpu;
  gpu.kind = DeviceKind::kGpu;
  gpu.id = absl::StrCat("cuda:", index);
  gpu.sources["id"] = std::string(source);
  return gpu;
}

absl::Status LineError(const std::string& path, int line, absl::string_view reason) {
  return absl::InvalidArgumentError(absl::StrCat(path, ":", line, ": ", reason));
}

}  // namespace tprun
