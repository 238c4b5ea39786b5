#include "engine/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "engine/checkpoint/checkpoint_builder.h"
#include "engine/checkpoint/gguf.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/packed_tensors.h"
#include "engine/checkpoint/safetensors.h"

namespace tprun {
namespace {

constexpr int64_t kMaxConfigBytes = 16'000'000;
constexpr absl::string_view kConfig = "config.json";
constexpr absl::string_view kIndex = "model.safetensors.index.json";
constexpr absl::string_view kSingle = "model.safetensors";

using CheckpointOr = absl::StatusOr<std::unique_ptr<Checkpoint>>;

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<Json> ReadConfig(const std::string& path) {
  if (!FileExists(path)) {
    return absl::NotFoundError(absl::StrCat(
        path, ": wanted the model's config.json beside its weights, found no such file"));
  }
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxConfigBytes));
  absl::StatusOr<Json> config = ParseJson(text);
  if (!config.ok()) return Annotate(config.status(), path);
  if (config->is_object()) return config;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": wanted a JSON object, found ", config->type_name()));
}

CheckpointOr OpenConfig(const std::string& path, const std::string& config_path) {
  ASSIGN_OR_RETURN(Json config, ReadConfig(config_path));
  CheckpointBuilder builder(CheckpointKind::kConfigOnly, path);
  builder.SetConfig(std::move(config));
  return std::move(builder).Build();
}

// `weights` is a .safetensors file or an index; config.json lies beside it.
CheckpointOr OpenSafetensors(const std::string& path, const std::string& weights) {
  ASSIGN_OR_RETURN(Json config, ReadConfig(JoinPath(DirectoryOf(weights), kConfig)));
  CheckpointBuilder builder(CheckpointKind::kSafetensors, path);
  builder.SetConfig(std::move(config));
  if (absl::EndsWith(weights, ".json")) {
    RETURN_IF_ERROR(AddSafetensorsIndex(weights, builder));
  } else {
    RETURN_IF_ERROR(AddSafetensorsFile(weights, builder));
  }
  const absl::Status status = AddPackedTensors(builder);
  if (!status.ok()) return Annotate(status, path);
  return std::move(builder).Build();
}

bool IsLaterSplit(absl::string_view name) {
  // "x-00002-of-00003.gguf": the first file of the set opens it.
  constexpr size_t kTail = absl::string_view("-00002-of-00003.gguf").size();
  if (name.size() < kTail) return false;
  const absl::string_view tail = name.substr(name.size() - kTail);
  return tail[0] == '-' && tail.substr(6, 4) == "-of-" && tail.substr(0, 6) != "-00001";
}

absl::StatusOr<std::vector<std::string>> GgufFilesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator it(directory, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (absl::EndsWith(name, ".gguf") && !IsLaterSplit(name)) names.push_back(name);
  }
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, ": wanted to list this folder, found an error: ", error.message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

CheckpointOr OpenDirectory(const std::string& path) {
  const std::string config = JoinPath(path, kConfig);
  const std::string single = JoinPath(path, kSingle);
  if (FileExists(single)) return OpenSafetensors(path, single);
  const std::string index = JoinPath(path, kIndex);
  if (FileExists(index)) {
    // An index without any of its shards is a model not downloaded yet, which can be planned.
    ASSIGN_OR_RETURN(const bool any_shard, AnyShardExists(index));
    return any_shard ? OpenSafetensors(path, index) : OpenConfig(path, config);
  }
  ASSIGN_OR_RETURN(std::vector<std::string> names, GgufFilesIn(path));
  if (names.size() == 1) return OpenGguf(JoinPath(path, names[0]));
  if (FileExists(config)) return OpenConfig(path, config);
  if (names.empty()) {
    return absl::NotFoundError(absl::StrCat(
        path, ": wanted a folder with config.json and model.safetensors, or with one .gguf file, ",
        "found none of them"));
  }
  names.resize(std::min<size_t>(names.size(), 8));
  return absl::InvalidArgumentError(absl::StrCat(path,
                                                 ": wanted one .gguf file in this folder, found ",
                                                 absl::StrJoin(names, ", "), "; name one of them"));
}

// A shard alone is half a model: opens the index beside it, where there is one.
CheckpointOr OpenSafetensorsPath(const std::string& path) {
  const std::string index = JoinPath(DirectoryOf(path), kIndex);
  const bool is_shard = absl::StrContains(BaseName(path), "-of-") && FileExists(index);
  return OpenSafetensors(path, is_shard ? index : path);
}

absl::StatusOr<std::string> FirstBytes(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, RandomAccessFile::Open(path));
  std::string bytes(std::min<int64_t>(file->size(), 64), '\0');
  if (!bytes.empty()) RETURN_IF_ERROR(file->Read(0, absl::MakeSpan(bytes.data(), bytes.size())));
  return bytes;
}

CheckpointOr OpenFile(const std::string& path) {
  ASSIGN_OR_RETURN(std::string head, FirstBytes(path));
  if (head.substr(0, 4) == "GGUF") return OpenGguf(path);
  if (absl::StartsWith(head, "version https://git-lfs")) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": wanted a model, found a Git LFS pointer to it; fetch it with \"git lfs pull\""));
  }
  if (absl::StartsWith(absl::StripLeadingAsciiWhitespace(head), "{")) {
    return absl::EndsWith(path, ".index.json") ? OpenSafetensors(path, path)
                                               : OpenConfig(path, path);
  }
  const bool safetensors = head.size() > 8 && head[8] == '{';
  if (safetensors || absl::EndsWith(path, ".safetensors")) return OpenSafetensorsPath(path);
  if (absl::EndsWith(path, ".json")) return OpenConfig(path, path);
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": wanted a GGUF file, a safetensors file or a config.json, found ",
                   head.empty() ? "an empty file"
                                : absl::StrCat("a file that starts with ",
                                               Quoted(absl::string_view(head).substr(0, 8)))));
}

}  // namespace

CheckpointOr Checkpoint::Open(const std::string& path) {
  if (IsDirectory(path)) return OpenDirectory(path);
  if (!FileExists(path)) {
    return absl::NotFoundError(absl::StrCat(
        path, ": wanted a model (a folder, a .gguf or .safetensors file, or a config.json), found ",
        "no such file"));
  }
  return OpenFile(path);
}

const CheckpointTensor* Checkpoint::Find(absl::string_view name) const {
  const auto it = tensors_.find(std::string_view(name.data(), name.size()));
  return it == tensors_.end() ? nullptr : &it->second;
}

std::string Checkpoint::directory() const {
  return IsDirectory(path_) ? path_ : DirectoryOf(path_);
}

}  // namespace tprun
