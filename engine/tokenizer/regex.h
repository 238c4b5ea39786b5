#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// A pattern over Unicode text (PCRE2 with UTF and UCP, compiled to machine code where it can be).
// Thread-safe after creation.
class Regex {
 public:
  // InvalidArgument with pattern, position and reason.
  static absl::StatusOr<std::unique_ptr<Regex>> Compile(absl::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Calls `found` with begin and end of each match, left to right, empty ones too. Bytes that are
  // not UTF-8 match nothing. ResourceExhausted when a match takes too many steps.
  absl::Status ForEachMatch(absl::string_view text,
                            const std::function<void(size_t begin, size_t end)>& found) const;

 private:
  struct State;
  explicit Regex(std::unique_ptr<State> state);
  absl::Status MatchValidRun(absl::string_view text, size_t offset,
                             const std::function<void(size_t, size_t)>& found) const;

  std::unique_ptr<State> state_;
};

// A pattern that matches exactly `text`.
std::string QuoteRegex(absl::string_view text);

}  // namespace tprun
