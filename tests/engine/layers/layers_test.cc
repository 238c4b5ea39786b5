#include "engine/layers/layers.h"

#include <cmath>
#include <vector>

#include "base/status_macros.h"
#include "comm/local_communicator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// The steps around a block's own mathematics: sums over the group, biases, norms, shares of
// nothing. Whole blocks are compared with other programs in tests/engine/runtime.

namespace tprun {
namespace {

using testing::ElementsAre;
using testing::FloatEq;

constexpr int64_t kDim = 2;

// Runs `body` on `ranks` ranks with the reference kernels.
absl::Status OnRanks(int ranks,
                     const std::function<absl::Status(Kernels&, Communicator*, int rank)>& body) {
  return RunLocalRanks(ranks, absl::Seconds(10), [&](Communicator& world) {
    const std::unique_ptr<Kernels> kernels = MakeReferenceKernels();
    return body(*kernels, ranks == 1 ? nullptr : &world, world.rank());
  });
}

TEST(AddToResidual, AddsTheSumOfTheGroupAndTheBiasOnce) {
  for (int ranks : {1, 2, 3}) {
    const absl::Status status =
        OnRanks(ranks, [&](Kernels& kernels, Communicator* group, int rank) {
          std::vector<float> residual = {1, 2, 3, 4};
          const float part = static_cast<float>(rank + 1);  // sums to 1, 3, 6
          std::vector<float> output = {part, 0, 0, part};
          const std::vector<float> bias = {10, 20};
          const Workspace work = {.residual = residual.data(), .block_output = output.data()};
          const absl::Status added =
              AddToResidual(2, bias.data(), nullptr, {}, {kernels, group, work, kDim});
          const float sum = static_cast<float>(ranks * (ranks + 1)) / 2;
          EXPECT_THAT(residual, ElementsAre(FloatEq(11 + sum), 22, 13, FloatEq(24 + sum)));
          return added;
        });
    EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(AddToResidual, NormsTheSumAndNotTheParts) {
  const absl::Status status = OnRanks(2, [&](Kernels& kernels, Communicator* group, int rank) {
    std::vector<float> residual = {0, 0};
    std::vector<float> output = rank == 0 ? std::vector<float>{3, 0} : std::vector<float>{0, 4};
    const std::vector<float> weight = {1, 2};
    const Workspace work = {.residual = residual.data(), .block_output = output.data()};
    const NormSpec norm = {.eps = 0};
    const absl::Status added =
        AddToResidual(1, nullptr, weight.data(), norm, {kernels, group, work, kDim});
    const float size = std::sqrt((9.0f + 16.0f) / 2);
    EXPECT_THAT(residual, ElementsAre(FloatEq(3 / size), FloatEq(8 / size)));
    return added;
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(AddToResidual, AlsoDoesTheNextNorm) {
  const absl::Status status = OnRanks(2, [&](Kernels& kernels, Communicator* group, int) {
    std::vector<float> residual = {1, 0}, output = {1, 2}, normed = {9, 9};
    const std::vector<float> weight = {1, 2};
    const InputNorm next = {weight.data(), {.eps = 0}};
    const Workspace work = {
        .residual = residual.data(), .normed = normed.data(), .block_output = output.data()};
    StepContext step = {kernels, group, work, kDim, &next};
    const absl::Status added = AddToResidual(1, nullptr, nullptr, {}, step);
    const float size = std::sqrt((9.0f + 16.0f) / 2);
    EXPECT_THAT(residual, ElementsAre(3, 4));
    EXPECT_THAT(normed, ElementsAre(FloatEq(3 / size), FloatEq(8 / size)));
    // And then the next block's own is left out.
    step.normed = true;
    residual = {0, 0};
    EXPECT_TRUE(NormInput(next, 1, step).ok());
    EXPECT_THAT(normed, ElementsAre(FloatEq(3 / size), FloatEq(8 / size)));
    return added;
  });
  EXPECT_TRUE(status.ok()) << status;
}

// Joins sum and norm with plain loops, and counts how often.
class JoiningCommunicator final : public Communicator {
 public:
  explicit JoiningCommunicator(Communicator& base) : base_(base) {}
  int joined = 0;

  int rank() const override { return base_.rank(); }
  int size() const override { return base_.size(); }
  absl::Duration timeout() const override { return base_.timeout(); }
  absl::string_view backend() const override { return "joining"; }
  absl::Status AllReduceSum(const void* send, void* receive, int64_t count, DType dtype) override {
    return base_.AllReduceSum(send, receive, count, dtype);
  }
  bool FusesNorm(int64_t tokens, int64_t /*dim*/) const override { return tokens <= 1; }
  absl::Status AllReduceAddNorm(const SumAndNorm& what) override {
    ++joined;
    const int64_t count = what.tokens * what.dim;
    std::vector<float> sum(count);
    const absl::Status status = AllReduceSum(what.parts, sum.data(), count, DType::kF32);
    for (int64_t i = 0; i < count; ++i) what.residual[i] += sum[i];
    const std::unique_ptr<Kernels> kernels = MakeReferenceKernels();
    EXPECT_TRUE(kernels
                    ->RmsNorm(what.residual, what.weight, what.tokens, what.dim,
                              {.eps = what.eps, .unit_offset = what.unit_offset}, what.out)
                    .ok());
    return status;
  }
  absl::Status AllGather(const void*, void*, absl::Span<const int64_t>, DType) override {
    return absl::UnimplementedError("");
  }
  absl::Status Broadcast(void*, int64_t, int) override { return absl::UnimplementedError(""); }
  absl::Status Send(const void*, int64_t, int) override { return absl::UnimplementedError(""); }
  absl::Status Receive(void*, int64_t, int) override { return absl::UnimplementedError(""); }
  absl::Status Barrier() override { return base_.Barrier(); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(absl::Span<const int>) override {
    return absl::UnimplementedError("");
  }
  void Abort(const std::string& reason) override { base_.Abort(reason); }

 private:
  Communicator& base_;
};

// Where all ranks of a group have the same next norm, the communicator may do both; not beside a
// bias or a norm of the sum, nor for more tokens than it takes.
TEST(AddToResidual, LeavesSumAndNormToACommunicatorThatJoinsThem) {
  struct Case {
    int tokens;
    bool bias, post_norm, all_norm;
    int joined;
  };
  for (const Case& c : std::vector<Case>{{1, false, false, true, 1},
                                         {1, true, false, true, 0},
                                         {1, false, true, true, 0},
                                         {1, false, false, false, 0},
                                         {2, false, false, true, 0}}) {
    const absl::Status status = OnRanks(2, [&](Kernels& kernels, Communicator* group, int rank) {
      const std::vector<float> weight = {1, 2}, bias = {3, 4};
      const InputNorm next = {weight.data(), {.eps = 0.5f, .unit_offset = true}};
      JoiningCommunicator joining(*group);
      std::vector<std::vector<float>> results;
      for (Communicator* over : {group, static_cast<Communicator*>(&joining)}) {
        std::vector<float> residual = {1, 0, 5, 6}, normed(4);
        std::vector<float> output = {1.0f + static_cast<float>(rank), 2, 3, 4};
        const Workspace work = {
            .residual = residual.data(), .normed = normed.data(), .block_output = output.data()};
        StepContext step = {kernels, over, work, kDim, &next};
        step.all_norm = c.all_norm;
        const absl::Status added =
            AddToResidual(c.tokens, c.bias ? bias.data() : nullptr,
                          c.post_norm ? weight.data() : nullptr, {.eps = 0.1f}, step);
        if (!added.ok()) return added;
        residual.insert(residual.end(), normed.begin(), normed.end());
        results.push_back(residual);
      }
      EXPECT_EQ(joining.joined, c.joined);
      EXPECT_THAT(results[1], testing::Pointwise(FloatEq(), results[0]));
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
}

// The same bits as sums that are copied, with and without what stands beside a sum; of 32 KiB and
// more the ranks' shares.
TEST(AddToResidual, SumsInPlaceAreThoseOfTheGroup) {
  for (int ranks : {2, 3, 5}) {
    for (int64_t tokens : {1, 3, 4095, 4101, 70001}) {
      const absl::Status status =
          OnRanks(ranks, [&](Kernels& kernels, Communicator* group, int rank) -> absl::Status {
            ASSIGN_OR_RETURN(const std::unique_ptr<SharedParts> parts,
                             group->ShareParts(70001 * kDim));
            if (parts == nullptr) return absl::InternalError("no shared parts");
            const std::vector<float> weight = {1, 2}, bias = {3, 4};
            const InputNorm next = {weight.data(), {.eps = 0.5f}};
            for (int what = 0; what < 8; ++what) {  // bias, norm after, norm before the next
              std::vector<std::vector<float>> results;
              for (bool in_place : {false, true}) {
                std::vector<float> residual(tokens * kDim, 5), normed(tokens * kDim, 9);
                std::vector<float> output(tokens * kDim);
                const Workspace work = {.residual = residual.data(),
                                        .normed = normed.data(),
                                        .block_output = in_place ? parts->own() : output.data()};
                StepContext step = {kernels, group, work, kDim, what & 4 ? &next : nullptr};
                step.parts = in_place ? parts.get() : nullptr;
                step.in_parts = in_place;
                RETURN_IF_ERROR(AwaitOutput(step));
                for (int64_t i = 0; i < tokens * kDim; ++i) {
                  work.block_output[i] = 0.1f * static_cast<float>((i + 1) * (rank + 2) % 7);
                }
                RETURN_IF_ERROR(AddToResidual(tokens, what & 1 ? bias.data() : nullptr,
                                              what & 2 ? weight.data() : nullptr, {.eps = 0.1f},
                                              step));
                results.push_back(residual);
                if (what & 4)
                  results.back().insert(results.back().end(), normed.begin(), normed.end());
              }
              EXPECT_EQ(results[1], results[0]) << ranks << " " << tokens << " " << what;
            }
            return absl::OkStatus();
          });
      EXPECT_TRUE(status.ok()) << status;
    }
  }
}

TEST(RunEmbedding, EachRankHasSomeRowsOfTheVocabulary) {
  const std::vector<float> table = {1, 2, 3, 4, 5, 6};  // 3 rows
  const absl::Status status = OnRanks(3, [&](Kernels& kernels, Communicator* group, int rank) {
    // Rows 0 and 1, none, row 2.
    const int64_t first[] = {0, 2, 2};
    const int64_t rows[] = {2, 0, 1};
    const EmbeddingBlock block = {
        .tables = {{{table.data() + first[rank] * kDim, &kF32Format, rows[rank], kDim},
                    first[rank]}},
        .scale = 2};
    std::vector<int32_t> ids = {2, 0};
    const StepTokens tokens = {.ids = ids.data(), .batch = {.tokens = 2}};
    const std::unique_ptr<SharedParts> parts = *group->ShareParts(4);
    for (SharedParts* in_place : {static_cast<SharedParts*>(nullptr), parts.get()}) {
      std::vector<float> residual(4, -1);
      const Workspace work = {.residual = residual.data(), .block_output = parts->own()};
      StepContext step = {kernels, group, work, kDim};
      step.parts = in_place;
      step.in_parts = in_place != nullptr;
      const absl::Status run = RunEmbedding(block, tokens, step);
      EXPECT_TRUE(run.ok()) << run;
      EXPECT_THAT(residual, ElementsAre(10, 12, 2, 4));
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

// A head of three rows over two ranks, for tokens 0, 2 and 3 of four.
absl::Status WithHead(const std::function<absl::Status(
                          const HeadBlock&, absl::Span<const TokenRange>, const StepContext&,
                          std::vector<float>& logits, std::vector<BestLogit>& best)>& body) {
  const std::vector<float> weight = {1, 0, 0, 1, 1, 1};  // 3 rows
  return OnRanks(2, [&](Kernels& kernels, Communicator* group, int rank) {
    const std::vector<float> norm_weight = {1, 1};
    // Of size 1, which the norm keeps; the second is not asked for.
    std::vector<float> residual = {1, 1, 7, 5, 1, -1, -1, -1};
    std::vector<float> normed(8), shard(6), logits(9);
    std::vector<BestLogit> best_shard(3), best(6);
    const HeadBlock block = {
        .norm = {norm_weight.data(), {.eps = 0}},
        .weight = {weight.data() + (rank == 0 ? 0 : 2), &kF32Format, rank == 0 ? 1 : 2, kDim},
        .first_row = rank,
        .row_counts = {1, 2}};
    const Workspace work = {.residual = residual.data(),
                            .normed = normed.data(),
                            .logits_shard = shard.data(),
                            .logits = logits.data(),
                            .best_shard = best_shard.data(),
                            .best = best.data()};
    return body(block, {{0, 1}, {2, 4}}, {kernels, group, work, kDim}, logits, best);
  });
}

TEST(RunHead, GathersUnequalShardsInOrder) {
  const absl::Status status =
      WithHead([](const HeadBlock& block, absl::Span<const TokenRange> tokens,
                  const StepContext& step, std::vector<float>& logits, std::vector<BestLogit>&) {
        const absl::Status run = RunHead(block, tokens, step);
        // Row 0 of the three tokens, then rows 1 and 2 of each.
        EXPECT_THAT(logits, ElementsAre(1, 1, -1, 1, 2, -1, 0, -1, -2));
        return run;
      });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(RunGreedyHead, GathersTheBestOfEachShard) {
  const absl::Status status =
      WithHead([](const HeadBlock& block, absl::Span<const TokenRange> tokens,
                  const StepContext& step, std::vector<float>&, std::vector<BestLogit>& best) {
        const absl::Status run = RunGreedyHead(block, tokens, step);
        std::vector<float> logits;
        std::vector<int> ids;
        for (const BestLogit& entry : best) {
          logits.push_back(entry.logit);
          ids.push_back(entry.id);
        }
        EXPECT_THAT(logits, ElementsAre(1, 1, -1, 2, 0, -1));
        EXPECT_THAT(ids, ElementsAre(0, 0, 0, 2, 2, 1));
        return run;
      });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace tprun
