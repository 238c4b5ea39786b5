#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace tprun {

// A PCI bus id in one form, so that ids of different sources compare: "00000000:1B:00.0",
// "0000:1b:00.0" and "1b:00.0" all become "0000:1b:00.0". "" for anything else.
std::string NormalBusId(absl::string_view text);

// Vendor and device in one form: ("0x10DE", "0x2684") becomes "10de:2684"; "" where either is not
// four hexadecimal digits.
std::string NormalPciId(absl::string_view vendor, absl::string_view device);

}  // namespace tprun
