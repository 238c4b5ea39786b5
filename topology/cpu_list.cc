#include "topology/cpu_list.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tprun {
namespace {

constexpr int kMaxNumber = 1 << 16;
constexpr size_t kMaxWords = 1024;

absl::Status BadList(absl::string_view list) {
  return absl::InvalidArgumentError(
      absl::StrCat("wanted ascending numbers and ranges such as 0-15,32-47, found \"",
                   list.substr(0, 40), "\""));
}

bool ParseNumber(absl::string_view text, int& number) {
  return !text.empty() && text.front() != '+' && text.front() != '-' &&
         absl::SimpleAtoi(text, &number) && number < kMaxNumber;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(absl::string_view list) {
  std::vector<int> cpus;
  if (list.empty()) return cpus;
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool is_range = ends.first.size() != part.size();
    int first = 0, last = 0;
    if (!ParseNumber(ends.first, first)) return BadList(list);
    last = first;
    if (is_range && !ParseNumber(ends.second, last)) return BadList(list);
    if (last < first || (!cpus.empty() && first <= cpus.back())) return BadList(list);
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

std::string FormatCpuList(const std::vector<int>& cpus) {
  std::string list;
  for (size_t i = 0; i < cpus.size();) {
    size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    absl::StrAppend(&list, list.empty() ? "" : ",", cpus[i]);
    if (last > i) absl::StrAppend(&list, "-", cpus[last]);
    i = last + 1;
  }
  return list;
}

absl::StatusOr<std::vector<int>> ParseCpuMask(absl::string_view mask) {
  const std::vector<absl::string_view> words = absl::StrSplit(mask, ',');
  if (words.size() > kMaxWords) return absl::InvalidArgumentError("a mask of over 1024 words");
  std::vector<int> cpus;
  for (size_t i = 0; i < words.size(); ++i) {
    const absl::string_view word = words[words.size() - 1 - i];
    const absl::string_view digits = absl::StripPrefix(word, "0x");
    uint32_t bits = 0;
    if (digits.size() > 8 || (!digits.empty() && !absl::SimpleHexAtoi(digits, &bits))) {
      return absl::InvalidArgumentError(
          absl::StrCat("wanted words of 8 hexadecimal digits, found \"", word.substr(0, 40), "\""));
    }
    for (int bit = 0; bit < 32; ++bit) {
      if (bits >> bit & 1) cpus.push_back(static_cast<int>(i) * 32 + bit);
    }
  }
  return cpus;
}

}  // namespace tprun
