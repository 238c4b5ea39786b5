#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/test_data.h"

// What a plan says of a checkpoint's size is what lies in its files: every tensor is a parameter of
// the spec, and one rank's layout has the bytes of the files' matrices.

namespace tprun {
namespace {

// Of files that hold something else beside the weights of the model.
bool IsNoWeight(const std::string& name) {
  return absl::StartsWith(name, "rope_f") || absl::EndsWith(name, "inv_freq");
}

// The tensors of the checkpoint that `tensor` is a part of.
std::vector<const CheckpointTensor*> SourcesOf(const Checkpoint& checkpoint,
                                               const TensorSpec& tensor) {
  std::set<std::string> names;
  for (int e = 0; e < std::max(tensor.experts, 1); ++e) names.insert(ExpertTensorName(tensor, e));
  std::vector<const CheckpointTensor*> sources;
  for (const std::string& name : names) {
    for (const char* suffix : {"", "_blocks", "_scales"}) {
      if (const auto* source = checkpoint.Find(name + suffix)) sources.push_back(source);
    }
  }
  return sources;
}

int64_t Elements(const CheckpointTensor& tensor) {
  int64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= extent;
  if (absl::EndsWith(tensor.name, "_blocks")) return 2 * count;  // pairs of four bits
  return absl::EndsWith(tensor.name, "_scales") ? 0 : count;
}

void ExpectSizesOfFiles(const std::string& path) {
  SCOPED_TRACE(path);
  const auto model = OpenTestModel(path);
  ASSERT_TRUE(model.ok()) << model.status();
  std::set<const CheckpointTensor*> used;
  std::set<const CheckpointTensor*> matrices;
  int64_t vector_elements = 0;
  for (const TensorSpec& tensor : model->spec.tensors) {
    const auto sources = SourcesOf(*model->checkpoint, tensor);
    ASSERT_FALSE(sources.empty()) << tensor.name;
    used.insert(sources.begin(), sources.end());
    if (tensor.shape.size() > 1) {
      matrices.insert(sources.begin(), sources.end());
    } else {
      vector_elements += ElementCount(tensor);
    }
  }
  int64_t elements = 0;
  for (const CheckpointTensor* tensor : used) elements += Elements(*tensor);
  EXPECT_EQ(ParameterCount(model->spec), elements);
  bool packed = false;
  for (const auto& [name, tensor] : model->checkpoint->tensors()) {
    packed |= tensor.packed != nullptr;
  }
  for (const auto& [name, tensor] : model->checkpoint->tensors()) {
    // A quantiser's own tensors stand behind those that are made of them.
    if (used.count(&tensor) > 0 || packed) continue;
    EXPECT_TRUE(IsNoWeight(name)) << name;
  }
  int64_t matrix_bytes = 0;
  for (const CheckpointTensor* tensor : matrices) matrix_bytes += tensor->bytes;
  int64_t planned = 0;
  const auto placements = TensorSplit({1}).place(model->spec);
  std::set<int64_t> offsets;
  for (const Region& region : LayOutMemory(model->spec, placements, 0, {.context = 16}).regions) {
    if (region.use != RegionUse::kTensor || !offsets.insert(region.offset).second) continue;
    planned += region.bytes;
  }
  EXPECT_EQ(planned, matrix_bytes + 4 * vector_elements);  // vectors are kept as f32
}

// Folders with a config.json and GGUF files (of split ones the first) below `folder`.
std::vector<std::string> CheckpointsBelow(const std::string& folder) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string path = entry.path().string();
    const std::string name = entry.path().filename().string();
    if (absl::EndsWith(name, ".gguf")) {
      if (!absl::StrContains(name, "-of-") || absl::StrContains(name, "-00001-of-")) {
        paths.push_back(path);
      }
    } else if (absl::EndsWith(name, ".safetensors") && !absl::StrContains(name, "test_lm")) {
      const std::string parent = entry.path().parent_path().string();
      if (paths.empty() || paths.back() != parent) paths.push_back(parent);
    }
  }
  return paths;
}

TEST(CheckpointBytes, ThePlannersAreThoseOfEveryGoldenCheckpoint) {
  const auto paths = CheckpointsBelow(SourcePath("tests/golden"));
  EXPECT_GE(paths.size(), 50);
  for (const std::string& path : paths) ExpectSizesOfFiles(path);
}

TEST(CheckpointBytes, ThePlannersAreThoseOfEveryTinyModel) {
  TPRUN_NEEDS_TEST_DATA();
  const auto paths = CheckpointsBelow(TestDataDirectory() + "/models/tiny");
  EXPECT_GE(paths.size(), 30);
  for (const std::string& path : paths) ExpectSizesOfFiles(path);
}

}  // namespace
}  // namespace tprun
