#include "engine/tokenizer/chat_template.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/status_macros.h"
#include "engine/tokenizer/side_files.h"
#include "engine/tokenizer/tokenizer.h"

namespace tprun {
namespace {

absl::Status CheckRoles(absl::Span<const ChatMessage> messages) {
  const size_t first = !messages.empty() && messages[0].role == "system" ? 1 : 0;
  for (size_t i = first; i < messages.size(); ++i) {
    const absl::string_view wanted = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role == wanted) continue;
    return absl::InvalidArgumentError(absl::StrCat("message ", i + 1, ": wanted the role \"",
                                                   wanted, "\", found \"", messages[i].role, "\""));
  }
  if (messages.size() > first && messages.back().role == "user") return absl::OkStatus();
  return absl::InvalidArgumentError("a conversation ends with a user's message");
}

// "chat_template" is a text, or a list of named ones, of which "default" counts.
absl::StatusOr<std::string> TemplateOf(const Json& config, const std::string& path) {
  const Json* member = FindMember(config, "chat_template");
  if (member == nullptr) return std::string();
  if (member->is_string()) return member->get<std::string>();
  if (member->is_array()) {
    for (const Json& entry : *member) {
      ASSIGN_OR_RETURN(const std::string name, GetStringOr(entry, "name", ""));
      if (name == "default") return GetString(entry, "template");
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": \"chat_template\": wanted a text or a list with one named \"default\""));
}

// A special token of tokenizer_config.json: a text or an object with "content".
std::string TokenText(const Json& config, absl::string_view key) {
  const Json* token = FindMember(config, key);
  if (token != nullptr && token->is_object()) token = FindMember(*token, "content");
  return token != nullptr && token->is_string() ? token->get<std::string>() : "";
}

std::string GgufTokenText(const Json& metadata, absl::string_view key) {
  const Json* tokens = FindMember(metadata, "tokenizer.ggml.tokens");
  const Json* id = FindMember(metadata, absl::StrCat("tokenizer.ggml.", key, "_token_id"));
  if (tokens == nullptr || id == nullptr || !tokens->is_array() || !id->is_number_integer()) {
    return "";
  }
  const int64_t index = id->get<int64_t>();
  if (index < 0 || index >= static_cast<int64_t>(tokens->size())) return "";
  const Json& text = (*tokens)[index];
  return text.is_string() ? text.get<std::string>() : "";
}

// Templates may take bos_token and eos_token for granted.
void PutToken(absl::string_view name, std::string text, ChatStyle& style) {
  if (text.empty() && name != "bos_token" && name != "eos_token") return;
  style.tokens.emplace_back(std::string(name), std::move(text));
}

absl::StatusOr<ChatStyle> GgufStyle(const Checkpoint& checkpoint) {
  ChatStyle style;
  ASSIGN_OR_RETURN(style.source, GetStringOr(checkpoint.metadata(), "tokenizer.chat_template", ""));
  for (const auto& [name, key] : {std::pair("bos_token", "bos"),
                                  {"eos_token", "eos"},
                                  {"unk_token", "unknown"},
                                  {"pad_token", "padding"}}) {
    PutToken(name, GgufTokenText(checkpoint.metadata(), key), style);
  }
  return style;
}

// A file of its own comes before the tokenizer's entry, as in transformers, and that before an
// older chat_template.json; "" when there is none of them.
absl::StatusOr<std::string> FolderTemplate(const std::string& directory,
                                           const Json& tokenizer_config) {
  const std::string jinja = JoinPath(directory, "chat_template.jinja");
  if (FileExists(jinja)) return ReadFile(jinja);
  ASSIGN_OR_RETURN(std::string entry,
                   TemplateOf(tokenizer_config, JoinPath(directory, "tokenizer_config.json")));
  if (!entry.empty()) return entry;
  const std::string json = JoinPath(directory, "chat_template.json");
  if (!FileExists(json)) return std::string();
  ASSIGN_OR_RETURN(const Json config, ReadJsonFile(json));
  return TemplateOf(config, json);
}

absl::StatusOr<ChatStyle> FolderStyle(const Checkpoint& checkpoint) {
  const std::string directory = checkpoint.directory();
  ASSIGN_OR_RETURN(const SideFiles side, ReadSideFiles(directory, checkpoint.config()));
  ChatStyle style;
  ASSIGN_OR_RETURN(style.source, FolderTemplate(directory, side.tokenizer_config));
  for (const char* name : {"bos_token", "eos_token"}) {
    PutToken(name, TokenText(side.tokenizer_config, name), style);
  }
  if (!side.tokenizer_config.is_object()) return style;
  for (const auto& [name, value] : side.tokenizer_config.items()) {
    if (!absl::EndsWith(name, "_token") || name == "bos_token" || name == "eos_token") continue;
    PutToken(name, TokenText(side.tokenizer_config, name), style);
  }
  return style;
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(ChatStyle style) {
  ASSIGN_OR_RETURN(JinjaTemplate jinja, JinjaTemplate::Parse(style.source));
  return ChatTemplate(std::move(style), std::move(jinja));
}

// The variables are those that Hugging Face transformers gives a template.
absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages) const {
  RETURN_IF_ERROR(CheckRoles(messages));
  JinjaList list;
  for (const ChatMessage& message : messages) {
    JinjaDict entry;
    entry.Put("role", message.role);
    entry.Put("content", message.content);
    list.emplace_back(std::move(entry));
  }
  JinjaDict variables;
  for (const auto& [name, text] : style_.tokens) variables.Put(name, text);
  variables.Put("messages", std::move(list));
  variables.Put("add_generation_prompt", true);
  variables.Put("tools", JinjaValue::None{});
  variables.Put("documents", JinjaValue::None{});
  return jinja_.Render(variables, style_.now);
}

absl::StatusOr<std::string> ChatTemplateSource(const Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == CheckpointKind::kGguf;
  ASSIGN_OR_RETURN(ChatStyle style, gguf ? GgufStyle(checkpoint) : FolderStyle(checkpoint));
  return std::move(style.source);
}

absl::StatusOr<ChatTemplate> LoadChatTemplate(const Checkpoint& checkpoint) {
  const bool gguf = checkpoint.kind() == CheckpointKind::kGguf;
  ASSIGN_OR_RETURN(ChatStyle style, gguf ? GgufStyle(checkpoint) : FolderStyle(checkpoint));
  if (style.source.empty()) {
    return absl::NotFoundError(
        absl::StrCat(checkpoint.path(),
                     ": no chat template: this may be a base model, made to go "
                     "on with a text rather than to converse"));
  }
  style.now = absl::Now();
  absl::StatusOr<ChatTemplate> result = ChatTemplate::Parse(std::move(style));
  if (!result.ok()) return Annotate(result.status(), checkpoint.path());
  return result;
}

}  // namespace tprun
