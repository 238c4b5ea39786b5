#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/format/weight_format.h"

namespace tprun {

class Checkpoint;

// A matrix that a quantiser keeps in tensors of its own (packed integers, scales, zero points) as
// blocks of a WeightFormat. See packed_tensors.h.
class PackedTensor {
 public:
  virtual ~PackedTensor() = default;
  // Rows x columns of the matrix, blocks packed one row after another; columns are multiples of the
  // format's block, all within the matrix. Thread-safe.
  virtual absl::Status Read(const Checkpoint& checkpoint, int64_t row_begin, int64_t row_end,
                            int64_t column_begin, int64_t column_end, void* out) const = 0;
};

// One tensor of a checkpoint, as its header tells it. Row-major, slowest dimension first whatever
// the file says (GGUF lists them the other way round), so a linear layer is [out, in].
struct CheckpointTensor {
  std::string name;
  std::vector<int64_t> shape;
  const WeightFormat* format = nullptr;  // nullptr: a type this program cannot read
  std::string type_name;                 // as the file names it: "BF16", "Q4_K"
  int file = 0;                          // index into Checkpoint::files()
  int64_t offset = 0;                    // of the first byte, from the start of the file
  int64_t bytes = 0;
  // Set: the tensor is not in the file as it is; this makes it, and offset means nothing.
  std::shared_ptr<const PackedTensor> packed;
};

enum class CheckpointKind { kConfigOnly, kSafetensors, kGguf };

// The header of a model: its configuration and where each tensor's bytes are. Opening reads headers
// only, never the data, and checks every length and offset against the size of the file.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open("model.gguf"));
//   const CheckpointTensor* tensor = checkpoint->Find("output_norm.weight");
class Checkpoint {
 public:
  // `path` is a folder in Hugging Face's layout (config.json beside model.safetensors, or an index
  // and its shards), a .safetensors file with a config.json beside it, a .gguf file (the first of a
  // split set opens them all), or a config.json, which then has no tensors. A folder that holds a
  // config.json and no weights (or an index without any of its shards) opens as kConfigOnly; a
  // folder with exactly one .gguf and no config.json opens that.
  //
  // NotFound or InvalidArgument: one sentence with path, what was wanted and what was found
  // (truncated data, header lengths that lie, overlapping or misaligned tensors, missing shards,
  // duplicate names, bad JSON).
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& path);

  CheckpointKind kind() const { return kind_; }
  const std::string& path() const { return path_; }
  // config.json, or for GGUF its metadata under the names config.json uses (see gguf.h).
  const Json& config() const { return config_; }
  // GGUF metadata as it is, {} otherwise. Arrays of a vocabulary's size are in here too.
  const Json& metadata() const { return metadata_; }
  const std::map<std::string, CheckpointTensor, std::less<>>& tensors() const { return tensors_; }
  const std::vector<std::unique_ptr<RandomAccessFile>>& files() const { return files_; }
  // nullptr when there is no tensor of that name.
  const CheckpointTensor* Find(absl::string_view name) const;
  // The folder of the model's side files (tokenizer.json, generation_config.json).
  std::string directory() const;

 private:
  friend class CheckpointBuilder;
  Checkpoint() = default;

  CheckpointKind kind_ = CheckpointKind::kConfigOnly;
  std::string path_;
  Json config_;
  Json metadata_ = Json::object();
  std::map<std::string, CheckpointTensor, std::less<>> tensors_;
  std::vector<std::unique_ptr<RandomAccessFile>> files_;
};

}  // namespace tprun
