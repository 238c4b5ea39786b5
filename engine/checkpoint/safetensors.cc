#include "engine/checkpoint/safetensors.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/checkpoint/messages.h"
#include "engine/checkpoint/safetensors_header.h"

namespace tprun {
namespace {

constexpr int64_t kMaxIndexBytes = 100'000'000;

// Tensors by the shard that holds them.
using Shards = std::map<std::string, std::vector<std::string>>;

absl::Status Error(const std::string& path, const std::string& wanted, const std::string& found) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", wanted, ", found ", found));
}

absl::StatusOr<Shards> ReadIndex(const std::string& path) {
  ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxIndexBytes));
  const absl::StatusOr<Json> index = ParseJson(text);
  if (!index.ok()) return Annotate(index.status(), path);
  const Json* map = FindMember(*index, "weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return Error(path, "an object \"weight_map\" of tensors and files",
                 MemberText(*index, "weight_map"));
  }
  Shards shards;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    // Files beside the index only: an index from elsewhere must not name any file it likes.
    if (name.empty() || name[0] == '.' || BaseName(name) != name ||
        name.find('\0') != std::string::npos) {
      return Error(path, absl::StrCat("the name of a file beside it for tensor ", Quoted(tensor)),
                   MemberText(*map, tensor));
    }
    shards[name].push_back(tensor);
  }
  return shards;
}

std::string Directory(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

absl::Status AddShard(const std::string& index_path, const std::string& shard,
                      const std::vector<std::string>& wanted, CheckpointBuilder& builder) {
  const std::string path = JoinPath(Directory(index_path), shard);
  if (!FileExists(path)) {
    return absl::NotFoundError(absl::StrCat(path, ": wanted this shard, which ",
                                            BaseName(index_path),
                                            " names, found no such file; download it"));
  }
  RETURN_IF_ERROR(AddSafetensorsFile(path, builder));
  const int file = static_cast<int>(builder.checkpoint().files().size()) - 1;
  for (const std::string& name : wanted) {
    const CheckpointTensor* tensor = builder.checkpoint().Find(name);
    if (tensor != nullptr && tensor->file == file) continue;
    return Error(
        path,
        absl::StrCat("tensor ", Quoted(name), ", which ", BaseName(index_path), " says is in it"),
        "none");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AddSafetensorsFile(const std::string& path, CheckpointBuilder& builder) {
  ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, RandomAccessFile::Open(path));
  ASSIGN_OR_RETURN(std::vector<CheckpointTensor> tensors, ReadSafetensorsHeader(*file));
  return builder.AddFile(std::move(file), std::move(tensors));
}

absl::StatusOr<bool> AnyShardExists(const std::string& index_path) {
  ASSIGN_OR_RETURN(const Shards shards, ReadIndex(index_path));
  for (const auto& [shard, tensors] : shards) {
    if (FileExists(JoinPath(Directory(index_path), shard))) return true;
  }
  return false;
}

absl::Status AddSafetensorsIndex(const std::string& index_path, CheckpointBuilder& builder) {
  ASSIGN_OR_RETURN(Shards shards, ReadIndex(index_path));
  for (const auto& [shard, tensors] : shards) {
    RETURN_IF_ERROR(AddShard(index_path, shard, tensors, builder));
  }
  return absl::OkStatus();
}

}  // namespace tprun
