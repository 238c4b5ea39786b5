#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/local_communicator.h"
#include "engine/arch/read_model_spec.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/runtime/engine.h"
#include "engine/runtime/generate.h"
#include "tests/engine/runtime/fake_accelerator.h"

namespace tprun {

// A checkpoint and its spec, opened for a test.
struct TestModel {
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
};
absl::StatusOr<TestModel> OpenTestModel(const std::string& path);

// A way to lay a model over ranks.
struct TestLayout {
  std::string name;
  int world_size = 1;
  std::function<std::vector<Placement>(const ModelSpec&)> place;
};

// Shares in these proportions in every block (proportion 0: an empty share).
TestLayout TensorSplit(std::vector<double> proportions);
// Layers one rank after the other, embed on the first and head on the last.
TestLayout LayerSplit(int ranks);
// Attention on rank 0, MLPs on rank 1, embedding and head on rank 2.
TestLayout BlocksApart();
// Groups of two that change: layers on {0, 1}, then on {2, 1}, head on {3}.
TestLayout ChangingGroups();
// All of the above and more, for 1 to 5 ranks.
std::vector<TestLayout> AllLayouts();

struct TestOptions {
  const WeightFormat* kv_type = &kF32Format;
  int64_t prefill_chunk = 512;
  bool reference_kernels = false;
  Activations activations = Activations::kF32;
  int threads = 1;
  int batch = 1;
  int64_t logit_rows = 0;
  int64_t context = 0;       // 0: the model's, at most 512
  MakeRankParts make_parts;  // else the CPU
  bool record_decode = true;
};

// Runs `body` on every rank (as threads) with a loaded engine.
absl::Status RunEngines(const TestModel& model, const TestLayout& layout,
                        const TestOptions& options,
                        const std::function<absl::Status(Engine&, Communicator&)>& body);

// Rank 0's logits after each of `positions` prefixes: the tokens up to and with that position.
// The first position is reached in one prefill, the others token by token.
absl::StatusOr<std::vector<std::vector<float>>> LogitsAt(const TestModel& model,
                                                         const TestLayout& layout,
                                                         const TestOptions& options,
                                                         const std::vector<int32_t>& tokens,
                                                         const std::vector<int64_t>& positions);

absl::StatusOr<std::vector<int32_t>> GreedyTokens(const TestModel& model, const TestLayout& layout,
                                                  const TestOptions& options,
                                                  const std::vector<int32_t>& prompt,
                                                  int64_t max_tokens,
                                                  const std::vector<int32_t>& end_ids);

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace tprun
