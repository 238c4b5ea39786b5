#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

struct ChatMessage {
  std::string role;  // "system" (only as the first), "user", "assistant"
  std::string content;
};

// What a family of templates has to know.
struct ChatStyle {
  std::string source;  // the checkpoint's Jinja template
  std::string bos;     // text of the BOS and EOS tokens, "" where there is none
  std::string eos;
  std::string date;  // today as templates print it: "20 Nov 2026"
};

// One well-known way to write a conversation. A new one is an entry of ChatFamilies().
struct ChatFamily {
  absl::string_view name;  // "chatml"
  bool (*matches)(absl::string_view source);
  // The text up to where the assistant's answer begins. Messages alternate and end with a user's.
  absl::StatusOr<std::string> (*render)(const ChatStyle& style,
                                        absl::Span<const ChatMessage> messages);
};
absl::Span<const ChatFamily> ChatFamilies();

// How a checkpoint wants a conversation to be written. Its Jinja template is not interpreted: it is
// recognised as one of the well-known ones by the literals in it, and any other is refused.
class ChatTemplate {
 public:
  // InvalidArgument lists the families when `style.source` is none of them.
  static absl::StatusOr<ChatTemplate> Recognise(ChatStyle style);

  absl::string_view family() const { return family_->name; }

  // The prompt, to be encoded with special tokens parsed and no BOS added. InvalidArgument when
  // roles do not alternate, the last message is not a user's, or the family knows no system role.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages) const;

 private:
  ChatTemplate(ChatStyle style, const ChatFamily* family)
      : style_(std::move(style)), family_(family) {}

  ChatStyle style_;
  const ChatFamily* family_;
};

// The template of a model: chat_template of a GGUF's metadata or of tokenizer_config.json, else
// chat_template.jinja or chat_template.json in the folder. NotFound when it has none.
absl::StatusOr<ChatTemplate> LoadChatTemplate(const Checkpoint& checkpoint);

// Its text as the model has it, "" where it has none.
absl::StatusOr<std::string> ChatTemplateSource(const Checkpoint& checkpoint);

}  // namespace tprun
