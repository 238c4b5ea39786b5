#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "comm/device.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/kernels/kernels.h"
#include "engine/layers/layers.h"
#include "engine/runtime/memory_layout.h"
#include "engine/runtime/step.h"

namespace tprun {

// Bytes of this rank's weights read so far, and in all.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

// The parts an engine works with; all outlive it.
struct EngineParts {
  Communicator* world = nullptr;  // over host memory
  Device* device = nullptr;
  Kernels* kernels = nullptr;
  ThreadPool* pool = nullptr;  // reads weights in parallel
  // The same ranks over the memory of their devices (see comm/device_communicator.h); nullptr where
  // that is the host's.
  Communicator* exchange = nullptr;
  // Whether decode steps may be recorded once and run again (see Device::Capture).
  bool record_decode = true;
  int load_threads = 0;  // of the pool that read weights, at most; 0: all
};

// What Forward gives of the last token of each run: all logits, or one token alone, the likeliest
// or one drawn on the device, which costs less.
enum class ForwardOutput { kLogits, kGreedy, kSampled };

// Whether to give a Forward up; the same answer on every rank.
using StopCheck = std::function<absl::StatusOr<bool>()>;

// Takes logits [tokens, vocab] of a run's tokens from `first` on.
using LogitsSink = std::function<absl::Status(int64_t first, absl::Span<const float> logits)>;

// One rank of a running model: carries out its part of a placement, decides nothing. Every rank
// makes the same calls. Not thread-safe.
//
//   ASSIGN_OR_RETURN(auto engine, Engine::Create(spec, placements, options, parts));
//   RETURN_IF_ERROR(engine->LoadWeights(checkpoint, progress));
//   RETURN_IF_ERROR(engine->Forward({{0, 0, prompt}, {1, 0, other_prompt}}));
//   if (world->rank() == 0) Sample(engine->logits());
class Engine {
 public:
  // Allocates everything the layout says and sets up the groups. `spec` and `placements` are
  // copied. InvalidArgument for unsound placements, ResourceExhausted when the device is too small.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(ModelSpec spec,
                                                        std::vector<Placement> placements,
                                                        const EngineOptions& options,
                                                        const EngineParts& parts);
  // Waits for the device: work on it uses the engine's memory, kernels and groups.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Reads this rank's byte ranges of `checkpoint`; for a checkpoint without tensors fills them with
  // random weights that depend on the tensor alone, scaled so that activations keep their size.
  absl::Status LoadWeights(const Checkpoint& checkpoint, const LoadProgress& progress);
  // Its two steps, of which the first may do the other's work as it goes. It may run in another
  // thread than the rank's, while that one does not use the engine.
  absl::Status ReadWeights(const Checkpoint& checkpoint, const LoadProgress& progress);
  absl::Status ArrangeWeights();

  // Puts the tokens of some sequences, each at most once, through the model together, in chunks of
  // at most options.prefill_chunk tokens, and leaves on rank 0 what is asked for. A step of one
  // token each is a decode step. `stop`, if given, is asked between the blocks of longer steps, on
  // every rank; Cancelled once it says so: the cache then holds what came before the runs, of which
  // Reusable tells what is left. InvalidArgument when tokens do not fit the context, an id is
  // outside the vocabulary, or a run builds on more than Reusable says.
  absl::Status Forward(absl::Span<const SequenceRun> runs,
                       ForwardOutput output = ForwardOutput::kLogits,
                       const StopCheck& stop = nullptr);
  absl::Status Forward(absl::Span<const int32_t> tokens, int64_t first_position, int sequence) {
    return Forward({{sequence, first_position, tokens}});
  }

  // How the next Forward with kSampled draws, one request for each of its runs, whose sequences are
  // set there; and which tokens a sequence had before its next run, for repetition penalties. Both
  // with the same arguments on every rank.
  void SetSampling(std::vector<SampleRequest> requests) { sampling_ = std::move(requests); }
  absl::Status SetSeen(int sequence, absl::Span<const int32_t> ids);

  // One step of the second stack, for every run of the last Forward: `tokens`, one for each, are
  // those chosen before (of the first stream for step 0), in the order of the runs. Leaves logits()
  // [runs, spec().depth.vocab] on rank 0. InvalidArgument for a step out of turn.
  absl::Status ForwardDepth(int step, absl::Span<const int32_t> tokens);

  // Puts tokens of one sequence through the model and gives rank 0 the logits of each from
  // `first` on, in order, in parts of at most max(options.logit_rows, options.batch) tokens.
  absl::Status ForwardAll(const SequenceRun& run, int64_t first, const LogitsSink& sink);

  // How many of the first `tokens` of a sequence that are in its cache the next run on it may build
  // on: all of them or, where sliding windows have gone too far beyond, none. The same on every
  // rank.
  int64_t Reusable(int sequence, int64_t tokens) const;

  // The next run on a sequence may begin anywhere: what its cache holds does not matter.
  void Forget(int sequence) { reached_[sequence] = 0; }

  // Waits until this rank's part of all Forwards is done.
  absl::Status Synchronize() { return parts_.device->Synchronize(); }

  // [runs, vocab] of the last Forward, if it gave logits; meaningful on rank 0.
  absl::Span<const float> logits() const { return logits_; }
  // [runs] of the last Forward, if it gave tokens: the lowest id of the largest finite logit, or
  // the one that was drawn; -1 where no logit is finite; meaningful on rank 0.
  absl::Span<const int32_t> chosen_ids() const { return chosen_ids_; }

  // Why decode steps are not recorded any more; OK when nothing went wrong.
  const absl::Status& recording_problem() const { return recording_problem_; }

  const ModelSpec& spec() const { return spec_; }
  const EngineOptions& options() const { return options_; }
  const MemoryLayout& layout() const { return layout_; }
  const std::vector<Placement>& placements() const { return placements_; }

 private:
  Engine(ModelSpec spec, std::vector<Placement> placements, const EngineOptions& options,
         const EngineParts& parts);

  absl::Status CheckHasOps() const;
  absl::Status Allocate();
  absl::Status MakeGroups();
  absl::Status ShareOutputs(const std::vector<int>& ranks);
  absl::Status AgreeOnRecording();
  bool CanRecord() const;
  // Whether ReadWeights arranges too, piece by piece.
  bool ArrangesAsRead() const;
  static bool IsArranged(const TensorSpec& tensor);
  int64_t MatrixRows(const Region& region) const;
  absl::Status ArrangePiece(const Region& region, int64_t begin, int64_t end);
  absl::Status MakeRopeFrequencies();
  void BindWorkspace();
  void BindBlocks();
  void BindAttention(int layer);
  void BindLatentAttention(int layer);
  void BindMlp(int layer);
  void BindExperts(int layer);
  void BindEmbedding();
  void BindHead();

  const Region* FindRegion(RegionUse use, int layer) const;
  void* Address(const Region& region) const;
  WeightMatrix MatrixIn(const Region& region) const;
  // This rank's shard of the tensor of `role` in `block`; data is null where there is none.
  WeightMatrix Matrix(int block, TensorRole role) const;
  const float* Vector(int block, TensorRole role) const;
  // All matrices of `role` in `block`, in order.
  std::vector<EmbeddingTable> Tables(int block, TensorRole role) const;
  ExpertMatrices Experts(int block, TensorRole role, TensorRole bias_role) const;

  void NoteReached(absl::Span<const SequenceRun> runs, bool done);
  absl::Status CheckRuns(absl::Span<const SequenceRun> runs) const;
  absl::Status CheckRun(const SequenceRun& run) const;
  absl::Status RunStep(const Step& step, ForwardOutput output, const StopCheck& stop);
  absl::StatusOr<StepTokens> UploadInputs(const Step& step);
  // Gives the device a step's work, up to what rank 0 then fetches.
  absl::Status Enqueue(const Step& step, const StepTokens& tokens, ForwardOutput output,
                       const StopCheck& stop = nullptr);
  // The same by launching a recording of it, once there is one.
  absl::Status EnqueueRecorded(const Step& step, const StepTokens& tokens, ForwardOutput output);
  // The part of it that follows the blocks.
  absl::Status EnqueueHead(const Step& step, ForwardOutput output);
  // The logits of `part` of a step whose blocks are done.
  absl::Status GiveLogits(Step& step, const TokenRange& part, int64_t first_of_step,
                          const LogitsSink& sink);
  absl::Status RunBlocks(const Step& step, const StepTokens& tokens,
                         const StopCheck& stop = nullptr);
  Communicator& exchange() const {
    return parts_.exchange != nullptr ? *parts_.exchange : *parts_.world;
  }
  StepContext StepOf(int block) const;
  bool Runs(int block) const { return runs_[block]; }
  const InputNorm& NormOf(int block) const;
  // Whether `block` begins with the norm of what `block` - 1 leaves on this rank, so that the sum
  // and the norm are one pass.
  bool JoinsNorm(int block, const Step& step) const;
  absl::Status RunBlock(int block, const StepTokens& tokens, const StepContext& step);
  absl::Status RunHeadBlock(const Step& step, ForwardOutput output);
  // `count` floats at `data`, which all ranks of `from` hold, to those ranks of `to` that do not.
  absl::Status Hop(const std::vector<int>& from, const std::vector<int>& to, void* data,
                   int64_t count);
  // `bytes` bytes at `data` on the device, in results_ on the host.
  absl::Status FetchResults(const void* data, int64_t bytes);
  // `row_counts`: of the logits on each rank of the head's group.
  absl::Status FetchLogits(int64_t first_run, int64_t runs, absl::Span<const int64_t> row_counts);
  std::vector<int64_t> LogitRows() const;
  std::vector<int64_t> DepthLogitRows(int step) const;
  // The last block before the second stack, if there is one, and the head.
  int last_main_block() const;
  // The normed output of the tokens that end in `step`, for the second stack.
  absl::Status KeepHidden(const Step& step);
  absl::StatusOr<Step> MakeDepthStep(int step, absl::Span<const int32_t> tokens) const;
  absl::Status RunDepthInput(int step, const StepTokens& tokens);
  absl::Status RunDepthHead(int step, std::vector<int64_t> rows, int64_t count);
  // The best of what `parts` ranks chose.
  absl::Status FetchChosenIds(int64_t first_run, int64_t runs, int64_t parts);
  absl::Status CheckSampling(absl::Span<const SequenceRun> runs);
  absl::Status UploadSampling(const Step& step);

  ModelSpec spec_;
  std::vector<Placement> placements_;
  EngineOptions options_;
  EngineParts parts_;
  int rank_;
  MemoryLayout layout_;
  std::unique_ptr<Buffer> weights_, kv_cache_, workspace_buffer_;
  std::map<std::vector<int>, std::unique_ptr<Communicator>> groups_;  // of several ranks
  // The memory of block_output, where a group of this rank's sums it up in place; and that group.
  std::unique_ptr<SharedParts> shared_parts_;
  float* sum_buffer_ = nullptr;  // of one of groups_; block_output, if there is such
  std::vector<int> sharing_ranks_;
  std::vector<bool> runs_;      // blocks of this rank
  bool record_decode_ = false;  // the same on every rank
  // Decode steps by tokens and output. The first of a kind runs as it is: libraries set themselves
  // up at their first call, which cannot be recorded.
  struct Recording {
    bool ran_once = false;
    std::unique_ptr<DeviceGraph> graph;
  };
  std::map<std::pair<int64_t, ForwardOutput>, Recording> recordings_;
  absl::Status recording_problem_;  // the same on every rank
  Workspace workspace_;
  EmbeddingBlock embedding_;
  std::vector<AttentionBlock> attention_;
  std::vector<MlpBlock> mlp_;
  HeadBlock head_;
  std::unique_ptr<Buffer> results_;  // host memory that the device copies a step's output to
  std::vector<float> logits_;
  std::vector<int32_t> chosen_ids_;
  std::vector<SampleRequest> sampling_;  // of the next Forward's runs
  std::vector<int64_t> reached_;         // of each sequence: the end of what it has seen since 0
  std::vector<int64_t> stream_rows_;     // of each stream's table
  std::vector<int64_t> depth_rows_;      // of the table of each step of the second stack
  std::vector<int> ended_sequences_;     // of the last Forward's runs
  int depth_steps_done_ = 0;             // since then
};

}  // namespace tprun
