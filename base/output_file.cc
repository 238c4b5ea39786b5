#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/file_error.h"

namespace tprun {
namespace {

absl::Status WriteError(const std::string& path, int error) {
  return FileError("write", path, error);
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("a file name with a zero byte in it cannot be opened");
  }
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string temporary = absl::StrCat(path, ".tmp.", getpid(), ".", attempt);
    const int fd = open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) {
      return std::unique_ptr<OutputFile>(new OutputFile(path, std::move(temporary), fd));
    }
    if (errno != EEXIST) return WriteError(path, errno);
  }
  return absl::AlreadyExistsError(
      absl::StrCat("cannot write ", path, ": remove the old files ", path, ".tmp.*"));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
  if (!committed_) unlink(temporary_.c_str());
}

absl::Status OutputFile::Reserve(int64_t bytes) {
  const int error = posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (error == 0 || error == EOPNOTSUPP || error == EINVAL) return absl::OkStatus();
  return WriteError(path_, error);
}

absl::Status OutputFile::WriteAt(int64_t offset, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return WriteError(path_, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (fsync(fd_) != 0 && errno != EINVAL) return WriteError(path_, errno);
  if (close(std::exchange(fd_, -1)) != 0) return WriteError(path_, errno);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return WriteError(path_, errno);
  committed_ = true;
  return absl::OkStatus();
}

}  // namespace tprun
