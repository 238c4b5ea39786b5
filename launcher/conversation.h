#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace tprun {

// What to put through the model for the next answer.
struct Turn {
  std::vector<int32_t> ids;
  int64_t reuse = 0;  // of them are in the cache from the turn before
  int dropped = 0;    // old exchanges left out because the context is full
};

// A conversation as messages and as what the KV cache of its sequence holds.
class Conversation {
 public:
  // `system` may be empty. `room`: positions to keep free for an answer.
  Conversation(const ChatTemplate& chat_template, const Tokenizer& tokenizer, std::string system,
               int64_t context, int64_t room);

  // The user says `text`: the prompt for the answer. The oldest exchanges are left out, for good,
  // when the whole does not fit. InvalidArgument when the message alone does not; then it is not
  // part of the conversation.
  absl::StatusOr<Turn> Ask(std::string text);

  // The answer to the last question. `cached`: the tokens that the cache holds now.
  void Answer(std::string text, std::vector<int32_t> cached);

  // The last question was not answered: it is not part of the conversation. The cache holds what
  // was reused for it.
  void Withdraw(const Turn& turn);

  // Begins anew.
  void Reset();

 private:
  absl::StatusOr<std::vector<int32_t>> Encode() const;

  const ChatTemplate& template_;
  const Tokenizer& tokenizer_;
  std::string system_;
  int64_t context_;
  int64_t room_;
  std::vector<ChatMessage> messages_;
  std::vector<int32_t> cached_;
};

}  // namespace tprun
