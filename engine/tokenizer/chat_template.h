#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/tokenizer/jinja.h"

namespace tprun {

struct ChatMessage {
  std::string role;  // "system" (only as the first), "user", "assistant"
  std::string content;
};

// What a model's template has to know.
struct ChatStyle {
  std::string source;  // the checkpoint's Jinja template
  // Texts of special tokens by the names that templates have for them: "bos_token".
  std::vector<std::pair<std::string, std::string>> tokens;
  absl::Time now;
};

// How a checkpoint wants a conversation to be written: its Jinja template.
class ChatTemplate {
 public:
  // InvalidArgument tells line and column of what is wrong or not supported.
  static absl::StatusOr<ChatTemplate> Parse(ChatStyle style);

  // The prompt, to be encoded with special tokens parsed and no BOS added; those that messages
  // spell are to be marked before (Tokenizer::MarkSpecial). InvalidArgument when roles do not
  // alternate, the last message is not a user's, or the template refuses them.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages) const;

 private:
  ChatTemplate(ChatStyle style, JinjaTemplate jinja)
      : style_(std::move(style)), jinja_(std::move(jinja)) {}

  ChatStyle style_;
  JinjaTemplate jinja_;
};

// The template of a model: chat_template of a GGUF's metadata or of tokenizer_config.json, else
// chat_template.jinja or chat_template.json in the folder. NotFound when it has none.
absl::StatusOr<ChatTemplate> LoadChatTemplate(const Checkpoint& checkpoint);

// Its text as the model has it, "" where it has none.
absl::StatusOr<std::string> ChatTemplateSource(const Checkpoint& checkpoint);

}  // namespace tprun
