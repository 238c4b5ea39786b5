#include "engine/checkpoint/gguf.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"
#include "engine/checkpoint/checkpoint_builder.h"
#include "engine/checkpoint/gguf_header.h"
#include "engine/checkpoint/messages.h"

namespace tprun {
namespace {

constexpr int64_t kMaxSplits = 65535;  // split.count is 16 bits wide
constexpr absl::string_view kFirstOf = "-00001-of-";
constexpr absl::string_view kSuffix = ".gguf";

absl::Status Error(const std::string& path, const std::string& wanted, const std::string& found) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": wanted ", wanted, ", found ", found));
}

// How many files the set has: 1 where the header says nothing of a split.
absl::StatusOr<int64_t> SplitCount(const std::string& path, const GgufHeader& header) {
  const absl::StatusOr<int64_t> count = GetIntOr(header.metadata, "split.count", 1);
  if (!count.ok() || *count < 0 || *count > kMaxSplits) {
    return Error(path, "split.count from 0 to 65535", MemberText(header.metadata, "split.count"));
  }
  if (*count <= 1) return 1;
  const absl::StatusOr<int64_t> number = GetIntOr(header.metadata, "split.no", 0);
  if (!number.ok() || *number != 0) {
    return Error(path, "the first file of the split set (split.no 0)",
                 absl::StrCat("split.no ", MemberText(header.metadata, "split.no")));
  }
  return *count;
}

// "dir/model" of "dir/model-00001-of-00003.gguf".
absl::StatusOr<std::string> SplitPrefix(const std::string& path, int64_t count) {
  const std::string ending = absl::StrCat(kFirstOf, absl::StrFormat("%05d", count), kSuffix);
  const absl::string_view view = path;
  if (view.size() < ending.size() || view.substr(view.size() - ending.size()) != ending) {
    return Error(path,
                 absl::StrCat("a file name ending in \"", ending,
                              "\", for the header says the model is split over ", count, " files"),
                 Quoted(BaseName(path)));
  }
  return std::string(view.substr(0, view.size() - ending.size()));
}

absl::Status AddSplit(CheckpointBuilder& builder, const std::string& path, int64_t number,
                      int64_t count) {
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = RandomAccessFile::Open(path);
  if (!file.ok()) {
    return Annotate(file.status(),
                    absl::StrCat("file ", number + 1, " of ", count, " of a split model"));
  }
  ASSIGN_OR_RETURN(GgufHeader header, ReadGgufHeader(**file));
  const absl::StatusOr<int64_t> found = GetInt(header.metadata, "split.no");
  const absl::StatusOr<int64_t> of = GetInt(header.metadata, "split.count");
  if (!found.ok() || !of.ok() || *found != number || *of != count) {
    return Error(
        path, absl::StrCat("split.no ", number, " and split.count ", count),
        !found.ok() || !of.ok() ? std::string("none") : absl::StrCat(*found, " and ", *of));
  }
  return builder.AddFile(*std::move(file), std::move(header.tensors));
}

absl::Status CheckTensorCount(const Checkpoint& checkpoint) {
  const int64_t found = static_cast<int64_t>(checkpoint.tensors().size());
  const absl::StatusOr<int64_t> wanted =
      GetIntOr(checkpoint.metadata(), "split.tensors.count", found);
  if (wanted.ok() && *wanted == found) return absl::OkStatus();
  return Error(checkpoint.path(),
               absl::StrCat("split.tensors.count ",
                            MemberText(checkpoint.metadata(), "split.tensors.count")),
               absl::StrCat(found, " tensors in the files of the set"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, RandomAccessFile::Open(path));
  ASSIGN_OR_RETURN(GgufHeader header, ReadGgufHeader(*file));
  ASSIGN_OR_RETURN(int64_t count, SplitCount(path, header));
  CheckpointBuilder builder(CheckpointKind::kGguf, path);
  builder.SetMetadata(std::move(header.metadata));
  RETURN_IF_ERROR(builder.AddFile(std::move(file), std::move(header.tensors)));
  if (count > 1) {
    ASSIGN_OR_RETURN(std::string prefix, SplitPrefix(path, count));
    for (int64_t i = 1; i < count; ++i) {
      const std::string name = absl::StrFormat("%s-%05d-of-%05d.gguf", prefix, i + 1, count);
      RETURN_IF_ERROR(AddSplit(builder, name, i, count));
    }
    RETURN_IF_ERROR(CheckTensorCount(builder.checkpoint()));
  }
  ASSIGN_OR_RETURN(Json config, GgufConfig(builder.checkpoint()));
  builder.SetConfig(std::move(config));
  return std::move(builder).Build();
}

}  // namespace tprun
