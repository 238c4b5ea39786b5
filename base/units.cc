#include "base/units.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tprun {
namespace {

constexpr absl::string_view kAcceptedForms =
    "wanted a size such as 24GiB, 512 MiB, 24GB (10^9) or 1024 (bytes)";

// Three to four digits: 1.23, 12.34, 123.4, 1023.
std::string FourDigits(double value) {
  const double magnitude = std::abs(value);
  if (magnitude >= 999.95) return absl::StrFormat("%.0f", value);
  if (magnitude >= 99.995) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.2f", value);
}

// Three digits: 1.23, 12.3, 123.
std::string ThreeDigits(double value) {
  const double magnitude = std::abs(value);
  if (magnitude >= 99.95) return absl::StrFormat("%.0f", value);
  if (magnitude >= 9.995) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.2f", value);
}

// The number of bytes of a unit as users write it, 0 for an unknown one. "K", "M", "G", "T" alone
// are binary, as memory sizes are meant.
double UnitBytes(absl::string_view unit) {
  static constexpr std::array<std::pair<absl::string_view, double>, 16> kUnits = {{
      {"", 1},
      {"b", 1},
      {"byte", 1},
      {"bytes", 1},
      {"kb", 1e3},
      {"mb", 1e6},
      {"gb", 1e9},
      {"tb", 1e12},
      {"kib", 1024.0},
      {"mib", 1048576.0},
      {"gib", 1073741824.0},
      {"tib", 1099511627776.0},
      {"k", 1024.0},
      {"m", 1048576.0},
      {"g", 1073741824.0},
      {"t", 1099511627776.0},
  }};
  const std::string lower = absl::AsciiStrToLower(unit);
  for (const auto& [name, bytes] : kUnits) {
    if (name == lower) return bytes;
  }
  return 0;
}

absl::Status NotASize(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(kAcceptedForms, ", found \"", text, "\""));
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  if (std::abs(value) < 1024) return absl::StrCat(bytes, " B");
  size_t unit = 0;
  value /= 1024;
  // 1023.5 would print as 1024 of the smaller unit.
  while (std::abs(value) >= 1023.5 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return absl::StrCat(FourDigits(value), " ", kNames[unit]);
}

absl::StatusOr<int64_t> ParseBytes(absl::string_view text) {
  const absl::string_view trimmed = absl::StripAsciiWhitespace(text);
  size_t digits = 0;
  while (digits < trimmed.size() &&
         (absl::ascii_isdigit(trimmed[digits]) || trimmed[digits] == '.'))
    ++digits;
  const absl::string_view number = trimmed.substr(0, digits);
  const double unit = UnitBytes(absl::StripLeadingAsciiWhitespace(trimmed.substr(digits)));
  if (number.empty() || unit == 0) return NotASize(text);
  int64_t whole;
  if (unit == 1) {
    // Exact, as a double has 53 bits only; and half a byte is a mistake.
    if (!absl::SimpleAtoi(number, &whole)) return NotASize(text);
    return whole;
  }
  double value;
  if (!absl::SimpleAtod(number, &value)) return NotASize(text);
  const double bytes = std::round(value * unit);
  if (!(bytes < static_cast<double>(std::numeric_limits<int64_t>::max()))) {
    return absl::InvalidArgumentError(
        absl::StrCat("the size \"", text, "\" is larger than 8 EiB; ", kAcceptedForms));
  }
  return static_cast<int64_t>(bytes);
}

std::string FormatBandwidth(double bytes_per_s) {
  if (!std::isfinite(bytes_per_s)) return "? GB/s";
  const double gigabytes = bytes_per_s / 1e9;
  if (std::abs(gigabytes) >= 9999.5) return absl::StrFormat("%.1f TB/s", gigabytes / 1000);
  if (std::abs(gigabytes) >= 99.95) return absl::StrFormat("%.0f GB/s", gigabytes);
  if (std::abs(gigabytes) >= 9.995 || bytes_per_s == 0) {
    return absl::StrFormat("%.1f GB/s", gigabytes);
  }
  if (std::abs(gigabytes) >= 0.1) return absl::StrFormat("%.2f GB/s", gigabytes);
  return absl::StrCat(ThreeDigits(bytes_per_s / 1e6), " MB/s");
}

std::string FormatDuration(double seconds) {
  if (!std::isfinite(seconds)) return "? s";
  const double magnitude = std::abs(seconds);
  if (magnitude >= 0.9995) return absl::StrCat(ThreeDigits(seconds), " s");
  if (magnitude >= 0.9995e-3) return absl::StrCat(ThreeDigits(seconds * 1e3), " ms");
  if (magnitude >= 0.9995e-6) return absl::StrCat(ThreeDigits(seconds * 1e6), " us");
  return absl::StrFormat("%.0f ns", seconds * 1e9);
}

std::string FormatCount(int64_t value) {
  const std::string digits = absl::StrCat(value);
  const size_t sign = value < 0 ? 1 : 0;
  std::string result;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) result += ',';
    result += digits[i];
  }
  return result;
}

}  // namespace tprun
