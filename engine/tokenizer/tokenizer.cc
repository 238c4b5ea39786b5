#include "engine/tokenizer/tokenizer.h"

#include <filesystem>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "engine/tokenizer/loaders.h"
#include "engine/tokenizer/sentencepiece_proto.h"
#include "engine/tokenizer/side_files.h"
#include "engine/tokenizer/text_tokenizer.h"

namespace tprun {
namespace {

absl::StatusOr<std::unique_ptr<Tokenizer>> Finish(absl::StatusOr<TokenizerParts> parts,
                                                  const SideFiles& side, const std::string& path) {
  if (!parts.ok()) return Annotate(parts.status(), path);
  const absl::Status status = ApplySideFiles(side, &*parts);
  if (!status.ok()) return Annotate(status, path);
  return std::unique_ptr<Tokenizer>(new TextTokenizer(*std::move(parts)));
}

absl::StatusOr<TokenizerParts> LoadModelFile(absl::string_view bytes, const SideFiles& side) {
  return LooksLikeSentencePiece(bytes) ? LoadSentencePiece(bytes, side) : LoadTiktoken(bytes, side);
}

// tokenizer.model or, as Moshi's tokenizer_spm_32k_3.model, the only file of that kind.
std::string ModelFileOf(const std::string& directory) {
  const std::string usual = JoinPath(directory, "tokenizer.model");
  if (FileExists(usual)) return usual;
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, "tokenizer") && absl::EndsWith(name, ".model")) {
      found.push_back(entry.path().string());
    }
  }
  return found.size() == 1 ? found[0] : usual;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const Checkpoint& checkpoint) {
  // A GGUF file stands for itself: files beside it may belong to another model.
  if (checkpoint.kind() == CheckpointKind::kGguf) {
    return Finish(LoadGguf(checkpoint.metadata()), SideFiles(), checkpoint.path());
  }
  const std::string directory = checkpoint.directory();
  ASSIGN_OR_RETURN(const SideFiles side, ReadSideFiles(directory, checkpoint.config()));
  const std::string json_path = JoinPath(directory, "tokenizer.json");
  if (FileExists(json_path)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(json_path));
    return Finish(LoadHuggingFace(text), side, json_path);
  }
  const std::string model_path = ModelFileOf(directory);
  if (FileExists(model_path)) {
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(model_path));
    return Finish(LoadModelFile(bytes, side), side, model_path);
  }
  return absl::NotFoundError(
      absl::StrCat(directory, ": no tokenizer here; wanted tokenizer.json or tokenizer.model"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerFile(const std::string& path) {
  if (absl::EndsWith(path, ".gguf")) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(path));
    return LoadTokenizer(*checkpoint);
  }
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  const SideFiles none;
  if (absl::EndsWith(path, ".json")) return Finish(LoadHuggingFace(bytes), none, path);
  return Finish(LoadModelFile(bytes, none), none, path);
}

}  // namespace tprun
