#include "engine/checkpoint/byte_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/units.h"

namespace tprun {
namespace {

constexpr int64_t kBufferBytes = kMiB;

}  // namespace

ByteReader::ByteReader(const RandomAccessFile& file, int64_t limit)
    : file_(file), end_(std::min(file.size(), limit)) {}

absl::Status ByteReader::Expect(uint64_t count, uint64_t bytes_each, absl::string_view what) const {
  if (count <= static_cast<uint64_t>(remaining()) / bytes_each) return absl::OkStatus();
  const absl::string_view end = end_ < file_.size() ? "the largest header" : "the file";
  return absl::InvalidArgumentError(
      absl::StrCat(file_.path(), ": wanted ", count, " x ", bytes_each, " bytes at offset ",
                   position_, " for ", what, ", found the end of ", end, " at byte ", end_));
}

absl::Status ByteReader::Fill() {
  buffer_.resize(std::min(kBufferBytes, remaining()));
  used_ = 0;
  return file_.Read(position_, absl::MakeSpan(buffer_));
}

absl::Status ByteReader::ReadBytes(int64_t length, char* out, absl::string_view what) {
  RETURN_IF_ERROR(Expect(1, length, what));
  while (length > 0) {
    if (used_ == buffer_.size()) RETURN_IF_ERROR(Fill());
    const int64_t part = std::min<int64_t>(length, buffer_.size() - used_);
    std::memcpy(out, buffer_.data() + used_, part);
    used_ += part;
    position_ += part;
    out += part;
    length -= part;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ByteReader::ReadString(uint64_t length, absl::string_view what) {
  RETURN_IF_ERROR(Expect(length, 1, what));
  std::string text(length, '\0');
  if (length > 0) RETURN_IF_ERROR(ReadBytes(length, text.data(), what));
  return text;
}

}  // namespace tprun
