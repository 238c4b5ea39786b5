#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/checkpoint/checkpoint.h"

namespace tprun {

// Fills a Checkpoint; used by the readers of the single formats.
class CheckpointBuilder {
 public:
  CheckpointBuilder(CheckpointKind kind, std::string path);

  void SetConfig(Json config) { checkpoint_->config_ = std::move(config); }
  void SetMetadata(Json metadata) { checkpoint_->metadata_ = std::move(metadata); }
  // Takes a file and its tensors. InvalidArgument when a name is already there.
  absl::Status AddFile(std::unique_ptr<RandomAccessFile> file,
                       std::vector<CheckpointTensor> tensors);

  // Adds a tensor that others stand for, or puts it in the place of the one of its name.
  void AddPacked(CheckpointTensor tensor);

  const Checkpoint& checkpoint() const { return *checkpoint_; }
  std::unique_ptr<Checkpoint> Build() && { return std::move(checkpoint_); }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
};

}  // namespace tprun
