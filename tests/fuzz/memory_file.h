#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace tprun {

// A file in memory that readers open by its path; zeros stand behind `contents` up to `size` bytes.
class MemoryFile {
 public:
  MemoryFile(const std::string& contents, int64_t size) : fd_(memfd_create("input", MFD_CLOEXEC)) {
    const auto length = static_cast<ssize_t>(contents.size());
    const bool written = fd_ >= 0 && write(fd_, contents.data(), contents.size()) == length;
    if (!written || (size > length && ftruncate(fd_, size) != 0)) std::abort();
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace tprun
