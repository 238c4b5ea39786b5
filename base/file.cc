#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/file_error.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

absl::Status CheckPath(const std::string& path) {
  if (path.find('\0') == std::string::npos) return absl::OkStatus();
  return absl::InvalidArgumentError("a file name with a zero byte in it cannot be opened");
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  // Closes now and tells whether what was written has arrived (NFS reports it only here).
  bool Close() { return fd_ < 0 || close(Release()) == 0; }

 private:
  int fd_;
};

struct OpenedFile {
  int fd;
  int64_t size;  // as the file system says: sysfs rounds up, procfs says 0
};

absl::StatusOr<OpenedFile> OpenForReading(const std::string& path) {
  RETURN_IF_ERROR(CheckPath(path));
  // O_NONBLOCK: opening a FIFO must not wait for its writer. It means nothing for regular files.
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return FileError("open", path, errno);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return FileError("examine", path, errno);
  if (S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a folder, wanted a file"));
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is a pipe or a device, wanted a regular file"));
  }
  return OpenedFile{fd.Release(), static_cast<int64_t>(info.st_size)};
}

// One pread that is not disturbed by signals; 0 at the end of the file, -1 with errno on failure.
ssize_t ReadAt(int fd, char* out, size_t count, int64_t offset) {
  ssize_t got;
  do {
    got = pread(fd, out, count, static_cast<off_t>(offset));
  } while (got < 0 && errno == EINTR);
  return got;
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view contents) {
  while (!contents.empty()) {
    const ssize_t written = write(fd, contents.data(), contents.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError("write", path, errno);
    contents.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

// For devices and pipes (/dev/null, /dev/stdout), which a rename would replace by a file.
absl::Status WriteInPlace(const std::string& path, absl::string_view contents) {
  FileDescriptor fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.get() < 0) return FileError("write", path, errno);
  return WriteAll(fd.get(), path, contents);
}

// A new file beside `path`. Not mkstemp: that one makes files which only their owner can read.
absl::StatusOr<std::pair<int, std::string>> CreateBeside(const std::string& path) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string name = absl::StrCat(path, ".tmp.", getpid(), ".", attempt);
    const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return std::make_pair(fd, std::move(name));
    if (errno != EEXIST) return FileError("write", path, errno);
  }
  return absl::AlreadyExistsError(
      absl::StrCat("cannot write ", path, ": remove the old files ", path, ".tmp.*"));
}

absl::Status WriteAndRename(FileDescriptor& fd, const std::string& temporary,
                            const std::string& path, absl::string_view contents) {
  RETURN_IF_ERROR(WriteAll(fd.get(), path, contents));
  if (!fd.Close()) return FileError("write", path, errno);
  if (rename(temporary.c_str(), path.c_str()) != 0) return FileError("write", path, errno);
  return absl::OkStatus();
}

// Where a symbolic link leads, so that the rename replaces the file and not the link.
std::string ResolveLink(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string result = resolved;
  free(resolved);
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RandomAccessFile>> RandomAccessFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const OpenedFile opened, OpenForReading(path));
  return std::unique_ptr<RandomAccessFile>(new RandomAccessFile(path, opened.fd, opened.size));
}

RandomAccessFile::~RandomAccessFile() { close(fd_); }

absl::Status RandomAccessFile::Read(int64_t offset, absl::Span<char> out) const {
  if (offset < 0) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": read at negative offset ", offset));
  }
  size_t done = 0;
  while (done < out.size()) {
    // Past the end first: offset + done must not overflow.
    const ssize_t got =
        offset > size_ ? 0 : ReadAt(fd_, out.data() + done, out.size() - done, offset + done);
    if (got < 0) return FileError("read", path_, errno);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": wanted ", out.size(), " bytes at offset ",
                                              offset, ", the file ends at ", size_,
                                              "; it may be cut short, fetch it again"));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  ASSIGN_OR_RETURN(const OpenedFile opened, OpenForReading(path));
  FileDescriptor fd(opened.fd);
  // To the end, not to the size: /sys and /proc files do not know theirs.
  constexpr int64_t kChunk = 64 << 10;
  std::string contents;
  int64_t done = 0;
  if (opened.size <= max_bytes) contents.resize(static_cast<size_t>(opened.size + 1));
  while (opened.size <= max_bytes && done <= max_bytes) {
    if (done == static_cast<int64_t>(contents.size())) contents.resize(done + kChunk);
    const ssize_t got = ReadAt(fd.get(), &contents[done], contents.size() - done, done);
    if (got < 0) return FileError("read", path, errno);
    if (got == 0) break;
    done += got;
  }
  if (std::max(opened.size, done) > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is larger than the ", max_bytes,
                                                   " bytes accepted here; is it the right file?"));
  }
  contents.resize(static_cast<size_t>(done));
  return contents;
}

absl::Status WriteFile(const std::string& path, absl::string_view contents) {
  RETURN_IF_ERROR(CheckPath(path));
  struct stat info;
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot write ", path, ": it is a folder"));
  }
  if (exists && !S_ISREG(info.st_mode)) return WriteInPlace(path, contents);
  const std::string target = exists ? ResolveLink(path) : path;
  ASSIGN_OR_RETURN(auto created, CreateBeside(target));
  FileDescriptor fd(created.first);
  if (exists) (void)!fchmod(fd.get(), info.st_mode & 07777);  // best effort: a file is better
  const absl::Status status = WriteAndRename(fd, created.second, target, contents);
  if (!status.ok()) unlink(created.second.c_str());
  return status;
}

bool FileExists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::string JoinPath(absl::string_view directory, absl::string_view name) {
  if (directory.empty()) return std::string(name);
  while (!name.empty() && name.front() == '/') name.remove_prefix(1);
  while (!directory.empty() && directory.back() == '/') directory.remove_suffix(1);
  return absl::StrCat(directory, "/", name);
}

std::string BaseName(absl::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == absl::string_view::npos || path.size() == 1) return std::string(path);
  return std::string(path.substr(slash + 1));
}

}  // namespace tprun
