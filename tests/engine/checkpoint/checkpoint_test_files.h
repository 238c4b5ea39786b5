#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "base/file.h"
#include "base/temporary_folder.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/tensor_reader.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"

namespace tprun {

// A folder that is gone at the end of the test.
class TemporaryDirectory {
 public:
  // Writes a file and gives its path.
  std::string Write(const std::string& name, absl::string_view contents) const {
    const std::string path = folder_.File(name);
    const absl::Status status = WriteFile(path, contents);
    EXPECT_TRUE(status.ok()) << status;
    return path;
  }
  const std::string& path() const { return folder_.path(); }

 private:
  TemporaryFolder folder_ = TemporaryFolder::Make("tprun-checkpoint").value();
};

inline std::string TinyModel(const std::string& relative) {
  return TestDataDirectory() + "/models/tiny/" + relative;
}

inline std::string Slurp(const std::string& path) {
  absl::StatusOr<std::string> bytes = ReadFile(path);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? *std::move(bytes) : "";
}

inline std::unique_ptr<Checkpoint> OpenOrDie(const std::string& path) {
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

inline std::string TensorBytes(const Checkpoint& checkpoint, const CheckpointTensor& tensor) {
  std::string bytes(tensor.bytes, '\0');
  const absl::Status status = ReadTensor(checkpoint, tensor, bytes.data());
  EXPECT_TRUE(status.ok()) << status;
  return bytes;
}

inline std::vector<float> TensorFloats(const Checkpoint& checkpoint,
                                       const CheckpointTensor& tensor) {
  const std::string bytes = TensorBytes(checkpoint, tensor);
  const WeightFormat& format = *tensor.format;
  std::vector<float> values(bytes.size() / format.block_bytes * format.block_elements);
  format.dequantize(bytes.data(), values.data(), values.size());
  return values;
}

// What must hold of everything that opened, however odd the file.
inline void ExpectConsistent(const Checkpoint& checkpoint) {
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    ASSERT_EQ(name, tensor.name);
    ASSERT_GE(tensor.file, 0);
    ASSERT_LT(tensor.file, checkpoint.files().size());
    const int64_t size = checkpoint.files()[tensor.file]->size();
    ASSERT_GE(tensor.offset, 0) << name;
    ASSERT_LE(tensor.offset, size) << name;
    ASSERT_GE(tensor.bytes, 0) << name;
    ASSERT_LE(tensor.bytes, size - tensor.offset) << name;
    ASSERT_FALSE(tensor.type_name.empty()) << name;
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) {
      ASSERT_GE(dimension, 0) << name;
      elements *= dimension;
    }
    if (tensor.format != nullptr) {
      ASSERT_EQ(tensor.format->Bytes(elements), tensor.bytes);
    }
  }
  ASSERT_TRUE(checkpoint.config().is_object());
  ASSERT_NO_THROW(checkpoint.config().dump());
}

}  // namespace tprun
