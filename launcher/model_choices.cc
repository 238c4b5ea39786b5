#include "launcher/model_choices.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/arch/assume_formats.h"
#include "engine/arch/read_model_spec.h"

namespace tprun {
namespace {

// Of each size the type that is known best.
constexpr const char* kTypes[] = {"bf16",   "q8_0", "fp8_e4m3", "q6_k", "q5_k_m",
                                  "q4_k_m", "q4_k", "q4_0",     "nf4",  "q3_k_m"};

int64_t WeightBytes(const ModelSpec& spec) {
  int64_t bytes = 0;
  for (const TensorSpec& tensor : spec.tensors) {
    if (tensor.shape.size() > 1) bytes += tensor.format->Bytes(ElementCount(tensor));
  }
  return bytes;
}

// As the tensors would be in a file of this type.
ModelSpec InAnotherFile(ModelSpec spec, const WeightFormat* type) {
  const ModelSpec before = spec;
  for (TensorSpec& tensor : spec.tensors) {
    if (tensor.shape.size() < 2) continue;
    const WeightFormat* format = FormatInMix(type, before, tensor);
    if (tensor.shape[1] % format->block_elements == 0) tensor.format = format;
  }
  return spec;
}

std::vector<std::string> ConfigsIn(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator it(folder, error);
  for (; !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    if (it->path().extension() == ".json") paths.push_back(it->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

absl::StatusOr<std::string> FingerprintOf(const std::string& path) {
  const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return checkpoint.status();
  const absl::StatusOr<ModelSpec> spec = ReadModelSpec(**checkpoint, nullptr);
  if (!spec.ok()) return spec.status();
  return ModelFingerprint(*spec);
}

}  // namespace

absl::StatusOr<std::string> ModelPath(const std::string& model) {
  if (!IsDirectory(model)) return model;
  const absl::StatusOr<std::unique_ptr<Checkpoint>> own = Checkpoint::Open(model);
  if (own.ok() || own.status().code() != absl::StatusCode::kNotFound) return model;
  std::vector<std::pair<std::string, std::string>> found;  // path and fingerprint
  for (const std::string& path : ConfigsIn(model)) {
    const absl::StatusOr<std::string> fingerprint = FingerprintOf(path);
    if (fingerprint.ok()) found.emplace_back(path, *fingerprint);
  }
  if (found.empty()) return model;  // opening it tells what is missing
  std::vector<std::string> names;
  for (const auto& [path, fingerprint] : found) {
    names.push_back(path);
    if (fingerprint == found[0].second) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        model, ": wanted one model, found configs of different ones; name one of them: ",
        absl::StrJoin(names, ", ")));
  }
  return found.back().first;
}

std::vector<SmallerModel> SmallerModels(const Checkpoint& checkpoint, const ModelSpec& spec) {
  std::vector<std::pair<int64_t, SmallerModel>> models;
  const int64_t bytes = WeightBytes(spec);
  for (const char* name : kTypes) {
    const WeightFormat* type = FindWeightFormat(name);
    if (type == nullptr) continue;
    SmallerModel model;
    absl::StatusOr<ModelSpec> own = ReadModelSpec(checkpoint, type);
    if (own.ok()) {
      model = {absl::StrCat("--weights=", name), *std::move(own)};
    } else {
      model = {absl::StrCat("another file of the model, with weights as ", name),
               InAnotherFile(spec, type)};
    }
    const int64_t size = WeightBytes(model.spec);
    if (size < bytes) models.emplace_back(size, std::move(model));
  }
  std::stable_sort(models.begin(), models.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<SmallerModel> result;
  for (auto& [size, model] : models) result.push_back(std::move(model));
  return result;
}

}  // namespace tprun
