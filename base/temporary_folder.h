#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// A folder of its own for files of short life, gone with all that is in it when the object ends.
// Lies in $TMPDIR, else in /tmp; nobody but the user may look into it.
class TemporaryFolder {
 public:
  // `name` begins the folder's name. Errors: internal, with the cause, where none can be made.
  static absl::StatusOr<TemporaryFolder> Make(absl::string_view name);

  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&& other) noexcept;
  ~TemporaryFolder();

  const std::string& path() const { return path_; }
  std::string File(absl::string_view name) const;

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;  // empty: moved away
};

}  // namespace tprun
