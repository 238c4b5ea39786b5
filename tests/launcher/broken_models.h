#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/temporary_folder.h"

namespace tprun {

struct BrokenModel {
  std::string name;
  std::string path;
  std::string expected;  // part of the message
};

// Copies of a sound model, each with one fault; removed with the object.
class BrokenModels {
 public:
  // `sound`: a folder with config.json, tokenizer.json and model.safetensors, or a .gguf file.
  explicit BrokenModels(std::string sound);

  // Faults of every file of a folder.
  std::vector<BrokenModel> Make();
  std::vector<BrokenModel> MakeGguf();

 private:
  using Edit = std::function<void(std::string& contents)>;
  using EditJson = std::function<void(Json& json)>;

  // One more copy, of which `file` has been edited.
  void Add(const std::string& name, const std::string& file, const std::string& expected,
           const Edit& edit);
  void AddConfig(const std::string& name, const std::string& expected, const EditJson& edit);
  // Edits the JSON header of model.safetensors.
  void AddHeader(const std::string& name, const std::string& expected, const EditJson& edit);
  void AddGguf(const std::string& name, const std::string& expected, const Edit& edit);
  void AddConfigFaults();
  void AddSafetensorsFaults();
  void AddTokenizerFaults();

  std::string sound_;
  TemporaryFolder folder_;
  std::vector<BrokenModel> models_;
};

}  // namespace tprun
