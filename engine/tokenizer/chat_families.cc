#include <array>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/chat_template.h"

// The families follow the templates that the models' makers publish; tests compare each with what
// Jinja makes of one.

namespace tprun {
namespace {

using Messages = absl::Span<const ChatMessage>;

bool Has(absl::string_view source, absl::string_view text) {
  return absl::StrContains(source, text);
}

bool HasSystem(Messages messages) { return messages[0].role == "system"; }

std::string Trimmed(const std::string& text) {
  return std::string(absl::StripAsciiWhitespace(text));
}

absl::Status NoSystem(absl::string_view family) {
  return absl::InvalidArgumentError(
      absl::StrCat("the chat template of this model (", family,
                   ") knows no system message: put it into the first message instead"));
}

// The literal default system message of a ChatML template, "" if it has none: what stands between
// <|im_start|>system, a newline (as it is or escaped), and <|im_end|>, without any expression.
std::string ChatMlDefaultSystem(absl::string_view source) {
  constexpr absl::string_view kStart = "<|im_start|>system";
  for (size_t at = source.find(kStart); at != absl::string_view::npos;
       at = source.find(kStart, at + 1)) {
    absl::string_view text = source.substr(at + kStart.size());
    const size_t end = text.find("<|im_end|>");
    if (end == absl::string_view::npos) break;
    text = text.substr(0, end);
    if (absl::StartsWith(text, "\n")) text.remove_prefix(1);
    if (absl::StartsWith(text, "\\n")) text.remove_prefix(2);
    if (!text.empty() && text.find_first_of("'\"{}+\\") == absl::string_view::npos) {
      return std::string(text);
    }
  }
  return "";
}

// Reasoning models drop what they thought in earlier turns.
std::string WithoutThoughts(const ChatStyle& style, const std::string& content) {
  if (!Has(style.source, "'</think>'")) return content;
  const size_t end = content.rfind("</think>");
  if (end == std::string::npos) return content;
  absl::string_view rest = absl::string_view(content).substr(end + 8);
  if (Has(style.source, "lstrip('\\n')")) {
    while (absl::StartsWith(rest, "\n")) rest.remove_prefix(1);
  }
  return std::string(rest);
}

absl::StatusOr<std::string> RenderChatMl(const ChatStyle& style, Messages messages) {
  std::string text = Has(style.source, "bos_token") ? style.bos : "";
  const std::string system = ChatMlDefaultSystem(style.source);
  if (!HasSystem(messages) && !system.empty()) {
    absl::StrAppend(&text, "<|im_start|>system\n", system, "<|im_end|>\n");
  }
  for (const ChatMessage& message : messages) {
    const std::string content =
        message.role == "assistant" ? WithoutThoughts(style, message.content) : message.content;
    absl::StrAppend(&text, "<|im_start|>", message.role, "\n", content, "<|im_end|>\n");
  }
  return absl::StrCat(text, "<|im_start|>assistant\n");
}

std::string Llama3Message(absl::string_view role, const std::string& content) {
  return absl::StrCat("<|start_header_id|>", role, "<|end_header_id|>\n\n", content, "<|eot_id|>");
}

// From 3.1 on there is always a system message, which begins with two dates.
std::string Llama3System(const ChatStyle& style, const std::string& system) {
  const std::string date = Has(style.source, "strftime_now") ? style.date : "26 Jul 2024";
  return Llama3Message(
      "system",
      absl::StrCat("Cutting Knowledge Date: December 2023\nToday Date: ", date, "\n\n", system));
}

absl::StatusOr<std::string> RenderLlama3(const ChatStyle& style, Messages messages) {
  std::string text = style.bos;
  if (Has(style.source, "Cutting Knowledge Date: ")) {
    const std::string system = HasSystem(messages) ? Trimmed(messages[0].content) : "";
    absl::StrAppend(&text, Llama3System(style, system));
    if (HasSystem(messages)) messages.remove_prefix(1);
  }
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&text, Llama3Message(message.role, Trimmed(message.content)));
  }
  return absl::StrCat(text, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

absl::StatusOr<std::string> RenderGemma(const ChatStyle& style, Messages messages) {
  std::string first;
  if (HasSystem(messages)) {
    if (Has(style.source, "System role not supported")) return NoSystem("gemma");
    first = absl::StrCat(messages[0].content, "\n\n");
    messages.remove_prefix(1);
  }
  std::string text = style.bos;
  for (const ChatMessage& message : messages) {
    const bool model = message.role == "assistant";
    absl::StrAppend(&text, "<start_of_turn>", model ? "model" : "user", "\n", first,
                    Trimmed(message.content), "<end_of_turn>\n");
    first.clear();
  }
  return absl::StrCat(text, "<start_of_turn>model\n");
}

absl::StatusOr<std::string> RenderOpenChat(const ChatStyle& style, Messages messages) {
  const absl::string_view end =
      Has(style.source, "<|end_of_turn|>") ? "<|end_of_turn|>" : "<end_of_turn>";
  std::string text = style.bos;
  for (const ChatMessage& message : messages) {
    if (message.role == "system") {
      if (!Has(style.source, "message['role'] == 'system'")) return NoSystem("openchat");
      absl::StrAppend(&text, message.content, end);
      continue;
    }
    absl::StrAppend(&text, "GPT4 Correct ", message.role == "user" ? "User" : "Assistant", ": ",
                    message.content, end);
  }
  return absl::StrCat(text, "GPT4 Correct Assistant:");
}

constexpr absl::string_view kMistralUser = "'[INST] ' + message['content'] + ' [/INST]'";

// What follows and precedes an assistant's text, by version of the template.
absl::StatusOr<std::string> RenderMistral(const ChatStyle& style, Messages messages) {
  if (HasSystem(messages)) return NoSystem("mistral");
  const absl::string_view before =
      Has(style.source, "' ' + message['content'] + eos_token") ? " " : "";
  const absl::string_view after = Has(style.source, "+ eos_token + ' '") ? " " : "";
  std::string text = style.bos;
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      absl::StrAppend(&text, "[INST] ", message.content, " [/INST]");
    } else {
      absl::StrAppend(&text, before, message.content, style.eos, after);
    }
  }
  return text;
}

absl::StatusOr<std::string> RenderLlama2(const ChatStyle& style, Messages messages) {
  std::string system;
  if (HasSystem(messages)) {
    system = absl::StrCat("<<SYS>>\n", messages[0].content, "\n<</SYS>>\n\n");
    messages.remove_prefix(1);
  }
  std::string text;
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      absl::StrAppend(&text, style.bos, "[INST] ", Trimmed(absl::StrCat(system, message.content)),
                      " [/INST]");
    } else {
      absl::StrAppend(&text, " ", Trimmed(message.content), " ", style.eos);
    }
    system.clear();
  }
  return text;
}

absl::StatusOr<std::string> RenderTagged(absl::string_view start, absl::string_view end,
                                         Messages messages) {
  std::string text(start);
  for (const ChatMessage& message : messages) {
    absl::StrAppend(&text, "<|", message.role, "|>\n", message.content, end);
  }
  return text;
}

absl::StatusOr<std::string> RenderPhi3(const ChatStyle& style, Messages messages) {
  const std::string start = Has(style.source, "bos_token") ? style.bos : "";
  return absl::StrCat(*RenderTagged(start, "<|end|>\n", messages), "<|assistant|>\n");
}

absl::StatusOr<std::string> RenderZephyr(const ChatStyle& style, Messages messages) {
  return absl::StrCat(*RenderTagged("", style.eos + "\n", messages), "<|assistant|>\n");
}

absl::StatusOr<std::string> RenderGlm4(const ChatStyle& style, Messages messages) {
  const bool newline =
      Has(style.source, "<|assistant|>\\n") || Has(style.source, "<|assistant|>\n");
  return absl::StrCat(*RenderTagged("[gMASK]<sop>", "", messages), "<|assistant|>",
                      newline ? "\n" : "");
}

absl::StatusOr<std::string> RenderDeepSeek(const ChatStyle& style, Messages messages) {
  std::string text = style.bos;
  for (const ChatMessage& message : messages) {
    if (message.role == "system") {
      absl::StrAppend(&text, message.content);
    } else if (message.role == "user") {
      absl::StrAppend(&text, "<｜User｜>", message.content);
    } else {
      absl::StrAppend(&text, "<｜Assistant｜>", WithoutThoughts(style, message.content), style.eos);
    }
  }
  const bool thinks = Has(style.source, "<｜Assistant｜><think>\\n");
  return absl::StrCat(text, "<｜Assistant｜>", thinks ? "<think>\n" : "");
}

// In order: what a later one would take too comes first.
constexpr std::array<ChatFamily, 10> kFamilies = {{
    {"chatml", [](absl::string_view s) { return Has(s, "<|im_start|>"); }, RenderChatMl},
    {"llama3", [](absl::string_view s) { return Has(s, "<|start_header_id|>"); }, RenderLlama3},
    {"openchat", [](absl::string_view s) { return Has(s, "'GPT4 Correct '"); }, RenderOpenChat},
    {"gemma", [](absl::string_view s) { return Has(s, "<start_of_turn>"); }, RenderGemma},
    {"llama2", [](absl::string_view s) { return Has(s, "[INST]") && Has(s, "<<SYS>>"); },
     RenderLlama2},
    {"mistral", [](absl::string_view s) { return Has(s, kMistralUser); }, RenderMistral},
    {"glm4", [](absl::string_view s) { return Has(s, "[gMASK]<sop>"); }, RenderGlm4},
    {"phi3", [](absl::string_view s) { return Has(s, "<|user|>") && Has(s, "<|end|>"); },
     RenderPhi3},
    {"zephyr", [](absl::string_view s) { return Has(s, "<|user|>") && Has(s, "eos_token"); },
     RenderZephyr},
    {"deepseek", [](absl::string_view s) { return Has(s, "<｜User｜>"); }, RenderDeepSeek},
}};

}  // namespace

absl::Span<const ChatFamily> ChatFamilies() { return kFamilies; }

}  // namespace tprun
