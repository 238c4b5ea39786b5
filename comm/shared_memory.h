#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tprun {

// Memory of a host that several processes map, by a name in /dev/shm. Its creator removes the name
// as soon as all have it, so that nothing is left behind however they end.
class SharedMemory {
 public:
  // Zeroed and backed by real memory: ResourceExhausted where there is not enough.
  static absl::StatusOr<SharedMemory> Create(const std::string& name, int64_t bytes);
  // Zeroed, but backed only where it was reserved.
  static absl::StatusOr<SharedMemory> CreateUnreserved(const std::string& name, int64_t bytes);
  static absl::StatusOr<SharedMemory> Open(const std::string& name, int64_t bytes);
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  // Real memory for a part of it, on the NUMA node of the caller. ResourceExhausted where there is
  // not enough: to write to what is not reserved may then end the process.
  absl::Status Reserve(int64_t begin, int64_t bytes);

  void* data() const { return data_; }
  void RemoveName();  // of the creator; also done at the end

 private:
  SharedMemory(int file, void* data, int64_t bytes) : file_(file), data_(data), bytes_(bytes) {}
  static absl::StatusOr<SharedMemory> Map(const std::string& name, int file, int64_t bytes);

  std::string name_;  // empty: nothing to remove
  int file_ = -1;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace tprun
