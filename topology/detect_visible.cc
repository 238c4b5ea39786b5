#include <cstdlib>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "topology/detect_gpus.h"

namespace tprun {
namespace {

std::optional<std::string> Variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

// The only one of `uuids` that begins with `entry`, which is enough for CUDA; -1 if there are none
// or several.
int FindUuid(absl::string_view entry, absl::Span<const std::string> uuids) {
  int found = -1;
  for (size_t i = 0; i < uuids.size(); ++i) {
    if (!absl::StartsWith(uuids[i], entry)) continue;
    if (found >= 0) return -1;
    found = static_cast<int>(i);
  }
  return found;
}

// The index an entry names, -1 if none.
int FindEntry(absl::string_view entry, absl::Span<const std::string> uuids,
              absl::Span<const std::string> instance_uuids) {
  int index;
  if (absl::SimpleAtoi(entry, &index)) {
    return index >= 0 && index < static_cast<int>(uuids.size()) ? index : -1;
  }
  if (absl::StartsWith(entry, "GPU-")) return FindUuid(entry, uuids);
  if (!absl::StartsWith(entry, "MIG-")) return -1;
  index = FindUuid(entry, instance_uuids);
  return index < 0 ? -1 : index + static_cast<int>(uuids.size());
}

}  // namespace

GpuSource GpuSource::OfEnvironment() {
  GpuSource source;
  source.cuda_visible_devices = Variable("CUDA_VISIBLE_DEVICES");
  source.cuda_device_order = Variable("CUDA_DEVICE_ORDER");
  // For tests of the whole program: another library in the place of the driver's.
  source.nvml_library = Variable("TPRUN_NVML_LIBRARY").value_or(source.nvml_library);
  return source;
}

std::vector<int> SelectVisible(absl::string_view value, absl::Span<const std::string> uuids,
                               absl::Span<const std::string> instance_uuids,
                               std::vector<std::string>& notes) {
  std::vector<int> selected;
  std::set<int> seen;
  for (absl::string_view part : absl::StrSplit(value, ',')) {
    const absl::string_view entry = absl::StripAsciiWhitespace(part);
    const int index = FindEntry(entry, uuids, instance_uuids);
    if (index < 0) {
      if (!entry.empty() && entry != "-1") {
        notes.push_back(absl::StrCat("CUDA_VISIBLE_DEVICES: \"", entry, "\" is none of the ",
                                     uuids.size(), " GPUs and ", instance_uuids.size(),
                                     " MIG instances; it and all behind it are not used"));
      }
      break;
    }
    if (!seen.insert(index).second) {
      notes.push_back("CUDA_VISIBLE_DEVICES names a GPU twice: CUDA then shows none");
      return {};
    }
    selected.push_back(index);
  }
  return selected;
}

}  // namespace tprun
