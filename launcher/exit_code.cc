#include "launcher/exit_code.h"

#include "absl/strings/str_cat.h"
#include "launcher/terminal.h"

namespace tprun {

int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kOutOfRange:
      return kExitBadInput;
    case absl::StatusCode::kResourceExhausted:
      return kExitDoesNotFit;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitRankLost;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    default:
      return kExitFailed;
  }
}

int ReportStatus(const absl::Status& status) {
  const bool told = status.ok() || status.message().empty();
  if (!told) WriteError(absl::StrCat("tprun: ", status.message()));
  return ExitCodeOf(status);
}

}  // namespace tprun
