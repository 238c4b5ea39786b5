#include "tests/launcher/broken_models.h"

#include <stdlib.h>

#include <cstring>
#include <filesystem>

#include "base/file.h"

namespace tprun {
namespace {

constexpr char kUp[] = "model.layers.3.mlp.up_proj.weight";

std::string Contents(const std::string& path) { return ReadFile(path).value_or(""); }

void WriteOrDie(const std::string& path, const std::string& contents) {
  if (!WriteFile(path, contents).ok()) std::abort();
}

void PutNumber(std::string& contents, size_t offset, uint64_t value) {
  std::memcpy(contents.data() + offset, &value, sizeof(value));
}

}  // namespace

BrokenModels::BrokenModels(std::string sound)
    : sound_(std::move(sound)), folder_(TemporaryFolder::Make("tprun-broken").value()) {}

void BrokenModels::Add(const std::string& name, const std::string& file,
                       const std::string& expected, const Edit& edit) {
  const std::string folder = folder_.File(name);
  std::filesystem::create_directory(folder);
  for (const auto& entry : std::filesystem::directory_iterator(sound_)) {
    if (entry.path().filename() == file) continue;
    std::filesystem::create_symlink(entry.path(),
                                    JoinPath(folder, entry.path().filename().string()));
  }
  std::string contents = Contents(JoinPath(sound_, file));
  edit(contents);
  WriteOrDie(JoinPath(folder, file), contents);
  models_.push_back({name, folder, expected});
}

void BrokenModels::AddConfig(const std::string& name, const std::string& expected,
                             const EditJson& edit) {
  Add(name, "config.json", expected, [&](std::string& contents) {
    Json json = ParseJson(contents).value_or(Json::object());
    edit(json);
    contents = json.dump();
  });
}

void BrokenModels::AddHeader(const std::string& name, const std::string& expected,
                             const EditJson& edit) {
  Add(name, "model.safetensors", expected, [&](std::string& contents) {
    uint64_t bytes = 0;
    std::memcpy(&bytes, contents.data(), sizeof(bytes));
    Json json = ParseJson(contents.substr(8, bytes)).value_or(Json::object());
    edit(json);
    const std::string header = json.dump();
    std::string edited(8, '\0');
    PutNumber(edited, 0, header.size());
    contents = edited + header + contents.substr(8 + bytes);
  });
}

void BrokenModels::AddGguf(const std::string& name, const std::string& expected, const Edit& edit) {
  std::string contents = Contents(sound_);
  edit(contents);
  const std::string path = folder_.File(name + ".gguf");
  WriteOrDie(path, contents);
  models_.push_back({name, path, expected});
}

void BrokenModels::AddConfigFaults() {
  Add("config_is_empty", "config.json", "config.json", [](std::string& text) { text.clear(); });
  Add("config_is_cut", "config.json", "config.json",
      [](std::string& text) { text.resize(text.size() / 2); });
  Add("config_is_deep", "config.json", "config.json",
      [](std::string& text) { text = std::string(100'000, '['); });
  AddConfig("architecture", "unknown architecture \"mamba\"; supported: llama", [](Json& config) {
    config["model_type"] = "mamba";
    config["architectures"] = {"MambaForCausalLM"};
  });
  AddConfig("no_hidden_size", "hidden_size", [](Json& config) { config.erase("hidden_size"); });
  AddConfig("text_hidden_size", "hidden_size", [](Json& config) { config["hidden_size"] = "256"; });
  AddConfig("no_layers", "num_hidden_layers",
            [](Json& config) { config["num_hidden_layers"] = 0; });
  AddConfig("negative_layers", "num_hidden_layers",
            [](Json& config) { config["num_hidden_layers"] = -3; });
  AddConfig("absurd_layers", "num_hidden_layers",
            [](Json& config) { config["num_hidden_layers"] = int64_t{1} << 50; });
  AddConfig("absurd_vocabulary", "vocab_size",
            [](Json& config) { config["vocab_size"] = int64_t{1} << 60; });
  AddConfig("one_layer_more", "model.layers.6.",
            [](Json& config) { config["num_hidden_layers"] = 7; });
  AddConfig("kv_heads", "num_key_value_heads",
            [](Json& config) { config["num_key_value_heads"] = 3; });
  AddConfig("wider_mlp", "mlp", [](Json& config) { config["intermediate_size"] = 1024; });
}

void BrokenModels::AddSafetensorsFaults() {
  const std::string file = "model.safetensors";
  Add("empty", file, file, [](std::string& bytes) { bytes.clear(); });
  Add("cut", file, file, [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  Add("cut_by_one", file, file, [](std::string& bytes) { bytes.pop_back(); });
  Add("cut_header", file, file, [](std::string& bytes) { bytes.resize(100); });
  Add("absurd_header", file, file, [](std::string& bytes) { PutNumber(bytes, 0, ~uint64_t{0}); });
  Add("long_header", file, file, [](std::string& bytes) { PutNumber(bytes, 0, bytes.size() - 7); });
  Add("short_header", file, file, [](std::string& bytes) { PutNumber(bytes, 0, 10); });
  AddHeader("no_tensor", kUp, [](Json& header) {
    header["model.layers.3.mlp.up_proj.wait"] = header[kUp];
    header.erase(kUp);
  });
  AddHeader("shape", kUp, [](Json& header) { header[kUp]["shape"] = {256, 512}; });
  AddHeader("shape_overflow", kUp, [](Json& header) {
    header[kUp]["shape"] = {int64_t{1} << 40, int64_t{1} << 40};
  });
  AddHeader("negative_shape", kUp, [](Json& header) { header[kUp]["shape"] = {-512, -256}; });
  AddHeader("dtype", kUp, [](Json& header) { header[kUp]["dtype"] = "Q17"; });
  AddHeader("offsets_beyond_the_file", kUp, [](Json& header) {
    const int64_t end = header[kUp]["data_offsets"][1];
    header[kUp]["data_offsets"] = {end + (int64_t{1} << 40),
                                   end + (int64_t{1} << 40) + 512 * 256 * 2};
  });
  AddHeader("offsets_of_another_size", kUp, [](Json& header) {
    header[kUp]["data_offsets"][1] = header[kUp]["data_offsets"][1].get<int64_t>() - 2;
  });
}

void BrokenModels::AddTokenizerFaults() {
  const std::string file = "tokenizer.json";
  Add("tokenizer_is_cut", file, file, [](std::string& text) { text.resize(text.size() / 2); });
  Add("tokenizer_is_empty", file, file, [](std::string& text) { text.clear(); });
  Add("tokenizer_of_another_kind", file, "Unigramm", [](std::string& text) {
    Json json = ParseJson(text).value_or(Json::object());
    json["model"]["type"] = "Unigramm";
    text = json.dump();
  });
  Add("tokenizer_too_large", file, "they do not belong together", [](std::string& text) {
    Json json = ParseJson(text).value_or(Json::object());
    for (int i = 0; i < 9; ++i) json["model"]["vocab"]["extra" + std::to_string(i)] = 5000 + i;
    text = json.dump();
  });
}

std::vector<BrokenModel> BrokenModels::Make() {
  AddConfigFaults();
  AddSafetensorsFaults();
  AddTokenizerFaults();
  const std::string empty = folder_.File("empty_folder");
  std::filesystem::create_directory(empty);
  models_.push_back({"empty_folder", empty, empty});
  models_.push_back({"no_such_file", "/nowhere/model", "/nowhere/model"});
  models_.push_back({"a_device", "/dev/null", "/dev/null"});
  models_.push_back({"no_weights", JoinPath(sound_, "config.json"), "no weights"});
  return models_;
}

std::vector<BrokenModel> BrokenModels::MakeGguf() {
  AddGguf("empty", "empty.gguf", [](std::string& bytes) { bytes.clear(); });
  AddGguf("no_magic", "no_magic.gguf", [](std::string& bytes) { bytes[0] = 'X'; });
  AddGguf("version", "version", [](std::string& bytes) { bytes[4] = 99; });
  AddGguf("tensor_count", "tensor_count.gguf",
          [](std::string& bytes) { PutNumber(bytes, 8, uint64_t{1} << 60); });
  AddGguf("key_count", "key_count.gguf",
          [](std::string& bytes) { PutNumber(bytes, 16, uint64_t{1} << 60); });
  AddGguf("key_length", "key_length.gguf",
          [](std::string& bytes) { PutNumber(bytes, 24, ~uint64_t{0}); });
  AddGguf("cut_at_header", "cut_at_header.gguf", [](std::string& bytes) { bytes.resize(20); });
  AddGguf("cut_in_keys", "cut_in_keys.gguf", [](std::string& bytes) { bytes.resize(300); });
  AddGguf("cut_in_data", "cut_in_data.gguf",
          [](std::string& bytes) { bytes.resize(bytes.size() / 2); });
  AddGguf("architecture", "does not know the architecture \"lxama\"", [](std::string& bytes) {
    for (size_t at = bytes.find("llama"); at != std::string::npos && at < 4000;
         at = bytes.find("llama", at)) {
      bytes[at + 1] = 'x';
    }
  });
  AddGguf("no_tensor", "blk.2.ffn_up",
          [](std::string& bytes) { bytes[bytes.find("blk.2.ffn_up.weight") + 4] = '9'; });
  return models_;
}

}  // namespace tprun
