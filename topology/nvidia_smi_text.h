#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "topology/topology.h"

namespace tprun {

// What the readers of nvidia-smi's text outputs share.

// A line of text as it was meant: without terminal codes (or what pasting left of them, "[4m"),
// carriage return, trailing blanks.
struct TextLine {
  int number = 0;  // from 1
  std::string text;
};

// The lines of a text. Lines of over 16 KiB are none of nvidia-smi's and are left out.
std::vector<TextLine> CleanLines(absl::string_view text);

// A word of a line and where it starts.
struct Word {
  absl::string_view text;
  size_t position = 0;
  size_t end() const { return position + text.size(); }
};
std::vector<Word> WordsOf(absl::string_view line);

// False for what nvidia-smi prints in place of a value: "", "N/A", "[Not Supported]", ...
bool IsStated(absl::string_view value);

// The number in front of `unit` ("", "MiB", "x"), as in "81920 MiB", "81920" or "16x".
std::optional<int64_t> ParseQuantity(absl::string_view value, absl::string_view unit);

// "GPU 0: NVIDIA A100 (UUID: GPU-...)".
struct GpuHeading {
  int index = 0;
  std::string name;
  std::string uuid;
};
std::optional<GpuHeading> ParseGpuHeading(absl::string_view line);

// "Enabled" and "Disabled" as DeviceInfo::mig has them; "" for the rest.
std::string MigMode(absl::string_view value);

// "0x268410DE" (device, then vendor) becomes "10de:2684"; "" for anything else.
std::string PciIdOf(absl::string_view device_id);

// A topology of one host without a name, to be filled.
Topology EmptyDump(const std::string& path);
inline constexpr absl::string_view kUnnamedHost = "host";

// GPU number `index` of the host, with the source of its number.
DeviceInfo NumberedGpu(int index, absl::string_view source);

// "box.txt:12: reason".
absl::Status LineError(const std::string& path, int line, absl::string_view reason);

// More GPUs than any host has is a sign of garbage.
inline constexpr size_t kMaxGpus = 256;

}  // namespace tprun
