#include "tests/sparse_gguf.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "engine/format/weight_format.h"
#include "tests/checkpoint_writer.h"

namespace tprun {
namespace {

constexpr int64_t kAlignment = 32;

int64_t AlignUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Everything before the tensor infos. The last key ends in a byte that is not zero, which tells
// where GgufFile's padding begins.
std::string HeaderStart(Json metadata, size_t tensors) {
  metadata["test.end"] = "x";
  std::string header = GgufFile(metadata, {});
  header.resize(header.find_last_not_of('\0') + 1);
  return header.replace(8, 8, GgufNumber(tensors, 8));
}

}  // namespace

absl::Status WriteSparseGguf(const std::string& path, const Json& metadata,
                             const std::vector<SparseTensor>& tensors) {
  std::string header = HeaderStart(metadata, tensors.size());
  int64_t data_bytes = 0;
  for (const SparseTensor& tensor : tensors) {
    ASSIGN_OR_RETURN(const WeightFormat* format, ParseWeightFormat(tensor.format));
    header += GgufString(tensor.name) + GgufNumber(tensor.shape.size(), 4);
    int64_t elements = 1;
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) {
      header += GgufNumber(*it, 8);
      elements *= *it;
    }
    header += GgufNumber(format->ggml_type, 4) + GgufNumber(data_bytes, 8);
    data_bytes = AlignUp(data_bytes + format->Bytes(elements));
  }
  header.resize(AlignUp(header.size()));
  RETURN_IF_ERROR(WriteFile(path, header));
  std::error_code error;
  std::filesystem::resize_file(path, header.size() + data_bytes, error);
  if (error) return absl::InternalError(absl::StrCat(path, ": ", error.message()));
  return absl::OkStatus();
}

}  // namespace tprun
