#include "comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

absl::Status SystemError(const char* what, const std::string& name, int error) {
  return absl::ResourceExhaustedError(absl::StrCat(what, " ", name, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Map(const std::string& name, int file, int64_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    close(file);
    return SystemError("mmap of", name, error);
  }
  return SharedMemory(file, data, bytes);
}

absl::StatusOr<SharedMemory> SharedMemory::CreateUnreserved(const std::string& name,
                                                            int64_t bytes) {
  const int file = shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return SystemError("shm_open of", name, errno);
  if (ftruncate(file, bytes) != 0) {
    const int error = errno;
    close(file);
    shm_unlink(name.c_str());
    return SystemError("ftruncate of", name, error);
  }
  absl::StatusOr<SharedMemory> memory = Map(name, file, bytes);
  if (memory.ok()) {
    memory->name_ = name;
  } else {
    shm_unlink(name.c_str());
  }
  return memory;
}

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name, int64_t bytes) {
  ASSIGN_OR_RETURN(SharedMemory memory, CreateUnreserved(name, bytes));
  RETURN_IF_ERROR(memory.Reserve(0, bytes));
  return memory;
}

absl::Status SharedMemory::Reserve(int64_t begin, int64_t bytes) {
  const int error = posix_fallocate(file_, begin, bytes);
  if (error == 0) return absl::OkStatus();
  return SystemError("no room in /dev/shm for", absl::StrCat(bytes, " bytes"), error);
}

absl::StatusOr<SharedMemory> SharedMemory::Open(const std::string& name, int64_t bytes) {
  const int file = shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (file < 0) return SystemError("shm_open of", name, errno);
  struct stat info = {};
  if (fstat(file, &info) != 0 || info.st_size < bytes) {
    close(file);
    return absl::ResourceExhaustedError(absl::StrCat(name, " is smaller than ", bytes, " bytes"));
  }
  return Map(name, file, bytes);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : name_(std::exchange(other.name_, "")),
      file_(std::exchange(other.file_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void SharedMemory::RemoveName() {
  if (!name_.empty()) shm_unlink(name_.c_str());
  name_.clear();
}

SharedMemory::~SharedMemory() {
  RemoveName();
  if (data_ != nullptr) munmap(data_, bytes_);
  if (file_ >= 0) close(file_);
}

}  // namespace tprun
