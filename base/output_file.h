#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tprun {

// A large file written piece by piece to a temporary name beside `path`, which takes its place at
// the end; a file that is not committed is removed. WriteAt is safe from several threads at once.
//
//   ASSIGN_OR_RETURN(auto file, OutputFile::Create("model.gguf"));
//   RETURN_IF_ERROR(file->WriteAt(0, header));
//   RETURN_IF_ERROR(file->Commit());
class OutputFile {
 public:
  // PermissionDenied, NotFound (no such folder) and the like, each naming the path.
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // Takes the room that `bytes` bytes need, so that a full disk shows at once.
  absl::Status Reserve(int64_t bytes);
  absl::Status WriteAt(int64_t offset, absl::string_view bytes);
  // Everything on the disk and the name changed.
  absl::Status Commit();

  const std::string& temporary_path() const { return temporary_; }

 private:
  OutputFile(std::string path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

  std::string path_;
  std::string temporary_;
  int fd_;
  bool committed_ = false;
};

}  // namespace tprun
