// Feeds the readers of checkpoints and tokenizers whatever comes (FUZZED_KIND: safetensors, gguf,
// config, tokenizer_json, sentencepiece, tiktoken or tokenizer_config).

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "engine/arch/read_model_spec.h"
#include "engine/checkpoint/checkpoint_builder.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/safetensors_header.h"
#include "engine/format/weight_format.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/loaders.h"
#include "engine/tokenizer/text_tokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/memory_file.h"

namespace tprun {
namespace {

// Ends the program, as fuzzers expect, where an error gives no reason.
void CheckReason(const absl::Status& status) {
  if (status.ok() || !status.message().empty()) return;
  std::fprintf(stderr, "no reason is given\n");
  std::abort();
}

void Use(const Tokenizer& tokenizer) {
  for (const bool special : {false, true}) {
    const auto ids =
        tokenizer.Encode("Hello w\xC3\xB6rld\n <s> 12\xFF</s>", {.parse_special = special});
    CheckReason(ids.status());
    if (ids.ok()) tokenizer.Decode(*ids);
  }
  for (const int32_t id : {-1, 0, tokenizer.vocab_size() - 1, tokenizer.vocab_size()}) {
    tokenizer.TokenBytes(id);
  }
}

void Use(absl::StatusOr<TokenizerParts> parts, const SideFiles& side) {
  CheckReason(parts.status());
  if (!parts.ok()) return;
  const absl::Status status = ApplySideFiles(side, &*parts);
  CheckReason(status);
  if (status.ok()) Use(TextTokenizer(*std::move(parts)));
}

// A header alone is read as a file as long as its tensors need.
[[maybe_unused]] void Feed_safetensors(const std::string& text) {
  int64_t end = 0;
  constexpr char kKey[] = "\"data_offsets\":[";
  for (size_t at = text.find(kKey); at != std::string::npos; at = text.find(kKey, at + 1)) {
    const size_t comma = text.find(',', at);
    if (comma != std::string::npos) end = std::max<int64_t>(end, std::atoll(&text[comma + 1]));
  }
  uint64_t header = 0;
  if (text.size() >= sizeof(header)) text.copy(reinterpret_cast<char*>(&header), sizeof(header));
  const int64_t needed = header < text.size() && end < (1 << 24) ? 8 + header + end : 0;
  for (const int64_t size : {static_cast<int64_t>(text.size()), needed}) {
    const MemoryFile file(text, size);
    const auto opened = RandomAccessFile::Open(file.path());
    if (opened.ok()) CheckReason(ReadSafetensorsHeader(**opened).status());
  }
}

[[maybe_unused]] void Feed_gguf(const std::string& text) {
  for (const int64_t size : {text.size(), text.size() + (size_t{2} << 20)}) {
    const MemoryFile file(text, size);
    const auto checkpoint = OpenGguf(file.path());
    CheckReason(checkpoint.status());
    if (!checkpoint.ok()) continue;
    CheckReason(ReadModelSpec(**checkpoint).status());
    const auto tokenizer = LoadTokenizer(**checkpoint);
    CheckReason(tokenizer.status());
    if (tokenizer.ok()) Use(**tokenizer);
    CheckReason(LoadChatTemplate(**checkpoint).status());
  }
}

[[maybe_unused]] void Feed_config(const std::string& text) {
  absl::StatusOr<Json> config = ParseJson(text);
  if (!config.ok() || !config->is_object()) return;
  CheckpointBuilder builder(CheckpointKind::kConfigOnly, "folder/config.json");
  builder.SetConfig(*std::move(config));
  const auto checkpoint = std::move(builder).Build();
  CheckReason(ReadModelSpec(*checkpoint).status());
  CheckReason(ReadModelSpec(*checkpoint, &kF16Format).status());
}

[[maybe_unused]] void Feed_tokenizer_json(const std::string& text) {
  Use(LoadHuggingFace(text), SideFiles());
}

[[maybe_unused]] void Feed_sentencepiece(const std::string& text) {
  Use(LoadSentencePiece(text, SideFiles()), SideFiles());
}

[[maybe_unused]] void Feed_tiktoken(const std::string& text) {
  Use(LoadTiktoken(text, SideFiles()), SideFiles());
}

[[maybe_unused]] void Feed_jinja(const std::string& text) {
  const auto chat = ChatTemplate::Parse({.source = text, .tokens = {{"bos_token", "<s>"}}});
  CheckReason(chat.status());
  if (!chat.ok()) return;
  CheckReason(chat->Render({{"system", "be brief"}, {"user", "hi"}}).status());
  CheckReason(
      chat->Render({{"user", "hi\n"}, {"assistant", "<think>hm</think>\nhello"}, {"user", "ü"}})
          .status());
}

// A folder with a small tokenizer beside which each input is put as tokenizer_config.json.
std::string ModelFolder() {
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("tprun_fuzz_" + std::to_string(getpid())))
          .string();
  std::filesystem::create_directories(folder);
  const absl::Status written = WriteFile(
      JoinPath(folder, "tokenizer.json"),
      R"({"model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4},
          "merges": ["a b"]}, "added_tokens": [{"id": 0, "content": "<s>", "special": true},
          {"id": 1, "content": "</s>", "special": true}]})");
  if (!written.ok()) std::abort();
  return folder;
}

[[maybe_unused]] void Feed_tokenizer_config(const std::string& text) {
  static const std::string folder = ModelFolder();
  std::FILE* file = std::fopen(JoinPath(folder, "tokenizer_config.json").c_str(), "wb");
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
  CheckpointBuilder builder(CheckpointKind::kConfigOnly, JoinPath(folder, "config.json"));
  builder.SetConfig(Json::object());
  const auto checkpoint = std::move(builder).Build();
  const auto tokenizer = LoadTokenizer(*checkpoint);
  CheckReason(tokenizer.status());
  if (tokenizer.ok()) Use(**tokenizer);
  const auto chat = LoadChatTemplate(*checkpoint);
  CheckReason(chat.status());
  if (chat.ok()) CheckReason(chat->Render({{"system", "be brief"}, {"user", "hi"}}).status());
}

}  // namespace
}  // namespace tprun

#define TPRUN_FEED(kind) Feed_##kind
#define TPRUN_FEED_KIND(kind) TPRUN_FEED(kind)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tprun::TPRUN_FEED_KIND(FUZZED_KIND)(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
