#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace tprun {

// A file read by byte range. Safe to use from several threads at once (pread).
//
//   ASSIGN_OR_RETURN(auto file, RandomAccessFile::Open(path));
//   RETURN_IF_ERROR(file->Read(offset, absl::MakeSpan(bytes)));
class RandomAccessFile {
 public:
  // NotFound, PermissionDenied or InvalidArgument (a folder), each naming the path.
  static absl::StatusOr<std::unique_ptr<RandomAccessFile>> Open(const std::string& path);
  ~RandomAccessFile();
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }

  // Fills `out` from byte `offset`. DataLoss when the file ends first.
  absl::Status Read(int64_t offset, absl::Span<char> out) const;

 private:
  RandomAccessFile(std::string path, int fd, int64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}

  std::string path_;
  int fd_;
  int64_t size_;
};

// The whole file; fails as Open does, and with InvalidArgument when it is larger than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 30);

// Writes through a temporary file and a rename, so that a reader never sees half a file.
absl::Status WriteFile(const std::string& path, absl::string_view contents);

bool FileExists(const std::string& path);
bool IsDirectory(const std::string& path);

// "dir/name" with exactly one slash between.
std::string JoinPath(absl::string_view directory, absl::string_view name);
// The last component: "model.gguf" of "/a/b/model.gguf".
std::string BaseName(absl::string_view path);

}  // namespace tprun
