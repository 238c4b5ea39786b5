#include "engine/runtime/load_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/kernels/arrange.h"
#include "engine/runtime/read_shard.h"

namespace tprun {
namespace {

// A large shard is read in parts of about this size, so that threads share it and progress moves.
constexpr int64_t kPartBytes = int64_t{4} << 20;

// Some rows of one region.
struct Part {
  const Region* region;
  const TensorSpec* tensor;
  Shard shard;     // within the tensor
  int64_t row;     // its first, within the region
  int64_t offset;  // in the weight allocation
  int64_t bytes;
};

// The parts of a region: of each matrix in it as many rows as are about kPartBytes, in steps.
void CutRegion(const Region& region, const TensorSpec& tensor, int64_t matrix_rows, int64_t step,
               bool only_first, std::vector<Part>& parts) {
  const int64_t all_rows = region.shard.rows.size(), row_bytes = region.bytes / all_rows;
  const int64_t at_once = std::max<int64_t>(1, kPartBytes / row_bytes / step) * step;
  for (int64_t row = 0; row < all_rows;) {
    const int64_t matrix_end = std::min(all_rows, (row / matrix_rows + 1) * matrix_rows);
    const int64_t rows = std::min(at_once, matrix_end - row);
    const int64_t begin = region.shard.rows.begin + row;
    parts.push_back({&region,
                     &tensor,
                     {{begin, begin + rows}, region.shard.columns},
                     row,
                     region.offset + row * row_bytes,
                     rows * row_bytes});
    row += rows;
    if (only_first) return;
  }
}

// The parts of all regions, or with `only_first` one of each, its largest.
std::vector<Part> CutIntoParts(const ModelSpec& spec, const MemoryLayout& layout, int64_t step,
                               const PieceArranger* arranger, bool only_first = false) {
  std::vector<Part> parts;
  int64_t end_of_last = 0;
  for (const Region& region : layout.regions) {
    // A tied head shares the embedding's region, which is then already in the list.
    const bool shared = region.offset < end_of_last;
    if (region.use != RegionUse::kTensor || region.bytes == 0 || shared) continue;
    end_of_last = region.offset + region.bytes;
    const TensorSpec& tensor = spec.tensors[region.tensor];
    const int64_t matrix_rows =
        arranger != nullptr ? arranger->matrix_rows(region) : region.shard.rows.size();
    CutRegion(region, tensor, matrix_rows, step, only_first, parts);
  }
  return parts;
}

int64_t LargestPart(const std::vector<Part>& parts) {
  int64_t largest = 0;
  for (const Part& part : parts) largest = std::max(largest, part.bytes);
  return largest;
}

class Filler {
 public:
  virtual ~Filler() = default;
  // Writes the part in its stored format to host memory `out`.
  virtual absl::Status Fill(const Part& part, void* out) const = 0;
  // Host memory beside `out` that Fill takes for a moment, at most.
  virtual int64_t BufferBytes(const Part& part) const = 0;
};

class CheckpointFiller : public Filler {
 public:
  explicit CheckpointFiller(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::Status Fill(const Part& part, void* out) const override {
    return ReadShard(checkpoint_, *part.tensor, part.shard, out);
  }

  int64_t BufferBytes(const Part& part) const override {
    return ShardBufferBytes(checkpoint_, *part.tensor, part.shard);
  }

 private:
  const Checkpoint& checkpoint_;
};

// Random weights for benchmarks: norms are one, matrices have a variance that keeps the size of
// activations. A few rows of noise, the same for every rank, repeated over the tensor.
class RandomFiller : public Filler {
 public:
  absl::Status Fill(const Part& part, void* out) const override {
    const TensorSpec& tensor = *part.tensor;
    if (tensor.shape.size() == 1) {
      std::fill_n(static_cast<float*>(out), part.shard.rows.size(), IsNorm(tensor) ? 1.0f : 0.0f);
      return absl::OkStatus();
    }
    const WeightFormat& format = *tensor.format;
    if (format.quantize == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("random weights of format ", format.name,
                                                     " cannot be made: it has no encoder"));
    }
    const int64_t columns = tensor.shape[1];
    std::vector<float> noise(kRows * columns);
    // Uniform with variance 1 / columns. The name's hash is the seed.
    std::minstd_rand random(static_cast<uint32_t>(std::hash<std::string>()(tensor.name)));
    const float scale = std::sqrt(12.0f / static_cast<float>(columns)) /
                        static_cast<float>(std::minstd_rand::max());
    const float middle = static_cast<float>(std::minstd_rand::max()) / 2;
    for (float& value : noise) value = (static_cast<float>(random()) - middle) * scale;
    const int64_t row_bytes = format.Bytes(columns);
    std::vector<char> blocks(kRows * row_bytes);
    format.quantize(noise.data(), blocks.data(), kRows * columns);
    const int64_t part_bytes = format.Bytes(part.shard.columns.size());
    const char* first = blocks.data() + format.Bytes(part.shard.columns.begin);
    for (int64_t row = 0; row < part.shard.rows.size(); ++row) {
      std::memcpy(static_cast<char*>(out) + row * part_bytes,
                  first + (part.shard.rows.begin + row) % kRows * row_bytes, part_bytes);
    }
    return absl::OkStatus();
  }

  int64_t BufferBytes(const Part& part) const override {
    if (part.tensor->shape.size() == 1) return 0;
    const int64_t columns = part.tensor->shape[1];
    return kRows * (columns * int64_t{sizeof(float)} + part.tensor->format->Bytes(columns));
  }

 private:
  static constexpr int64_t kRows = 13;  // distinct ones

  static bool IsNorm(const TensorSpec& tensor) {
    return tensor.role == TensorRole::kNorm || tensor.role == TensorRole::kPostNorm ||
           tensor.role == TensorRole::kQueryNorm || tensor.role == TensorRole::kKeyNorm ||
           tensor.role == TensorRole::kQueryDownNorm || tensor.role == TensorRole::kKvDownNorm;
  }
};

// Fills parts from several threads, each through staging memory of its own where the host cannot
// reach the device's.
class PartWriter {
 public:
  PartWriter(const Filler& filler, const std::vector<Part>& parts, char* base, Device& device,
             const PieceArranger* arranger, int workers)
      : filler_(filler),
        arranger_(arranger),
        base_(base),
        device_(device),
        largest_(LargestPart(parts)),
        uploaders_(workers) {}

  absl::Status Write(const Part& part, int worker) {
    char* to = base_ + part.offset;
    if (device_.host_accessible()) {
      RETURN_IF_ERROR(filler_.Fill(part, to));
      if (arranger_ == nullptr) return absl::OkStatus();  // else while it is in a cache
      return arranger_->arrange(*part.region, part.row, part.row + part.shard.rows.size());
    }
    std::unique_ptr<Uploader>& uploader = uploaders_[worker];
    if (uploader == nullptr) {
      ASSIGN_OR_RETURN(uploader, device_.MakeUploader(largest_));
    }
    ASSIGN_OR_RETURN(char* staging, uploader->Stage());
    RETURN_IF_ERROR(filler_.Fill(part, staging));
    return uploader->Upload(to, part.bytes);
  }

  absl::Status Finish() {
    absl::Status status;
    for (const std::unique_ptr<Uploader>& uploader : uploaders_) {
      if (uploader != nullptr) status.Update(uploader->Finish());
    }
    return status;
  }

 private:
  const Filler& filler_;
  const PieceArranger* const arranger_;  // or none
  char* const base_;
  Device& device_;
  const int64_t largest_;
  std::vector<std::unique_ptr<Uploader>> uploaders_;  // of each worker
};

std::unique_ptr<Filler> MakeFiller(const Checkpoint& checkpoint) {
  if (checkpoint.kind() == CheckpointKind::kConfigOnly) return std::make_unique<RandomFiller>();
  return std::make_unique<CheckpointFiller>(checkpoint);
}

}  // namespace

int64_t LoadBufferBytes(const Checkpoint& checkpoint, const ModelSpec& spec,
                        const MemoryLayout& layout, int threads, bool staged) {
  constexpr int64_t kStagings = 2;  // see Uploader
  const std::vector<Part> parts =
      CutIntoParts(spec, layout, staged ? 1 : cpu::kTileRows, nullptr, /*only_first=*/true);
  const std::unique_ptr<Filler> filler = MakeFiller(checkpoint);
  int64_t most = 0;
  for (const Part& part : parts) {
    most = std::max(most, filler->BufferBytes(part));
    if (staged || part.tensor->shape.size() < 2) continue;
    most = std::max(most, cpu::kTileRows * (part.bytes / part.shard.rows.size()));  // arranging
  }
  return threads * (most + (staged ? kStagings * LargestPart(parts) : 0));
}

absl::Status LoadShards(const Checkpoint& checkpoint, const ModelSpec& spec,
                        const MemoryLayout& layout, char* base, Device& device, ThreadPool& pool,
                        const LoadProgress& progress, int threads, const PieceArranger* arranger) {
  const std::vector<Part> parts =
      CutIntoParts(spec, layout, arranger != nullptr ? arranger->step : 1, arranger);
  const std::unique_ptr<Filler> filler = MakeFiller(checkpoint);
  int64_t total = 0;
  for (const Part& part : parts) total += part.bytes;
  PartWriter writer(*filler, parts, base, device, arranger, pool.num_threads());
  std::mutex mutex;  // guards first_error, done and the callback
  absl::Status first_error;
  int64_t done = 0;
  // Of fewer threads each takes more at a time.
  const bool fewer = threads > 0 && threads < pool.num_threads();
  const int64_t each =
      fewer ? (static_cast<int64_t>(parts.size()) + threads - 1) / threads : int64_t{1};
  pool.ParallelFor(parts.size(), each, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) {
      const absl::Status status = writer.Write(parts[i], worker);
      const std::lock_guard<std::mutex> lock(mutex);
      if (first_error.ok()) first_error = status;
      if (!first_error.ok()) return;
      done += parts[i].bytes;
      if (progress) progress(done, total);
    }
  });
  first_error.Update(writer.Finish());
  return first_error;
}

}  // namespace tprun
