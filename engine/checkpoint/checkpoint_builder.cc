#include "engine/checkpoint/checkpoint_builder.h"

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/messages.h"

namespace tprun {

CheckpointBuilder::CheckpointBuilder(CheckpointKind kind, std::string path)
    : checkpoint_(new Checkpoint()) {
  checkpoint_->kind_ = kind;
  checkpoint_->path_ = std::move(path);
}

absl::Status CheckpointBuilder::AddFile(std::unique_ptr<RandomAccessFile> file,
                                        std::vector<CheckpointTensor> tensors) {
  const int index = static_cast<int>(checkpoint_->files_.size());
  checkpoint_->files_.push_back(std::move(file));
  for (CheckpointTensor& tensor : tensors) {
    tensor.file = index;
    std::string name = tensor.name;
    const auto [it, inserted] = checkpoint_->tensors_.try_emplace(name, std::move(tensor));
    if (!inserted) {
      return absl::InvalidArgumentError(absl::StrCat(
          checkpoint_->files_[index]->path(), ": wanted every tensor once, found ", Quoted(name),
          " again (first in ", BaseName(checkpoint_->files_[it->second.file]->path()), ")"));
    }
  }
  return absl::OkStatus();
}

void CheckpointBuilder::AddPacked(CheckpointTensor tensor) {
  std::string name = tensor.name;
  checkpoint_->tensors_.insert_or_assign(std::move(name), std::move(tensor));
}

}  // namespace tprun
