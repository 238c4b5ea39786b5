#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tprun {

// "cannot WHAT PATH: ..." for `error`, an errno value: NotFound, PermissionDenied, InvalidArgument
// for a path that cannot be one, else Internal.
absl::Status FileError(absl::string_view what, const std::string& path, int error);

}  // namespace tprun
