#include "engine/tokenizer/jinja_work.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tprun {

thread_local JinjaWork* JinjaWork::current_ = nullptr;

absl::Status JinjaWork::Spend(int64_t steps) {
  if (current_ == nullptr) return absl::OkStatus();
  // No further than just above the bound: it must not wrap around.
  const int64_t most = current_->most_;
  current_->steps_ += std::min(steps, most + 1 - current_->steps_);
  if (current_->steps_ <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("more than ", most, " steps"));
}

}  // namespace tprun
