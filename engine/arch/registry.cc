#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/arch/architecture.h"

namespace tprun {

extern const Architecture kGemma;
extern const Architecture kDeepSeek;
extern const Architecture kGemma2;
extern const Architecture kGemma3;
extern const Architecture kGlm;
extern const Architecture kChatGlm;
extern const Architecture kGptOss;
extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kMixtral;
extern const Architecture kMoshi;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;

absl::Span<const Architecture* const> AllArchitectures() {
  static constexpr const Architecture* kAll[] = {
      &kLlama,   &kMistral, &kQwen2,   &kQwen3,    &kGemma,    &kGemma2,   &kGemma3, &kGlm,
      &kChatGlm, &kPhi3,    &kMixtral, &kQwen2Moe, &kQwen3Moe, &kDeepSeek, &kGptOss, &kMoshi};
  return kAll;
}

absl::StatusOr<const Architecture*> FindArchitecture(const Json& config) {
  ASSIGN_OR_RETURN(const std::string model_type, GetStringOr(config, "model_type", ""));
  // Moshi's own configs do not name their architecture.
  if (model_type.empty() && FindMember(config, "depformer_dim") != nullptr) return &kMoshi;
  std::vector<absl::string_view> supported;
  for (const Architecture* architecture : AllArchitectures()) {
    for (absl::string_view type : architecture->model_types) {
      if (type == model_type) return architecture;
      supported.push_back(type);
    }
  }
  if (model_type.empty()) {
    return absl::InvalidArgumentError(
        "the config has no \"model_type\", so its architecture is unknown");
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown architecture \"", model_type, "\"; supported: ", absl::StrJoin(supported, ", ")));
}

}  // namespace tprun
