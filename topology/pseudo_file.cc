#include "topology/pseudo_file.h"

#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace tprun {

std::string ReadPseudoFile(const std::string& path) {
  constexpr size_t kMaxBytes = size_t{4} << 20;
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  std::string text;
  if (file == nullptr) return text;
  char chunk[4096];
  size_t count;
  while (text.size() < kMaxBytes && (count = std::fread(chunk, 1, sizeof(chunk), file.get())) > 0) {
    text.append(chunk, count);
  }
  return text;
}

std::string ReadPseudoLine(const std::string& path) {
  const std::string text = ReadPseudoFile(path);
  return std::string(absl::StripAsciiWhitespace(text));
}

std::vector<std::string> ListFolder(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), &closedir);
  if (folder == nullptr) return names;
  while (const dirent* entry = readdir(folder.get())) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

int64_t PseudoFileField(absl::string_view text, absl::string_view key) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    for (size_t i = 0; i + 1 < words.size(); ++i) {
      if (absl::StripSuffix(words[i], ":") != key) continue;
      int64_t value;
      if (!absl::SimpleAtoi(words[i + 1], &value)) return -1;
      const bool kilobytes = i + 2 < words.size() && words[i + 2] == "kB";
      if (!kilobytes) return value;
      if (value < 0 || value > std::numeric_limits<int64_t>::max() / 1024) return -1;
      return value * 1024;
    }
  }
  return -1;
}

}  // namespace tprun
