#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/file.h"
#include "base/status_macros.h"

namespace tprun {

static_assert(std::endian::native == std::endian::little, "the formats here are little-endian");

// Reads a header from front to back, never past its end and with little memory: a length that the
// file claims is compared with what is left before anything is allocated for it.
//
//   ByteReader reader(file, 256 * kMiB);
//   ASSIGN_OR_RETURN(uint64_t count, reader.Read<uint64_t>("tensor count"));
class ByteReader {
 public:
  // Reads no further than byte `limit` of the file, which must outlive the reader.
  ByteReader(const RandomAccessFile& file, int64_t limit);

  int64_t position() const { return position_; }
  int64_t remaining() const { return end_ - position_; }

  // One little-endian number. InvalidArgument names the file, `what` and where it was wanted.
  template <typename T>
  absl::StatusOr<T> Read(absl::string_view what) {
    T value;
    RETURN_IF_ERROR(ReadBytes(sizeof(T), reinterpret_cast<char*>(&value), what));
    return value;
  }
  absl::StatusOr<std::string> ReadString(uint64_t length, absl::string_view what);

  // InvalidArgument if fewer than count * bytes_each bytes are left.
  absl::Status Expect(uint64_t count, uint64_t bytes_each, absl::string_view what) const;

 private:
  absl::Status ReadBytes(int64_t length, char* out, absl::string_view what);
  absl::Status Fill();

  const RandomAccessFile& file_;
  int64_t end_;
  int64_t position_ = 0;
  std::vector<char> buffer_;
  size_t used_ = 0;  // bytes of buffer_ that are behind position_
};

}  // namespace tprun
