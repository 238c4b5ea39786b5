#include "base/temporary_folder.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"

namespace tprun {

absl::StatusOr<TemporaryFolder> TemporaryFolder::Make(absl::string_view name) {
  const char* base = std::getenv("TMPDIR");
  std::string pattern =
      JoinPath(base == nullptr || *base == 0 ? "/tmp" : base, absl::StrCat(name, "-XXXXXX"));
  if (mkdtemp(pattern.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("cannot make a folder like ", pattern, ": ",
                                            std::strerror(errno), "; set TMPDIR"));
  }
  return TemporaryFolder(std::move(pattern));
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept
    : path_(std::exchange(other.path_, "")) {}

TemporaryFolder& TemporaryFolder::operator=(TemporaryFolder&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::File(absl::string_view name) const { return JoinPath(path_, name); }

}  // namespace tprun
