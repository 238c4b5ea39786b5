#include "launcher/chat.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "engine/runtime/generate.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "launcher/chat_input.h"
#include "launcher/conversation.h"
#include "launcher/spawn.h"
#include "launcher/terminal.h"

namespace tprun {
namespace {

constexpr char kHelp[] =
    "/reset begins anew, /exit or Ctrl-D leaves, Ctrl-C ends an answer; a \\ at the end of a line "
    "goes on with the next";

// While the user thinks, the ranks meet this often, so that none takes another for lost.
constexpr int kMeetingMs = 200;  // below the shortest --timeout

enum class Next : int64_t { kWait, kTurn, kEnd };

// What rank 0 alone has.
struct Speaker {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> style;
  std::unique_ptr<Conversation> conversation;
};

int64_t RoomForAnswer(const ChatOptions& options, int64_t context) {
  const int64_t wanted = options.max_tokens >= 0 ? options.max_tokens : 256;
  return std::max<int64_t>(1, std::min(wanted, context / 4));
}

absl::StatusOr<Speaker> MakeSpeaker(const ChatOptions& options, const PreparedModel& model) {
  Speaker speaker;
  ASSIGN_OR_RETURN(speaker.tokenizer, LoadTokenizer(*model.checkpoint));
  if (speaker.tokenizer->vocab_size() > model.spec.vocab) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tokenizer has ", speaker.tokenizer->vocab_size(), " tokens, but the model only ",
        model.spec.vocab, ": they do not belong together"));
  }
  ASSIGN_OR_RETURN(ChatTemplate style, LoadChatTemplate(*model.checkpoint));
  speaker.style = std::make_unique<ChatTemplate>(std::move(style));
  const int64_t context = model.plan.options.context;
  speaker.conversation = std::make_unique<Conversation>(
      *speaker.style, *speaker.tokenizer, options.system, context, RoomForAnswer(options, context));
  return speaker;
}

// Rank 0's side of the conversation.
class ChatPartner {
 public:
  ChatPartner(const ChatOptions& options, Speaker speaker)
      : options_(options), speaker_(std::move(speaker)), first_(options.first_message) {
    if (options.quiet) return;
    WriteLog(kHelp);
  }

  // What comes next; of kTurn, turn() is what to answer.
  absl::StatusOr<Next> Listen() {
    if (!first_.empty()) return Say(std::exchange(first_, ""));
    if (!asked_) RETURN_IF_ERROR(Prompt(message_.empty() ? "> " : "  "));
    asked_ = true;
    std::string line;
    switch (input_.Next(kMeetingMs, &line)) {
      case ChatInput::Event::kNothing:
        return Next::kWait;
      case ChatInput::Event::kInterrupt:
        return Leave();
      case ChatInput::Event::kEnd:
        if (!message_.empty()) return Say(std::exchange(message_, ""));
        return Leave();
      case ChatInput::Event::kLine:
        break;
    }
    asked_ = false;
    return Line(line);
  }

  const Turn& turn() const { return turn_; }

  GenerateOptions Wanted(int64_t context) {
    GenerateOptions wanted;
    wanted.max_tokens = options_.max_tokens >= 0 ? options_.max_tokens : context;
    wanted.sampler = options_.sampler;
    wanted.reuse = turn_.reuse;
    wanted.stop = [this] { return Stopped(); };
    const auto ends = speaker_.tokenizer->end_ids();
    wanted.end_ids.assign(ends.begin(), ends.end());
    return wanted;
  }

  void BeginAnswer() {
    decoder_ = std::make_unique<StreamDecoder>(*speaker_.tokenizer, /*after_prompt=*/false);
    answer_.clear();
    stopped_ = false;
  }

  bool Push(int32_t id) { return Write(decoder_->Push(id)) && !Stopped(); }

  absl::Status EndAnswer(const GenerateResult& result) {
    Write(decoder_->Finish());
    Write("\n");
    if (result.stopped) {
      speaker_.conversation->Withdraw(turn_);
      if (!options_.quiet) WriteLog("(interrupted before the answer; the message is forgotten)");
      return status_;
    }
    std::vector<int32_t> cached = turn_.ids;
    cached.insert(cached.end(), result.ids.begin(), result.ids.begin() + result.decode_steps);
    answer_.pop_back();
    speaker_.conversation->Answer(answer_, std::move(cached));
    if (options_.quiet || !StdinIsTerminal()) return status_;
    const char* why = stopped_ ? ", interrupted" : result.ended ? "" : ", cut off at the limit";
    WriteLog(absl::StrFormat(
        "(%d new tokens of the prompt in %.1f s; %d tokens%s%s)", result.fresh_tokens,
        result.prefill_seconds, result.ids.size(),
        result.decode_steps > 0
            ? absl::StrFormat(", %.1f tokens/s", result.decode_steps / result.decode_seconds)
            : "",
        why));
    return status_;
  }

  // Nobody reads the answers any more, or they cannot be written.
  bool gone() const { return gone_; }

 private:
  // Whether Ctrl-C came since the answer was asked for.
  bool Stopped() {
    stopped_ = input_.Interrupted() || stopped_;
    return stopped_;
  }

  absl::StatusOr<Next> Line(const std::string& line) {
    if (message_.empty()) {
      if (line == "/exit" || line == "/bye") return Next::kEnd;
      if (line == "/reset") speaker_.conversation->Reset();
      if (line == "/help") WriteLog(kHelp);
      if (line.empty() || line == "/reset" || line == "/help") return Next::kWait;
    }
    absl::string_view text = line;
    const bool goes_on = absl::ConsumeSuffix(&text, "\\");
    absl::StrAppend(&message_, text);
    if (goes_on) {
      message_.push_back('\n');
      return Next::kWait;
    }
    return Say(std::exchange(message_, ""));
  }

  absl::StatusOr<Next> Say(std::string message) {
    absl::StatusOr<Turn> turn = speaker_.conversation->Ask(std::move(message));
    if (!turn.ok()) {
      // At a terminal one can say it differently; a script has failed.
      if (!StdinIsTerminal()) return turn.status();
      WriteLog(absl::StrCat("tprun: ", turn.status().message()));
      return Next::kWait;
    }
    turn_ = *std::move(turn);
    if (turn_.dropped > 0 && !options_.quiet) {
      WriteLog(absl::StrCat("(the context is full: the oldest ", turn_.dropped,
                            turn_.dropped == 1 ? " exchange is" : " exchanges are", " forgotten)"));
    }
    return Next::kTurn;
  }

  absl::StatusOr<Next> Leave() {
    if (StdinIsTerminal()) RETURN_IF_ERROR(WriteResult("\n"));
    return Next::kEnd;
  }

  absl::Status Prompt(absl::string_view text) {
    return StdinIsTerminal() && StdoutIsTerminal() ? WriteResult(text) : absl::OkStatus();
  }

  bool Write(const std::string& part) {
    answer_ += part;
    if (gone_ || part.empty() || WriteStdout(part)) return !gone_;
    gone_ = true;
    status_.Update(StdoutFailure());
    return false;
  }

  const ChatOptions& options_;
  Speaker speaker_;
  ChatInput input_{StartedByLauncher()};
  std::string first_;
  std::string message_;  // its lines so far
  bool asked_ = false;
  Turn turn_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::string answer_;
  bool stopped_ = false;
  bool gone_ = false;
  absl::Status status_;
};

absl::Status Answer(RankSession& session, ChatPartner* partner) {
  GenerateOptions wanted;
  absl::Span<const int32_t> ids;
  if (partner != nullptr) {
    wanted = partner->Wanted(session.engine().options().context);
    ids = partner->turn().ids;
    partner->BeginAnswer();
  }
  ASSIGN_OR_RETURN(const GenerateResult result,
                   Generate(session.engine(), session.world(), ids, wanted,
                            [&](int32_t id) { return partner->Push(id); }));
  return partner == nullptr ? absl::OkStatus() : partner->EndAnswer(result);
}

}  // namespace

absl::Status CheckChat(const ChatOptions& options, const PreparedModel& model) {
  ASSIGN_OR_RETURN(const Speaker speaker, MakeSpeaker(options, model));
  // A template without a system message, or a message that is too long, tells now.
  const bool given = !options.first_message.empty();
  return speaker.conversation->Ask(given ? options.first_message : "?").status();
}

absl::Status RunChat(const ChatOptions& options, RankSession& session) {
  std::unique_ptr<ChatPartner> partner;
  if (session.first_rank()) {
    ASSIGN_OR_RETURN(Speaker speaker, MakeSpeaker(options, session.model()));
    partner = std::make_unique<ChatPartner>(options, std::move(speaker));
  }
  while (true) {
    Next next = Next::kEnd;
    if (partner != nullptr && !partner->gone()) {
      ASSIGN_OR_RETURN(next, partner->Listen());
    }
    RETURN_IF_ERROR(session.world().Broadcast(&next, sizeof(next), 0));
    if (next == Next::kEnd) return absl::OkStatus();
    if (next == Next::kTurn) RETURN_IF_ERROR(Answer(session, partner.get()));
  }
}

}  // namespace tprun
