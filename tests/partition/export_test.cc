#include "partition/export.h"

#include <algorithm>
#include <cctype>

#include "base/file.h"
#include "engine/arch/read_model_spec.h"
#include "gmock/gmock.h"
#include "tests/partition/plan_fixture.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using testing::HasSubstr;
using testing::Not;

// Layers one by one on the given devices, embedding and head on those of the first and last layer.
Plan LayerPlan(const ModelSpec& spec, const std::vector<std::string>& devices,
               const std::vector<int>& rank_of_layer) {
  Plan plan;
  plan.model_name = spec.name;
  plan.options.context = 2048;
  for (const std::string& device : devices) {
    plan.ranks.emplace_back();
    plan.ranks.back().device = device;
    plan.ranks.back().available_bytes = 8 * kGiB;
  }
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const BlockKind kind = spec.blocks[block].kind;
    const int rank = kind == BlockKind::kEmbed  ? rank_of_layer.front()
                     : kind == BlockKind::kHead ? rank_of_layer.back()
                                                : rank_of_layer[spec.blocks[block].layer];
    plan.placements.push_back({.ranks = {rank}, .shares = {UnitsOf(spec, block).count}});
  }
  SetRankBytes(spec, plan);
  return plan;
}

void SplitAll(const ModelSpec& spec, const std::vector<int>& ranks, Plan& plan) {
  for (int block = 0; block < static_cast<int>(spec.blocks.size()); ++block) {
    const int64_t count = UnitsOf(spec, block).count;
    const auto parts = static_cast<int64_t>(ranks.size());
    plan.placements[block] = {ranks, std::vector<int64_t>(ranks.size(), count / parts)};
  }
  SetRankBytes(spec, plan);
}

std::string LlamaCpp(const Plan& plan, const ModelSpec& spec) {
  const auto line = PlanLlamaCppArguments(plan, spec, "m.gguf");
  EXPECT_TRUE(line.ok()) << line.status();
  return line.ok() ? *line : "";
}

TEST(LlamaCppArguments, CutLayersInOrder) {
  const ModelSpec spec = PlanModel();
  const Plan plan = LayerPlan(spec, {"cuda:0", "cuda:1"}, {0, 0, 0, 1, 1, 1, 1, 1});
  EXPECT_EQ(LlamaCpp(plan, spec),
            "-m m.gguf -ngl 9 -sm layer -ts 3,6 -c 2048 -ub 512 -ctk f16 -ctv f16\n");
}

TEST(LlamaCppArguments, LeaveTheFirstLayersToTheCpu) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"cpu", "cuda:1"}, {0, 0, 0, 0, 0, 1, 1, 1});
  plan.options.batch = 4;
  EXPECT_EQ(LlamaCpp(plan, spec),
            "-m m.gguf -ngl 4 -sm none -mg 1 -c 8192 -np 4 -ub 512 -ctk f16 -ctv f16\n");
  const Plan cpu = LayerPlan(spec, {"cpu"}, {0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_THAT(LlamaCpp(cpu, spec), HasSubstr("-ngl 0 "));
}

TEST(LlamaCppArguments, MoveMlpsToTheCpu) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"cuda:0", "cpu"}, {0, 0, 0, 0, 0, 0, 0, 0});
  for (int layer : {2, 5}) plan.placements[spec.mlp_block(layer)].ranks = {1};
  EXPECT_THAT(LlamaCpp(plan, spec), HasSubstr(" -ngl 9 -sm none -ot \"blk\\.(2|5)\\.ffn.*=CPU\" "));
}

TEST(LlamaCppArguments, NameWhatIsOutOfOrder) {
  const ModelSpec spec = PlanModel();
  const Plan plan = LayerPlan(spec, {"cuda:0", "cuda:1"}, {1, 1, 0, 0, 1, 1, 1, 1});
  const std::string line = LlamaCpp(plan, spec);
  EXPECT_THAT(line, HasSubstr("-dev CUDA1,CUDA0 -sm layer -ts 2,7 "));
  // Of several -ot only the last counts; "output.*" alone would be in "attn_output" too.
  EXPECT_THAT(line, HasSubstr("-ot \"blk\\.(4|5|6|7)\\.attn.*=CUDA1,"
                              "blk\\.(4|5|6|7)\\.ffn.*=CUDA1,^output.*=CUDA1\""));
  EXPECT_EQ(line.find("-ot "), line.rfind("-ot "));
}

// The KV cache goes with the layer, wherever -ot moves the layer's weights.
TEST(LlamaCppArguments, NameGpusInTheOrderOfTheirLayers) {
  const ModelSpec spec = PlanModel();
  EXPECT_THAT(
      LlamaCpp(LayerPlan(spec, {"cuda:0", "cuda:1", "cuda:2"}, {1, 1, 1, 2, 0, 0, 0, 0}), spec),
      HasSubstr("-ngl 9 -dev CUDA1,CUDA2,CUDA0 -sm layer -ts 3,1,5 -c"));
  EXPECT_THAT(LlamaCpp(LayerPlan(spec, {"cuda:2", "cuda:3"}, {0, 0, 0, 0, 0, 1, 1, 1}), spec),
              HasSubstr("-ngl 9 -dev CUDA2,CUDA3 -sm layer -ts 5,4 -c"));
}

TEST(LlamaCppArguments, RefuseACacheThatItDoesNotHave) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"cuda:0"}, {0, 0, 0, 0, 0, 0, 0, 0});
  for (const char* type : {"f32", "q8_0", "q4_0", "iq4_nl"}) {
    ASSERT_TRUE(SetKvType(type, plan.options).ok());
    EXPECT_THAT(LlamaCpp(plan, spec), HasSubstr(std::string(" -ctk ") + type));
  }
  ASSERT_TRUE(SetKvType("fp8_e4m3", plan.options).ok());
  EXPECT_THAT(std::string(PlanLlamaCppArguments(plan, spec, "m").status().message()),
              HasSubstr("no KV cache of type fp8_e4m3, but f32, f16"));
}

TEST(LlamaCppArguments, SplitRows) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"cuda:0", "cuda:1"}, {0, 0, 0, 0, 0, 0, 0, 0});
  SplitAll(spec, {0, 1}, plan);
  for (Placement& placement : plan.placements) {
    const int64_t units = placement.shares[0] * 2;
    placement.shares = {units * 3 / 4, units - units * 3 / 4};
  }
  SetRankBytes(spec, plan);
  EXPECT_THAT(LlamaCpp(plan, spec), HasSubstr("-ngl 9 -sm row -ts 75,25 "));
  plan.ranks[1].device = "cpu";
  EXPECT_THAT(std::string(PlanLlamaCppArguments(plan, spec, "m").status().message()),
              HasSubstr("does not split a block over GPU and CPU"));
}

TEST(VllmCommand, SaysTensorAndPipelineParallel) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"cuda:2", "cuda:0"}, {0, 0, 0, 1, 1, 1, 1, 1});
  const auto stages = PlanVllmCommand(plan, spec, "m");
  ASSERT_TRUE(stages.ok()) << stages.status();
  const int64_t kv = 5 * 2 * 2048 * 8 * 64 * 2;  // of the larger stage
  EXPECT_EQ(*stages,
            "CUDA_VISIBLE_DEVICES=2,0 VLLM_PP_LAYER_PARTITION=3,5 vllm serve m "
            "--tensor-parallel-size 1 --pipeline-parallel-size 2 --max-model-len 2048 "
            "--max-num-seqs 1 --max-num-batched-tokens 2048 --kv-cache-memory-bytes " +
                std::to_string(kv) + "\n");
  SplitAll(spec, {0, 1}, plan);
  EXPECT_THAT(*PlanVllmCommand(plan, spec, "m"),
              testing::AllOf(HasSubstr("--tensor-parallel-size 2 --max-model-len"),
                             Not(HasSubstr("PP_LAYER"))));
}

TEST(VllmCommand, RefusesWhatVllmCannotDo) {
  const ModelSpec spec = PlanModel();
  const auto message = [&](const Plan& plan) {
    const auto command = PlanVllmCommand(plan, spec, "m");
    EXPECT_EQ(command.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(command.status().message());
  };
  Plan plan = LayerPlan(spec, {"cuda:0", "cuda:1"}, {0, 0, 0, 0, 0, 0, 0, 0});
  SplitAll(spec, {0, 1}, plan);
  plan.placements[spec.attention_block(3)].shares = {5, 3};
  EXPECT_THAT(message(plan), HasSubstr("layer 3 attention as the plan does: its shares"));
  EXPECT_THAT(message(LayerPlan(spec, {"cpu", "cuda:1"}, {0, 1, 1, 1, 1, 1, 1, 1})),
              HasSubstr("layer 0 attention as the plan does: it lies on a CPU"));
  plan = LayerPlan(spec, {"cuda:0", "cuda:1"}, {0, 0, 0, 0, 0, 0, 0, 0});
  plan.placements[spec.mlp_block(1)].ranks = {1};
  EXPECT_THAT(message(plan), HasSubstr("elsewhere than its layer's attention"));
}

TEST(MpiFiles, HaveEveryRankOnItsHost) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"a/cuda:0", "a/cuda:1", "b/cuda:0"}, {0, 0, 0, 1, 1, 1, 2, 2});
  EXPECT_EQ(PlanMpiRankfile(plan), "rank 0=a slot=*\nrank 1=a slot=*\nrank 2=b slot=*\n");
  EXPECT_EQ(*PlanMpiHostfile(plan), "a slots=2\nb slots=1\n");
  plan.ranks[2].device = "a/cuda:2";
  plan.ranks[1].device = "b/cuda:0";
  EXPECT_THAT(std::string(PlanMpiHostfile(plan).status().message()), HasSubstr("rankfile"));
  plan.ranks.resize(1);
  plan.ranks[0].device = "cuda:0";
  EXPECT_EQ(*PlanMpiHostfile(plan), "localhost slots=1\n");
}

TEST(DeviceMap, KnowsOneHostAndSkipsRanksWithoutAShare) {
  const ModelSpec spec = PlanModel();
  Plan plan = LayerPlan(spec, {"a/cuda:0", "a/cuda:1"}, {0, 0, 0, 0, 1, 1, 1, 1});
  plan.placements[3].ranks = {1, 0};
  plan.placements[3].shares = {0, plan.placements[3].shares[0]};
  const auto map = ParseJson(*PlanDeviceMap(plan, spec));
  ASSERT_TRUE(map.ok()) << map.status();
  EXPECT_EQ((*map)["model.layers.1"], 0);
  plan.ranks[1].device = "b/cuda:0";
  EXPECT_THAT(std::string(PlanDeviceMap(plan, spec).status().message()),
              HasSubstr("one host only"));
}

// The files that tests/golden/accelerate/make.py had Accelerate itself take.
class Accelerate : public testing::TestWithParam<const char*> {};

TEST_P(Accelerate, TakesTheDeviceMap) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string model = GetParam();
  const auto checkpoint =
      Checkpoint::Open(TestDataDirectory() + "/models/configs/" + model + "/config.json");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto spec = ReadModelSpec(**checkpoint);
  ASSERT_TRUE(spec.ok()) << spec.status();
  spec->name = model;
  const int layers = spec->num_layers();
  std::vector<int> rank_of_layer(layers, 1);
  std::fill_n(rank_of_layer.begin(), layers / 2, 0);
  Plan plan = LayerPlan(*spec, {"cuda:0", "cuda:1", "cpu"}, rank_of_layer);
  plan.placements[spec->mlp_block(layers - 1)].ranks = {2};
  SetRankBytes(*spec, plan);
  const auto map = PlanPythonDeviceMap(plan, *spec);
  ASSERT_TRUE(map.ok()) << map.status();
  const std::string folder = SourcePath("tests/golden/accelerate/");
  const auto golden = ReadFile(folder + model + ".py");
  ASSERT_TRUE(golden.ok()) << golden.status() << "\nwanted:\n" << *map;
  EXPECT_EQ(*map, *golden);
  // What Accelerate counts per device is what the plan has (f32 vectors aside, which are bf16
  // there; an embedding that a head elsewhere shares is counted once).
  const auto bytes = ReadJsonFile(folder + model + ".json");
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  const char* names[] = {"0", "1", "cpu"};
  for (int rank = 0; rank < 3; ++rank) {
    const double counted = (*bytes)[names[rank]].get<double>();
    EXPECT_NEAR(counted / static_cast<double>(plan.ranks[rank].weight_bytes), 1, 0.001) << rank;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Accelerate,
                         testing::Values("Meta-Llama-3-8B", "Qwen2-7B-Instruct",
                                         "Mixtral-8x7B-v0.1"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name.erase(std::remove_if(name.begin(), name.end(),
                                                     [](char c) { return !isalnum(c); }),
                                      name.end());
                           return name;
                         });

}  // namespace
}  // namespace tprun
