#include "tests/engine/runtime/engine_harness.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace tprun {
namespace {

std::vector<int64_t> Split(int64_t total, const std::vector<double>& proportions) {
  const double sum = std::accumulate(proportions.begin(), proportions.end(), 0.0);
  std::vector<int64_t> shares;
  double cumulated = 0;
  int64_t given = 0;
  for (double proportion : proportions) {
    cumulated += proportion;
    const int64_t end = std::llround(static_cast<double>(total) * cumulated / sum);
    shares.push_back(end - given);
    given = end;
  }
  return shares;
}

Placement Alone(const ModelSpec& spec, int block, int rank) {
  return {.ranks = {rank}, .shares = {UnitsOf(spec, block).count}};
}

}  // namespace

absl::StatusOr<TestModel> OpenTestModel(const std::string& path) {
  TestModel model;
  ASSIGN_OR_RETURN(model.checkpoint, Checkpoint::Open(path));
  ASSIGN_OR_RETURN(model.spec, ReadModelSpec(*model.checkpoint));
  return model;
}

TestLayout TensorSplit(std::vector<double> proportions) {
  const int ranks = static_cast<int>(proportions.size());
  return {absl::StrCat("shares ", absl::StrJoin(proportions, ":")), ranks,
          [proportions, ranks](const ModelSpec& spec) {
            std::vector<Placement> placements;
            for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
              Placement placement;
              placement.ranks.resize(ranks);
              std::iota(placement.ranks.begin(), placement.ranks.end(), 0);
              // More ranks than KV heads: as many query heads as there are may be told apart.
              if (spec.blocks[block].kind == BlockKind::kAttention) {
                const AttentionSpec& attention = spec.layers[spec.blocks[block].layer].attention;
                const int group = attention.heads / attention.kv_heads;
                const bool whole = UnitsOf(spec, block).count == attention.kv_heads;
                if (ranks > attention.kv_heads && whole) placement.kv_replication = group;
              }
              placement.shares =
                  Split(UnitsOf(spec, block, placement.kv_replication).count, proportions);
              placements.push_back(placement);
            }
            return placements;
          }};
}

TestLayout LayerSplit(int ranks) {
  return {absl::StrCat("layers over ", ranks), ranks, [ranks](const ModelSpec& spec) {
            std::vector<Placement> placements;
            for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
              const BlockKind kind = spec.blocks[block].kind;
              const int rank = kind == BlockKind::kEmbed ? 0
                               : kind == BlockKind::kHead
                                   ? ranks - 1
                                   : spec.blocks[block].layer * ranks / spec.num_layers();
              placements.push_back(Alone(spec, block, rank));
            }
            return placements;
          }};
}

TestLayout BlocksApart() {
  return {"attention, MLP and vocabulary apart", 3, [](const ModelSpec& spec) {
            std::vector<Placement> placements;
            for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
              const BlockKind kind = spec.blocks[block].kind;
              const int rank = kind == BlockKind::kAttention ? 0 : kind == BlockKind::kMlp ? 1 : 2;
              placements.push_back(Alone(spec, block, rank));
            }
            return placements;
          }};
}

TestLayout ChangingGroups() {
  return {
      "groups that change", 4, [](const ModelSpec& spec) {
        std::vector<Placement> placements;
        for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
          const Block& what = spec.blocks[block];
          if (what.kind == BlockKind::kHead) {
            placements.push_back(Alone(spec, block, 3));
            continue;
          }
          const bool second = 2 * what.layer >= spec.num_layers();
          placements.push_back({.ranks = second ? std::vector<int>{2, 1} : std::vector<int>{0, 1},
                                .shares = Split(UnitsOf(spec, block).count, {1, 2})});
        }
        return placements;
      }};
}

std::vector<TestLayout> AllLayouts() {
  return {TensorSplit({1}),       TensorSplit({1, 1}),
          TensorSplit({1, 1, 1}), TensorSplit({1, 1, 1, 1}),
          TensorSplit({5, 2, 1}), TensorSplit({1, 3}),
          TensorSplit({1, 0, 2}), LayerSplit(2),
          LayerSplit(3),          BlocksApart(),
          ChangingGroups(),       TensorSplit({1, 2, 3, 4, 5})};
}

absl::Status RunEngines(const TestModel& model, const TestLayout& layout,
                        const TestOptions& options,
                        const std::function<absl::Status(Engine&, Communicator&)>& body) {
  EngineOptions engine_options;
  engine_options.context =
      options.context > 0 ? options.context : std::min<int64_t>(model.spec.context_length, 512);
  engine_options.kv_type = options.kv_type;
  engine_options.prefill_chunk = options.prefill_chunk;
  engine_options.batch = options.batch;
  engine_options.logit_rows = options.logit_rows;
  return RunLocalRanks(
      layout.world_size, absl::Seconds(60), [&](Communicator& world) -> absl::Status {
        ThreadPool pool(options.threads);
        RankParts own;
        if (options.make_parts) {
          ASSIGN_OR_RETURN(own, options.make_parts(world, pool));
        } else {
          own.device = MakeCpuDevice();
          own.kernels = options.reference_kernels ? MakeReferenceKernels()
                                                  : MakeCpuKernels(&pool, options.activations);
        }
        const EngineParts parts = {&world, own.device.get(),   own.kernels.get(),
                                   &pool,  own.exchange.get(), options.record_decode};
        ASSIGN_OR_RETURN(
            const std::unique_ptr<Engine> engine,
            Engine::Create(model.spec, layout.place(model.spec), engine_options, parts));
        RETURN_IF_ERROR(engine->LoadWeights(*model.checkpoint, nullptr));
        return body(*engine, world);
      });
}

absl::StatusOr<std::vector<std::vector<float>>> LogitsAt(const TestModel& model,
                                                         const TestLayout& layout,
                                                         const TestOptions& options,
                                                         const std::vector<int32_t>& tokens,
                                                         const std::vector<int64_t>& positions) {
  std::vector<std::vector<float>> result;
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    const absl::Span<const int32_t> all(tokens);
    int64_t done = 0;
    for (int64_t position : positions) {
      // The first in one piece, the rest one by one.
      while (done <= position) {
        const int64_t count = done == 0 ? position + 1 : 1;
        RETURN_IF_ERROR(engine.Forward(all.subspan(done, count), done, 0));
        done += count;
      }
      if (world.rank() == 0) {
        result.emplace_back(engine.logits().begin(), engine.logits().end());
      }
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(RunEngines(model, layout, options, body));
  return result;
}

absl::StatusOr<std::vector<int32_t>> GreedyTokens(const TestModel& model, const TestLayout& layout,
                                                  const TestOptions& options,
                                                  const std::vector<int32_t>& prompt,
                                                  int64_t max_tokens,
                                                  const std::vector<int32_t>& end_ids) {
  std::vector<int32_t> ids;
  GenerateOptions generate;
  generate.max_tokens = max_tokens;
  generate.end_ids = end_ids;
  const auto body = [&](Engine& engine, Communicator& world) -> absl::Status {
    ASSIGN_OR_RETURN(const GenerateResult result,
                     Generate(engine, world, prompt, generate, nullptr));
    if (world.rank() == 0) ids = result.ids;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(RunEngines(model, layout, options, body));
  return ids;
}

double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

}  // namespace tprun
