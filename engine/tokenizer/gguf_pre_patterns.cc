#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/tokenizer/pre_tokenizer.h"

// Which patterns a tokenizer.ggml.pre stands for (ggml-org/llama.cpp: src/llama-vocab.cpp; the
// patterns themselves are those of the models' tokenizer.json).

namespace tprun {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

const char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

namespace {

constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr char kTekkenPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// OpenAI's o200k_base, as in gpt-oss's tokenizer.json.
constexpr char kGpt4oPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";

constexpr char kDeepseek3Pattern[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Entry {
  std::vector<const char*> names;
  std::vector<std::string> patterns;
};

std::vector<Entry> MakeEntries() {
  return {
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {{"gpt-2", "mpt", "olmo", "phi-2", "jina-es", "jina-de"}, {kGpt2Pattern}},
      {{"llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "chatglm-bpe", "glm4"},
       {kLlama3Pattern}},
      {{"qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"}, {kQwen2Pattern}},
      {{"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"},
       {R"(\p{N})", kGpt2Pattern}},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}},
      {{"deepseek-coder"},
       {"[\\r\\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
        R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)", R"(\p{N})"}},
      {{"deepseek-v3"},
       {R"(\p{N}{1,3})", R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)",
        kDeepseek3Pattern}},
      {{"tekken"}, {kTekkenPattern}},
      {{"gpt-4o", "llama4"}, {kGpt4oPattern}},
  };
}

// Adds the patterns that a part of tokenizer.json's "pre_tokenizer" cuts by.
absl::Status AddPatterns(const Json& json, std::vector<std::string>& patterns) {
  ASSIGN_OR_RETURN(const std::string type, GetStringOr(json, "type", ""));
  if (type == "Sequence") {
    const Json* list = FindMember(json, "pretokenizers");
    if (list == nullptr || !list->is_array()) return absl::OkStatus();
    for (const Json& part : *list) {
      // They do not nest in practice, and need not here.
      if (FindMember(part, "pretokenizers") == nullptr) {
        RETURN_IF_ERROR(AddPatterns(part, patterns));
      }
    }
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    ASSIGN_OR_RETURN(const bool use_regex, GetBoolOr(json, "use_regex", true));
    if (use_regex) patterns.push_back(kGpt2Pattern);
    return absl::OkStatus();
  }
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, GetBoolOr(json, "individual_digits", false));
    patterns.push_back(individual ? R"(\p{N})" : R"(\p{N}+)");
    return absl::OkStatus();
  }
  const Json* pattern = FindMember(json, "pattern");
  if (type != "Split" || pattern == nullptr) return absl::NotFoundError(type);
  ASSIGN_OR_RETURN(std::string regex, GetString(*pattern, "Regex"));
  patterns.push_back(std::move(regex));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> GgufPreName(const Json& pre_tokenizer) {
  std::vector<std::string> patterns;
  const absl::Status status = AddPatterns(pre_tokenizer, patterns);
  for (const Entry& entry : MakeEntries()) {
    if (status.ok() && entry.patterns == patterns) return std::string(entry.names[0]);
  }
  return absl::NotFoundError(
      absl::StrCat("GGUF has no name for the way in which this tokenizer cuts text (",
                   absl::StrJoin(patterns, " then ").substr(0, 120), ")"));
}

absl::StatusOr<std::vector<std::string>> GgufPrePatterns(absl::string_view name) {
  std::vector<std::string> known;
  for (const Entry& entry : MakeEntries()) {
    if (std::find(entry.names.begin(), entry.names.end(), name) != entry.names.end()) {
      return entry.patterns;
    }
    known.insert(known.end(), entry.names.begin(), entry.names.end());
  }
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.pre \"", name,
                                                 "\" is not supported; supported are ",
                                                 absl::StrJoin(known, ", ")));
}

}  // namespace tprun
