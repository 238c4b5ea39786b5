#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

// RETURN_IF_ERROR(expr): leaves the function with expr's status when it is not OK.
// ASSIGN_OR_RETURN(T x, expr): takes the value out of a StatusOr, or leaves with its status.
//
//   ASSIGN_OR_RETURN(auto file, RandomAccessFile::Open(path));
//   RETURN_IF_ERROR(file->Read(0, header));
#define TPRUN_CONCAT_INNER(a, b) a##b
#define TPRUN_CONCAT(a, b) TPRUN_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                    \
  do {                                           \
    ::absl::Status tprun_status = (expr);        \
    if (!tprun_status.ok()) return tprun_status; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(TPRUN_CONCAT(tprun_status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto result = (expr);                           \
  if (!result.ok()) return result.status();       \
  lhs = *std::move(result)

namespace tprun {

// The same error with `context` in front: "model.safetensors: header length ...".
inline absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace tprun
