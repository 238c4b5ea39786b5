#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

inline constexpr int64_t kKiB = int64_t{1} << 10;
inline constexpr int64_t kMiB = int64_t{1} << 20;
inline constexpr int64_t kGiB = int64_t{1} << 30;

// "11.21 GiB", "512.0 MiB", "640 B": binary units, three to four digits.
std::string FormatBytes(int64_t bytes);

// "10GiB", "512 MiB", "24GB" (10^9), "1024": the inverse. InvalidArgument names the accepted forms.
absl::StatusOr<int64_t> ParseBytes(absl::string_view text);

// "34.0 GB/s" from bytes per second (GB = 10^9 bytes, as bandwidths are quoted).
std::string FormatBandwidth(double bytes_per_s);

// "532 ns", "12.3 us", "4.56 ms", "1.20 s".
std::string FormatDuration(double seconds);

// "1,234,567".
std::string FormatCount(int64_t value);

}  // namespace tprun
