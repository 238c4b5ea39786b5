#include "engine/tokenizer/chat_template.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

Json Golden() {
  return *ReadJsonFile(SourcePath("tests/engine/tokenizer/golden/chat_golden.json"));
}

std::vector<ChatMessage> MessagesOf(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& message : json) {
    messages.push_back({message["role"].get<std::string>(), message["content"].get<std::string>()});
  }
  return messages;
}

ChatStyle StyleOf(const Json& golden, const std::string& source) {
  return {.source = source,
          .tokens = {{"bos_token", golden["bos"].get<std::string>()},
                     {"eos_token", golden["eos"].get<std::string>()}},
          .now = absl::FromCivil(absl::CivilDay(2026, 11, 20), absl::LocalTimeZone())};
}

// Every conversation gives what Jinja gave, or an error where the template raises one.
void ExpectPrompts(const Json& golden, const std::string& source) {
  SCOPED_TRACE(golden["name"].get<std::string>());
  const auto chat = ChatTemplate::Parse(StyleOf(golden, source));
  ASSERT_TRUE(chat.ok()) << chat.status();
  for (const Json& conversation : golden["conversations"]) {
    const auto prompt = chat->Render(MessagesOf(conversation["messages"]));
    SCOPED_TRACE(conversation["messages"].dump());
    if (conversation["prompt"].is_null()) {
      EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument);
    } else {
      ASSERT_TRUE(prompt.ok()) << prompt.status();
      EXPECT_EQ(*prompt, conversation["prompt"].get<std::string>());
    }
  }
}

TEST(ChatTemplate, PublishedTemplatesGiveWhatJinjaGives) {
  int compared = 0;
  for (const Json& golden : Golden()) {
    if (!golden.contains("source")) continue;
    ExpectPrompts(golden, golden["source"].get<std::string>());
    ++compared;
  }
  EXPECT_GE(compared, 11);
}

TEST(ChatTemplate, TemplatesOfRealModelsGiveWhatJinjaGives) {
  TPRUN_NEEDS_TEST_DATA();
  int compared = 0;
  for (const Json& golden : Golden()) {
    if (!golden.contains("file")) continue;
    const std::string path =
        JoinPath(TestDataDirectory(), "models/" + golden["file"].get<std::string>());
    const auto config = ReadJsonFile(path);
    ASSERT_TRUE(config.ok()) << config.status();
    ExpectPrompts(golden, (*config)["chat_template"].get<std::string>());
    ++compared;
  }
  EXPECT_EQ(compared, 6);
}

TEST(ChatTemplate, RefusesRolesOutOfOrder) {
  const auto chat = ChatTemplate::Parse({.source = "{{ messages[-1].content }}"});
  ASSERT_TRUE(chat.ok());
  const std::vector<std::vector<ChatMessage>> wrong = {
      {},
      {{"system", "s"}},
      {{"assistant", "a"}},
      {{"user", "u"}, {"assistant", "a"}},
      {{"user", "u"}, {"user", "u"}},
      {{"user", "u"}, {"system", "s"}, {"user", "u"}},
      {{"tool", "t"}},
  };
  for (const auto& messages : wrong) {
    EXPECT_EQ(chat->Render(messages).status().code(), absl::StatusCode::kInvalidArgument)
        << messages.size();
  }
}

}  // namespace
}  // namespace tprun
