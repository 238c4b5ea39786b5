#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "engine/runtime/engine.h"

// The part of Engine that puts tokens through the model.

namespace tprun {

absl::Status Engine::CheckRun(const SequenceRun& run) const {
  if (run.sequence < 0 || run.sequence >= options_.batch) {
    return absl::InvalidArgumentError(
        absl::StrCat("sequence ", run.sequence, " is not one of the batch of ", options_.batch));
  }
  const auto size = static_cast<int64_t>(run.tokens.size());
  if (size % spec_.streams != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(size, " tokens are no whole number of positions of ", spec_.streams));
  }
  const int64_t end = run.first_position + size / spec_.streams;
  if (run.tokens.empty() || run.first_position < 0 || end > options_.context) {
    return absl::InvalidArgumentError(absl::StrCat("positions ", run.first_position, " to ", end,
                                                   " do not fit the context of ",
                                                   options_.context));
  }
  if (Reusable(run.sequence, run.first_position) < run.first_position) {
    return absl::InvalidArgumentError(
        absl::StrCat("position ", run.first_position, " of sequence ", run.sequence,
                     " after position ", reached_[run.sequence] - 1,
                     ": sliding windows no longer hold what is before it; go back by ", "at most ",
                     ChunkTokens(options_), " positions, or begin at 0"));
  }
  const bool several = spec_.streams > 1;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t id = run.tokens[i];
    const int64_t limit = several ? stream_rows_[i % spec_.streams] : spec_.vocab;
    if (id >= (several ? -1 : 0) && id < limit) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", id, " is outside the vocabulary of ", limit));
  }
  return absl::OkStatus();
}

// What is written at some position of a ring is what was so many rows before it.
int64_t Engine::Reusable(int sequence, int64_t tokens) const {
  if (reached_[sequence] - tokens <= ChunkTokens(options_)) return tokens;
  const bool rings =
      std::any_of(spec_.layers.begin(), spec_.layers.end(), [&](const LayerSpec& layer) {
        return layer.stack.empty() && KvPositions(layer, options_) < options_.context;
      });
  return rings ? 0 : tokens;
}

// A text begun anew counts as the shorter one only once it is in all layers: until then, or if that
// fails, rings hold rows of the text before.
void Engine::NoteReached(absl::Span<const SequenceRun> runs, bool done) {
  for (const SequenceRun& run : runs) {
    int64_t& reached = reached_[run.sequence];
    const int64_t end =
        run.first_position + static_cast<int64_t>(run.tokens.size()) / spec_.streams;
    reached = done && run.first_position == 0 ? end : std::max(reached, end);
  }
}

absl::Status Engine::CheckRuns(absl::Span<const SequenceRun> runs) const {
  std::vector<bool> seen(options_.batch);
  for (const SequenceRun& run : runs) {
    RETURN_IF_ERROR(CheckRun(run));
    if (seen[run.sequence]) {
      return absl::InvalidArgumentError(
          absl::StrCat("sequence ", run.sequence, " comes twice in one step"));
    }
    seen[run.sequence] = true;
  }
  return absl::OkStatus();
}

absl::Status Engine::Forward(absl::Span<const SequenceRun> runs, ForwardOutput output,
                             const StopCheck& stop) {
  RETURN_IF_ERROR(CheckRuns(runs));
  if (output == ForwardOutput::kSampled) RETURN_IF_ERROR(CheckSampling(runs));
  NoteReached(runs, /*done=*/false);
  logits_.clear();
  chosen_ids_.clear();
  if (rank_ == 0 && output == ForwardOutput::kLogits) logits_.resize(runs.size() * spec_.vocab);
  if (rank_ == 0 && output != ForwardOutput::kLogits) chosen_ids_.resize(runs.size());
  const int64_t chunk = ChunkTokens(options_);
  ended_sequences_.clear();
  for (const SequenceRun& run : runs) ended_sequences_.push_back(run.sequence);
  depth_steps_done_ = 0;
  for (const Step& step : CutIntoSteps(runs, chunk, spec_.streams)) {
    RETURN_IF_ERROR(RunStep(step, output, stop));
  }
  NoteReached(runs, /*done=*/true);
  return absl::OkStatus();
}

absl::Status Engine::ForwardAll(const SequenceRun& run, int64_t first, const LogitsSink& sink) {
  RETURN_IF_ERROR(CheckRuns({&run, 1}));
  NoteReached({&run, 1}, /*done=*/false);
  const int64_t chunk = ChunkTokens(options_);
  const int64_t rows = std::min(std::max<int64_t>(options_.batch, options_.logit_rows), chunk);
  logits_.clear();
  chosen_ids_.clear();
  if (rank_ == 0) logits_.resize(rows * spec_.vocab);
  int64_t done = 0;
  ended_sequences_.clear();
  for (Step& step : CutIntoSteps({&run, 1}, chunk, spec_.streams)) {
    step.all_end = false;
    ASSIGN_OR_RETURN(const StepTokens tokens, UploadInputs(step));
    RETURN_IF_ERROR(RunBlocks(step, tokens));
    for (int64_t begin = std::max<int64_t>(0, first - done); begin < step.tokens(); begin += rows) {
      RETURN_IF_ERROR(GiveLogits(step, {begin, std::min(begin + rows, step.tokens())}, done, sink));
    }
    done += step.tokens();
  }
  NoteReached({&run, 1}, /*done=*/true);
  return absl::OkStatus();
}

absl::Status Engine::GiveLogits(Step& step, const TokenRange& part, int64_t first_of_step,
                                const LogitsSink& sink) {
  const int64_t count = part.end - part.begin;
  step.ends = {part};
  step.ended = count;
  RETURN_IF_ERROR(EnqueueHead(step, ForwardOutput::kLogits));
  if (rank_ != 0) return absl::OkStatus();
  RETURN_IF_ERROR(FetchLogits(0, count, LogitRows()));
  const int64_t elements = count * spec_.vocab;
  return sink(first_of_step + part.begin, absl::MakeConstSpan(logits_.data(), elements));
}

absl::Status Engine::CheckSampling(absl::Span<const SequenceRun> runs) {
  if (spec_.streams > 1 || spec_.vocab >= int64_t{1} << kSampleIdBits) {
    return absl::UnimplementedError(
        absl::StrCat("tokens of ", spec_.streams, " streams and a vocabulary of ", spec_.vocab,
                     " are not drawn on the device; wanted one stream and fewer than ",
                     int64_t{1} << kSampleIdBits));
  }
  if (sampling_.size() != runs.size()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "wanted ", runs.size(), " sampling requests, one for each run, found ", sampling_.size()));
  }
  for (size_t i = 0; i < runs.size(); ++i) sampling_[i].sequence = runs[i].sequence;
  return absl::OkStatus();
}

absl::Status Engine::UploadSampling(const Step& step) {
  if (step.ended == 0 || !Runs(spec_.head_block())) return absl::OkStatus();
  return parts_.device->CopyFromHost(workspace_.sampling, sampling_.data() + step.first_ended,
                                     step.ended * static_cast<int64_t>(sizeof(SampleRequest)));
}

absl::Status Engine::SetSeen(int sequence, absl::Span<const int32_t> ids) {
  if (!Runs(spec_.head_block())) return absl::OkStatus();
  const int64_t words = SeenWords(spec_.vocab);
  std::vector<uint32_t> bits(words);
  for (int32_t id : ids) bits[id / 32] |= 1u << (id % 32);
  return parts_.device->CopyFromHost(workspace_.seen + sequence * words, bits.data(),
                                     words * static_cast<int64_t>(sizeof(uint32_t)));
}

absl::StatusOr<StepTokens> Engine::UploadInputs(const Step& step) {
  const int64_t tokens = step.tokens();
  StepTokens result;
  result.batch = {.tokens = tokens, .runs = step.runs};
  if (workspace_.step_inputs == nullptr) return result;  // a rank without blocks
  RETURN_IF_ERROR(parts_.device->CopyFromHost(workspace_.step_inputs, step.inputs.data(),
                                              step.inputs.size() * sizeof(int32_t)));
  result.ids = workspace_.step_inputs;
  result.batch.sequences = workspace_.step_inputs + step.streams * tokens;
  result.batch.positions = result.batch.sequences + tokens;
  return result;
}

absl::Status Engine::RunStep(const Step& step, ForwardOutput output, const StopCheck& stop) {
  ASSIGN_OR_RETURN(const StepTokens tokens, UploadInputs(step));
  if (output == ForwardOutput::kSampled) RETURN_IF_ERROR(UploadSampling(step));
  if (record_decode_ && step.all_end) {
    RETURN_IF_ERROR(EnqueueRecorded(step, tokens, output));
  } else {
    RETURN_IF_ERROR(Enqueue(step, tokens, output, stop));
  }
  if (rank_ != 0 || step.ended == 0) return absl::OkStatus();
  if (output == ForwardOutput::kLogits) {
    return FetchLogits(step.first_ended, step.ended, LogitRows());
  }
  const int64_t parts =
      output == ForwardOutput::kGreedy ? placements_[spec_.head_block()].ranks.size() : 1;
  return FetchChosenIds(step.first_ended, step.ended, parts);
}

absl::Status Engine::EnqueueRecorded(const Step& step, const StepTokens& tokens,
                                     ForwardOutput output) {
  Recording& recording = recordings_[{step.tokens(), output}];
  if (recording.graph != nullptr) return recording.graph->Launch();
  if (!recording.ran_once) {
    recording.ran_once = true;
    return Enqueue(step, tokens, output);
  }
  StepTokens recorded = tokens;
  recorded.batch.recorded = true;
  absl::StatusOr<std::unique_ptr<DeviceGraph>> graph =
      parts_.device->Capture([&] { return Enqueue(step, recorded, output); });
  // Where one rank cannot (it has no memory for it, say) all go on without. It is also where all
  // meet: a rank whose waiting kernel runs holds up another's instantiation on the same GPU.
  bool agreed = false;
  recording_problem_ = AgreeOnStatus(*parts_.world, graph.status(), &agreed);
  if (!agreed) return recording_problem_;
  record_decode_ = recording_problem_.ok();
  if (!record_decode_) return Enqueue(step, tokens, output);
  recording.graph = *std::move(graph);
  return recording.graph->Launch();
}

absl::Status Engine::Enqueue(const Step& step, const StepTokens& tokens, ForwardOutput output,
                             const StopCheck& stop) {
  RETURN_IF_ERROR(RunBlocks(step, tokens, stop));
  if (output == ForwardOutput::kSampled && Runs(spec_.head_block())) {
    RETURN_IF_ERROR(parts_.kernels->MarkSeen(tokens.ids, tokens.batch.sequences, step.tokens(),
                                             spec_.vocab, workspace_.seen));
  }
  if (step.ended == 0) return absl::OkStatus();
  RETURN_IF_ERROR(EnqueueHead(step, output));
  return spec_.depth.steps > 0 ? KeepHidden(step) : absl::OkStatus();
}

absl::Status Engine::EnqueueHead(const Step& step, ForwardOutput output) {
  RETURN_IF_ERROR(RunHeadBlock(step, output));
  const Placement& head = placements_[spec_.head_block()];
  if (output == ForwardOutput::kLogits) {
    return Hop(head.ranks, {0}, workspace_.logits, step.ended * spec_.vocab);
  }
  constexpr int64_t kFloats = sizeof(BestLogit) / sizeof(float);
  const int64_t ranks =
      output == ForwardOutput::kGreedy ? static_cast<int64_t>(head.ranks.size()) : 1;
  return Hop(head.ranks, {0}, workspace_.best, step.ended * ranks * kFloats);
}

absl::Status Engine::RunBlocks(const Step& step, const StepTokens& tokens, const StopCheck& stop) {
  constexpr int64_t kLong = 16;  // tokens; fewer are soon done
  for (int block = 0; block <= last_main_block(); ++block) {
    if (stop != nullptr && step.tokens() >= kLong) {
      ASSIGN_OR_RETURN(const bool stopped, stop());
      if (stopped) return absl::CancelledError("stopped");
    }
    if (block > 0) {
      RETURN_IF_ERROR(Hop(placements_[block - 1].ranks, placements_[block].ranks,
                          workspace_.residual, step.tokens() * spec_.dim));
    }
    if (!Runs(block)) continue;
    StepContext context = StepOf(block);
    context.normed = JoinsNorm(block, step);
    const int next = block == last_main_block() ? spec_.head_block() : block + 1;
    if (JoinsNorm(next, step)) context.next_norm = &NormOf(next);
    context.all_norm = placements_[next].ranks == placements_[block].ranks;
    const absl::Status status = RunBlock(block, tokens, context);
    if (!status.ok()) return Annotate(status, BlockName(spec_, block));
  }
  return absl::OkStatus();
}

absl::Status Engine::RunHeadBlock(const Step& step, ForwardOutput output) {
  const int head = spec_.head_block();
  for (const TokenRange& range : step.ends) {
    RETURN_IF_ERROR(Hop(placements_[last_main_block()].ranks, placements_[head].ranks,
                        workspace_.residual + range.begin * spec_.dim,
                        (range.end - range.begin) * spec_.dim));
  }
  if (!Runs(head)) return absl::OkStatus();
  StepContext context = StepOf(head);
  context.normed = JoinsNorm(head, step);
  const auto run = output == ForwardOutput::kLogits   ? RunHead
                   : output == ForwardOutput::kGreedy ? RunGreedyHead
                                                      : RunSampledHead;
  const absl::Status status = run(head_, step.ends, context);
  return Annotate(status, BlockName(spec_, head));
}

const InputNorm& Engine::NormOf(int block) const {
  const Block& what = spec_.blocks[block];
  return what.kind == BlockKind::kHead        ? head_.norm
         : what.kind == BlockKind::kAttention ? attention_[what.layer].norm
                                              : mlp_[what.layer].norm;
}

bool Engine::JoinsNorm(int block, const Step& step) const {
  const int before = block == spec_.head_block() ? last_main_block() : block - 1;
  if (block == 0 || !Runs(block) || !Runs(before)) return false;
  if (spec_.blocks[before].kind == BlockKind::kEmbed) return false;
  return block < spec_.head_block() || step.all_end;  // else the head takes some of them
}

StepContext Engine::StepOf(int block) const {
  const std::vector<int>& ranks = placements_[block].ranks;
  const auto group = groups_.find(ranks);
  StepContext context = {*parts_.kernels, group == groups_.end() ? nullptr : group->second.get(),
                         workspace_, spec_.dim};
  context.parts = shared_parts_.get();
  context.in_parts = shared_parts_ != nullptr && ranks == sharing_ranks_;
  return context;
}

absl::Status Engine::RunBlock(int block, const StepTokens& tokens, const StepContext& step) {
  const Block& what = spec_.blocks[block];
  switch (what.kind) {
    case BlockKind::kEmbed:
      return RunEmbedding(embedding_, tokens, step);
    case BlockKind::kAttention:
      return RunAttention(attention_[what.layer], tokens.batch, step);
    case BlockKind::kMlp:
      return RunMlp(mlp_[what.layer], tokens.batch.tokens, step);
    case BlockKind::kHead:
      break;
  }
  return absl::InternalError("the head is not run as a layer");
}

absl::Status Engine::Hop(const std::vector<int>& from, const std::vector<int>& to, void* data,
                         int64_t count) {
  if (from == to) return absl::OkStatus();
  const auto holds = [&](int rank) {
    return std::find(from.begin(), from.end(), rank) != from.end();
  };
  size_t next_sender = 0;  // receivers are spread over the senders
  for (int receiver : to) {
    if (holds(receiver)) continue;
    const int sender = from[next_sender++ % from.size()];
    const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
    if (rank_ == sender) RETURN_IF_ERROR(exchange().Send(data, bytes, receiver));
    if (rank_ == receiver) RETURN_IF_ERROR(exchange().Receive(data, bytes, sender));
  }
  return absl::OkStatus();
}

absl::Status Engine::FetchResults(const void* data, int64_t bytes) {
  if (results_ == nullptr || results_->size() < bytes) {
    ASSIGN_OR_RETURN(results_, parts_.device->AllocateHost(bytes));
  }
  return parts_.device->CopyToHost(results_->data(), data, bytes);
}

std::vector<int64_t> Engine::LogitRows() const {
  const int head = spec_.head_block();
  std::vector<int64_t> rows = placements_[head].shares;
  for (int64_t& share : rows) share *= UnitsOf(spec_, head).elements;
  return rows;
}

absl::Status Engine::FetchLogits(int64_t first_run, int64_t runs,
                                 absl::Span<const int64_t> row_counts) {
  const int64_t vocab = std::accumulate(row_counts.begin(), row_counts.end(), int64_t{0});
  const int64_t bytes = runs * vocab * static_cast<int64_t>(sizeof(float));
  RETURN_IF_ERROR(FetchResults(workspace_.logits, bytes));
  // From [rank, run, its rows] to [run, row].
  const auto* from = static_cast<const float*>(results_->data());
  float* out = logits_.data() + first_run * vocab;
  for (int64_t rows : row_counts) {
    for (int64_t run = 0; run < runs; ++run, from += rows) {
      std::copy_n(from, rows, out + run * vocab);
    }
    out += rows;
  }
  return absl::OkStatus();
}

absl::Status Engine::FetchChosenIds(int64_t first_run, int64_t runs, int64_t ranks) {
  const int64_t count = runs * ranks;
  RETURN_IF_ERROR(FetchResults(workspace_.best, count * static_cast<int64_t>(sizeof(BestLogit))));
  const auto* parts = static_cast<const BestLogit*>(results_->data());  // [rank, run], ids rise
  for (int64_t run = 0; run < runs; ++run) {
    BestLogit best;
    for (int64_t i = run; i < count; i += runs) {
      if (parts[i].id >= 0 && (best.id < 0 || parts[i].logit > best.logit)) best = parts[i];
    }
    chosen_ids_[first_run + run] = best.id;
  }
  return absl::OkStatus();
}

}  // namespace tprun
