#include "launcher/conversation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

// One of Unicode's noncharacters U+FDD0 to U+FDEF that no message has.
absl::StatusOr<std::string> MarkFor(const std::vector<ChatMessage>& messages) {
  for (int last = 0x90; last <= 0xaf; ++last) {
    const std::string mark = {'\xEF', '\xB7', static_cast<char>(last)};
    const auto has = [&](const auto& message) { return absl::StrContains(message.content, mark); };
    if (std::none_of(messages.begin(), messages.end(), has)) return mark;
  }
  return absl::InvalidArgumentError("the messages have every noncharacter from U+FDD0 to U+FDEF");
}

}  // namespace

Conversation::Conversation(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                           std::string system, int64_t context, int64_t room)
    : template_(chat_template),
      tokenizer_(tokenizer),
      system_(std::move(system)),
      context_(context),
      room_(room) {
  Reset();
}

void Conversation::Reset() {
  messages_.clear();
  if (!system_.empty()) messages_.push_back({"system", system_});
}

// Special tokens are those of the template alone: what is typed, and what the model spelled, is
// text, lest it end its message and begin another one.
absl::StatusOr<std::vector<int32_t>> Conversation::Encode() const {
  ASSIGN_OR_RETURN(const std::string mark, MarkFor(messages_));
  std::vector<ChatMessage> marked = messages_;
  for (ChatMessage& message : marked) {
    message.content = tokenizer_.MarkSpecial(message.content, mark);
  }
  ASSIGN_OR_RETURN(const std::string text, template_.Render(marked));
  return tokenizer_.Encode(text, {.add_bos = false, .parse_special = true, .mark = mark});
}

absl::StatusOr<Turn> Conversation::Ask(std::string text) {
  const std::vector<ChatMessage> before = messages_;
  messages_.push_back({"user", std::move(text)});
  const size_t first = system_.empty() ? 0 : 1;
  Turn turn;
  while (true) {
    absl::StatusOr<std::vector<int32_t>> ids = Encode();
    if (!ids.ok()) messages_ = before;
    ASSIGN_OR_RETURN(turn.ids, std::move(ids));
    if (turn.ids.empty()) {
      messages_ = before;
      return absl::InvalidArgumentError("the chat template makes no text of this conversation");
    }
    const auto size = static_cast<int64_t>(turn.ids.size());
    if (size + room_ <= context_) break;
    if (messages_.size() == first + 1) {
      messages_ = before;
      return absl::InvalidArgumentError(
          absl::StrCat("the message has, with what stands around it, ", size,
                       " tokens, but the context of ", context_, " leaves room for at most ",
                       context_ - room_, ": shorten it or give a larger --context"));
    }
    messages_.erase(messages_.begin() + first, messages_.begin() + first + 2);
    ++turn.dropped;
  }
  const auto most = std::min(cached_.size(), turn.ids.size() - 1);
  const auto differ = std::mismatch(cached_.begin(), cached_.begin() + most, turn.ids.begin());
  turn.reuse = differ.first - cached_.begin();
  return turn;
}

void Conversation::Answer(std::string text, std::vector<int32_t> cached) {
  messages_.push_back({"assistant", std::move(text)});
  cached_ = std::move(cached);
}

void Conversation::Withdraw(const Turn& turn) {
  messages_.pop_back();
  cached_.assign(turn.ids.begin(), turn.ids.begin() + turn.reuse);
}

}  // namespace tprun
