#include "topology/pcie.h"

#include <array>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace tprun {

absl::StatusOr<PcieLink> ParsePcie(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, 'x');
  PcieLink link;
  if (parts.size() == 2 && absl::SimpleAtoi(parts[0], &link.generation) &&
      absl::SimpleAtoi(parts[1], &link.width) && PcieBandwidth(link.generation, link.width) > 0) {
    return link;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "wanted generation x lanes, such as 4x16 (generation 1 to 7, 1 to 32 lanes), found \"", text,
      "\""));
}

// PCI Express base specifications: 2.5, 5, 8, 16, 32, 64, 128 GT/s per lane, 8b/10b coding for the
// first two, 128b/130b for 3 to 5, 242 of 256 bytes of a flit from 6 on.
double PcieBandwidth(int generation, int width) {
  static constexpr std::array<double, 8> kPerLane = {0,        0.25e9,   0.5e9,    0.9846e9,
                                                     1.9692e9, 3.9385e9, 7.5625e9, 15.125e9};
  if (generation < 1 || generation >= static_cast<int>(kPerLane.size())) return 0;
  if (width < 1 || width > 32) return 0;
  return kPerLane[generation] * width;
}

}  // namespace tprun
