#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/tokenizer/jinja_value.h"

namespace tprun {

struct JinjaProgram;

// A template of the part of Jinja that chat templates use, in the environment that Hugging Face
// transformers gives them: trim_blocks, lstrip_blocks, loop controls, raise_exception,
// strftime_now, namespace. It includes nothing, calls nothing outside and ends within bounds.
//
//   ASSIGN_OR_RETURN(const JinjaTemplate greeting, JinjaTemplate::Parse("Hi {{ name|trim }}!"));
//   ASSIGN_OR_RETURN(const std::string text, greeting.Render({{{"name", " you"}}}, absl::Now()));
class JinjaTemplate {
 public:
  // InvalidArgument tells line, column and what is wrong or not supported there.
  static absl::StatusOr<JinjaTemplate> Parse(absl::string_view source);

  // InvalidArgument tells line, column and what went wrong, or what the template raised.
  // `now` is what strftime_now tells.
  absl::StatusOr<std::string> Render(const JinjaDict& variables, absl::Time now) const;

 private:
  explicit JinjaTemplate(std::shared_ptr<const JinjaProgram> program)
      : program_(std::move(program)) {}

  std::shared_ptr<const JinjaProgram> program_;
};

}  // namespace tprun
