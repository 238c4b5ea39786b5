#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/json.h"

namespace tprun {

// `text` for an error message: quoted, control characters escaped, at most 80 bytes of it.
std::string Quoted(absl::string_view text);

// "[2, 3]".
std::string ShapeText(absl::Span<const int64_t> shape);

// The value of a member as JSON, cut after 80 bytes; "none" when there is none.
std::string MemberText(const Json& object, absl::string_view key);

}  // namespace tprun
