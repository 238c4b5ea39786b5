#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace tprun {

// nlohmann's JSON with Status instead of exceptions. Objects keep the order of their keys, so that
// what we write is stable and readable.
using Json = nlohmann::ordered_json;

// InvalidArgument tells the position and what was expected there. Nesting deeper than 256 and
// invalid UTF-8 are errors, not crashes.
absl::StatusOr<Json> ParseJson(absl::string_view text);
absl::StatusOr<Json> ReadJsonFile(const std::string& path);

// Typed members of an object. The error names the key, what was wanted and what was found:
// `"hidden_size": wanted an integer, found "4096" (string)`.
absl::StatusOr<int64_t> GetInt(const Json& object, absl::string_view key);
absl::StatusOr<double> GetDouble(const Json& object, absl::string_view key);
absl::StatusOr<bool> GetBool(const Json& object, absl::string_view key);
absl::StatusOr<std::string> GetString(const Json& object, absl::string_view key);

// As above, with a value for a member that is absent or null. A member of a wrong type is an error.
absl::StatusOr<int64_t> GetIntOr(const Json& object, absl::string_view key, int64_t otherwise);
absl::StatusOr<double> GetDoubleOr(const Json& object, absl::string_view key, double otherwise);
absl::StatusOr<bool> GetBoolOr(const Json& object, absl::string_view key, bool otherwise);
absl::StatusOr<std::string> GetStringOr(const Json& object, absl::string_view key,
                                        absl::string_view otherwise);

// The member, or nullptr when it is absent or null (or `object` is no object).
const Json* FindMember(const Json& object, absl::string_view key);

}  // namespace tprun
