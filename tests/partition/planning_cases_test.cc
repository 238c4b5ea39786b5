// Cases from practice and machines that are hard to plan for, as data. docs/planning.md has their
// arithmetic.
#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/file.h"
#include "engine/arch/read_model_spec.h"
#include "gmock/gmock.h"
#include "partition/advice.h"
#include "tests/partition/plan_fixture.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

Topology Machine(const std::string& name, const std::string& yaml) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/planning_", name, ".yaml");
  EXPECT_TRUE(WriteFile(path, yaml).ok());
  const auto topology = ReadTopologyFile(path);
  EXPECT_TRUE(topology.ok()) << topology.status();
  return topology.ok() ? *topology : Topology();
}

std::string Desktop(const std::string& gpus) {
  return absl::StrCat(
      "hosts:\n  - cpu: {name: test CPU, cores: 8, memory: 32GiB, bandwidth: 45GB/s, isa: [avx2]}\n"
      "    gpus:\n",
      gpus);
}

ModelSpec Config(const std::string& name, const std::string& weights) {
  std::string path = TestDataDirectory() + "/models/configs/" + name;
  if (name == "moshiko-7b") path += "/moshi_7b_202409.json";
  if (!absl::EndsWith(path, ".json")) path += "/config.json";
  const auto checkpoint = Checkpoint::Open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto spec =
      ReadModelSpec(**checkpoint, weights.empty() ? nullptr : FindWeightFormat(weights));
  EXPECT_TRUE(spec.ok()) << name << ": " << spec.status();
  return *spec;
}

Plan PlanFor(const PlanRequest& request) {
  const auto plan = MakePlanner()->MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(CheckPlanFor(*plan, *request.spec).ok());
  return *plan;
}

PlanRequest Request(const ModelSpec& spec, const Topology& topology, int64_t context) {
  PlanRequest request;
  request.spec = &spec;
  request.topology = &topology;
  request.options.context = context;
  return request;
}

void Show(const Plan& plan, const ModelSpec& spec) {
  std::printf("%s\n", PlanText(plan, spec, false).c_str());
}

bool Has(const std::vector<std::string>& remedies, const std::string& start) {
  return std::any_of(remedies.begin(), remedies.end(),
                     [&](const std::string& text) { return absl::StartsWith(text, start); });
}

// A remedy is what it says: with it the plan fits.
int64_t Number(const std::vector<std::string>& remedies, const std::string& start) {
  for (const std::string& text : remedies) {
    if (absl::StartsWith(text, start)) return std::atoll(text.c_str() + start.size());
  }
  return 0;
}

// Moshi in q8_0 on the 11.75 GiB that are free of an RTX 3060 with a KV cache in f32, as its first
// release had it, if steps came in chunks: 7.6 GiB of weights, 3.4 GiB of cache (a window of 3000
// and a chunk), 0.3 GiB of codec. One by one, as `tprun` has them, they fit.
TEST(Cases, MoshiOnTwelveGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  ModelSpec spec = Config("moshiko-7b", "q8_0");
  const Topology machine =
      Machine("moshi", Desktop("      - {name: RTX 3060, available: 11.75GiB}\n"));
  PlanRequest request = Request(spec, machine, 4096);
  request.devices = {"cuda:0"};
  request.options.kv_type = &kF32Format;
  const Plan plan = PlanFor(request);
  Show(plan, spec);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan.ranks[0].device, "cuda:0");
  EXPECT_GT(plan.ranks[0].short_bytes(), 0);
  EXPECT_LT(plan.ranks[0].short_bytes(), 2 * kGiB);
  EXPECT_TRUE(Has(plan.remedies, "--kv_type=f16"));
  request.options.kv_type = &kF16Format;
  EXPECT_TRUE(PlanFor(request).fits());
  request.options.kv_type = &kF32Format;
  request.options.prefill_chunk = 1;
  EXPECT_TRUE(PlanFor(request).fits());
  // 12.5 frames per second can be had: the card has the bandwidth for it.
  EXPECT_GT(PlanFor(request).decode.low, 12.5);
}

// Orpheus in bf16 on 11.75 GiB: the config's 131072 positions need 14 GiB, and no type of weights
// above four bits speaks in real time (82 tokens/s) on an RTX 3060.
TEST(Cases, OrpheusOnTwelveGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  const ModelSpec spec = Config("orpheus-3b-0.1-ft", "bf16");
  const Topology machine =
      Machine("orpheus", Desktop("      - {name: RTX 3060, available: 11.75GiB}\n"));
  PlanRequest request = Request(spec, machine, 131072);
  request.devices = {"cuda:0"};
  request.min_tokens_per_s = 1;  // first only that it fits
  Plan plan = PlanFor(request);
  Show(plan, spec);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan.ranks[0].kv_bytes, int64_t{131072} * 114688);
  const int64_t context = Number(plan.remedies, "--context=");
  EXPECT_GT(context, 16384);
  request.options.context = context;
  EXPECT_TRUE(PlanFor(request).fits());
  request.options.context = 8192;
  request.min_tokens_per_s = 0;  // the model's own: 7 tokens per 2048 samples at 24 kHz
  plan = PlanFor(request);
  Show(plan, spec);
  EXPECT_TRUE(plan.fits());
  EXPECT_THAT(plan.notes, Contains(HasSubstr("less than the 82.0 that are needed")));
}

struct GlmCase {
  std::string name;
  std::string gpus;
  std::vector<std::string> devices;
  std::string weights;
  bool fits;
  bool real_time;  // 12.5 audio tokens/s, 26 of 39 tokens being audio
};

// GLM-4-Voice: 17.8 GiB in bf16, and 1.9 GiB of speech tokenizer, flow decoder and vocoder.
TEST(Cases, GlmVoice) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string rtx3060 = "      - RTX 3060\n";
  const GlmCase cases[] = {{"12", rtx3060, {"cuda:0"}, "bf16", false, false},
                           {"12cpu", rtx3060, {}, "bf16", true, false},
                           {"12q4", rtx3060, {"cuda:0"}, "q4_0", true, true},
                           {"16", "      - {name: RTX 4080}\n", {"cuda:0"}, "bf16", false, false},
                           {"24", "      - {name: RTX 3090}\n", {"cuda:0"}, "bf16", true, true},
                           {"2x12", rtx3060 + rtx3060, {}, "bf16", true, true}};
  for (const GlmCase& c : cases) {
    ModelSpec spec = Config("glm-4-voice-9b", c.weights);
    spec.context_length = 8192;  // the config says 2048, its user 8192
    const Topology machine = Machine("glm" + c.name, Desktop(c.gpus));
    PlanRequest request = Request(spec, machine, 8192);
    request.devices = c.devices;
    const Plan plan = PlanFor(request);
    Show(plan, spec);
    EXPECT_EQ(plan.fits(), c.fits) << c.name;
    EXPECT_TRUE(c.fits || !plan.remedies.empty()) << c.name;
    if (c.fits) {
      EXPECT_EQ(plan.decode.expected >= spec.tokens_per_second_needed, c.real_time)
          << c.name << ": " << plan.decode.expected;
    }
  }
}

// Q4_K_M as llama.cpp mixes it: half of the layers have wv and down in q6_K, the head too.
void MixQ4KM(ModelSpec& spec) {
  const int layers = spec.num_layers();
  for (TensorSpec& tensor : spec.tensors) {
    const int layer = spec.blocks[tensor.block].layer;
    const bool more =
        layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    const bool sensitive = tensor.role == TensorRole::kValue || tensor.role == TensorRole::kDown;
    if (tensor.shape.size() < 2) continue;
    tensor.format =
        tensor.role == TensorRole::kHead || (sensitive && more) ? &kQ6_KFormat : &kQ4_KFormat;
  }
}

// Llama-3-8B Q4_K_M beside a card of 4 GiB: 4.58 GiB of weights do not fit; most of the model on
// the card and the rest on the CPU is faster than the CPU alone.
TEST(Cases, LlamaOnFourGigabytes) {
  TPRUN_NEEDS_TEST_DATA();
  ModelSpec spec = Config("Meta-Llama-3-8B", "q8_0");
  MixQ4KM(spec);
  const Topology machine = Machine("laptop", Desktop("      - {name: RTX 3050 Ti Laptop}\n"));
  PlanRequest request = Request(spec, machine, 4096);
  request.devices = {"cuda:0"};
  const Plan alone = PlanFor(request);
  EXPECT_FALSE(alone.fits());
  EXPECT_TRUE(Has(alone.remedies, "no --devices:"));
  request.devices.clear();
  const Plan plan = PlanFor(request);
  Show(plan, spec);
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(plan.world_size(), 2);
  for (const RankPlan& rank : plan.ranks) {
    if (rank.device != "cuda:0") continue;
    EXPECT_LT(-rank.short_bytes(), 0.04 * rank.available_bytes);  // a layer is 3 %
  }
  request.devices = {"cpu"};
  EXPECT_GT(plan.decode.expected, 1.5 * PlanFor(request).decode.expected);
}

// Gemma-7B on 23.65 GiB. vLLM held back 2.87 GiB for its profiling run (context included): at 0.90
// there is room for 5888 of 8192 positions, at 0.95 for all.
TEST(Cases, GemmaAtNinetyPercent) {
  TPRUN_NEEDS_TEST_DATA();
  ModelSpec spec = Config("openchat-3.5-0106-gemma", "bf16");
  const Topology machine =
      Machine("gemma", Desktop("      - {name: RTX 4090, memory: 23.65GiB}\n"));
  PlanRequest request = Request(spec, machine, 8192);
  request.devices = {"cuda:0"};
  request.limits.utilization = 0.90;
  const Plan lean = PlanFor(request);
  Show(lean, spec);
  EXPECT_TRUE(lean.fits());  // with our own buffers
  EXPECT_EQ(lean.ranks[0].kv_bytes, int64_t{8192} * 458752);
  const int64_t ours = lean.ranks[0].workspace_bytes + lean.ranks[0].overhead_bytes;
  const auto reserve = static_cast<int64_t>(2.87 * kGiB) - ours;
  spec.sidecars.push_back({"activations of a profiling run", reserve, false});
  Plan plan = PlanFor(request);
  Show(plan, spec);
  EXPECT_FALSE(plan.fits());
  EXPECT_NEAR(static_cast<double>(plan.ranks[0].short_bytes()), 1008.0 * kMiB, 32.0 * kMiB);
  EXPECT_TRUE(Has(plan.remedies, "--utilization=0.95"));
  EXPECT_NEAR(static_cast<double>(Number(plan.remedies, "--context=")), 5888, 64);
  request.limits.utilization = 0.95;
  EXPECT_TRUE(PlanFor(request).fits());
}

// A model of layers like those of Llama-2-70b, 0.85 GiB each in q8_0.
ModelSpec LargeModel(int layers) {
  const Json config = {{"model_type", "llama"},
                       {"_name", "large model"},
                       {"hidden_size", 8192},
                       {"num_hidden_layers", layers},
                       {"intermediate_size", 28672},
                       {"vocab_size", 32000},
                       {"num_attention_heads", 64},
                       {"num_key_value_heads", 8},
                       {"max_position_embeddings", 1 << 20}};
  ModelSpec spec = *(*FindArchitecture(config))->build(config, Naming::kHuggingFace);
  for (TensorSpec& tensor : spec.tensors) tensor.format = &kQ8_0Format;
  return spec;
}

double UnusedPart(const RankPlan& rank) {
  return static_cast<double>(-rank.short_bytes()) / static_cast<double>(rank.available_bytes);
}

std::vector<std::string> Gpus(const Topology& machine) {
  std::vector<std::string> gpus;
  for (const DeviceInfo& device : machine.devices) {
    if (device.kind == DeviceKind::kGpu) gpus.push_back(device.id);
  }
  return gpus;
}

// Where a model nearly fills a machine and the context is to be as long as can be, the memory of
// every device is used.
TEST(HardMachines, UseTheMemoryOfEveryDevice) {
  std::vector<std::pair<std::string, std::string>> machines = {
      {"24+24+12",
       "      - RTX 3090\n      - RTX 3090\n      - RTX 3060\n    nvlink:\n"
       "      - gpus: [0, 1]\n"},
      {"half used", "      - {name: RTX 3090, available: 12GiB}\n      - RTX 3090\n"},
      {"x16+x4", "      - {name: RTX 3090, pcie: 4x16}\n      - {name: RTX 3090, pcie: 3x4}\n"}};
  for (int cards : {3, 5, 7}) {
    machines.emplace_back(absl::StrCat(cards, " equal"),
                          absl::StrCat("      - {name: RTX 3060, count: ", cards, "}\n"));
  }
  for (const auto& [name, gpus] : machines) {
    const Topology machine = Machine("hard", Desktop(gpus));
    int64_t memory = 0;
    for (const DeviceInfo& device : machine.devices) {
      if (device.kind == DeviceKind::kGpu) memory += device.available_bytes;
    }
    const ModelSpec spec = LargeModel(static_cast<int>(0.88 * memory / (0.85 * kGiB)));
    PlanRequest request = Request(spec, machine, 256);
    request.devices = Gpus(machine);
    request.objective = Objective::kContext;
    request.split = SplitMode::kTensor;
    request.advise = false;
    Plan plan = PlanFor(request);
    for (const std::string& note : plan.notes) {
      if (absl::StartsWith(note, "room for ")) {
        request.options.context = std::atoll(note.c_str() + 9);
      }
    }
    request.objective = Objective::kLatency;
    plan = PlanFor(request);
    EXPECT_TRUE(plan.fits()) << name;
    std::printf("%-10s %d layers, context %6lld:", name.c_str(), spec.num_layers(),
                static_cast<long long>(request.options.context));
    for (const RankPlan& rank : plan.ranks) {
      EXPECT_LT(UnusedPart(rank), 0.03) << name << ", " << rank.device;
      std::printf(" %.2f %%", 100 * UnusedPart(rank));
    }
    std::printf(" unused\n");
    // So full that other shares do not fit, or are slower.
    for (bool by_memory : {false, true}) {
      request.shares.clear();
      for (const DeviceInfo& device : machine.devices) {
        if (device.kind != DeviceKind::kGpu) continue;
        request.shares.push_back(by_memory ? static_cast<double>(device.available_bytes) : 1);
      }
      const Plan other = PlanFor(request);
      EXPECT_TRUE(!other.fits() || other.decode.expected <= plan.decode.expected * 1.000001)
          << name << (by_memory ? ", by memory" : ", equal");
    }
  }
}

// Faster by the model than equal shares, and than shares by memory.
TEST(HardMachines, AreFasterThanEqualSharesAndSharesByMemory) {
  const std::pair<std::string, std::string> machines[] = {
      {"24+24+12", Desktop("      - RTX 3090\n      - RTX 3090\n      - RTX 3060\n    nvlink:\n"
                           "      - gpus: [0, 1]\n")},
      {"3 equal", Desktop("      - {name: RTX 3060, count: 3}\n")},
      {"5 equal", Desktop("      - {name: RTX 3060, count: 5}\n")},
      {"7 equal", Desktop("      - {name: RTX 3060, count: 7}\n")},
      {"half used", Desktop("      - {name: RTX 3090, available: 12GiB}\n      - RTX 3090\n")},
      {"x16+x4", Desktop("      - {name: RTX 3090, pcie: 4x16}\n      - {name: RTX 3090, pcie: "
                         "3x4}\n")}};
  for (const auto& [name, yaml] : machines) {
    const ModelSpec spec = PlanModel(32, 8, 32);
    const Topology machine = Machine("hard", yaml);
    PlanRequest request = Request(spec, machine, 4096);
    const Plan plan = PlanFor(request);
    EXPECT_TRUE(plan.fits()) << name;
    request.advise = false;
    request.devices = Gpus(machine);
    for (bool by_memory : {false, true}) {
      request.shares.clear();
      for (const DeviceInfo& device : machine.devices) {
        if (device.kind != DeviceKind::kGpu) continue;
        request.shares.push_back(by_memory ? static_cast<double>(device.available_bytes) : 1);
      }
      const Plan other = PlanFor(request);
      EXPECT_GE(plan.decode.expected, other.decode.expected * 0.999999) << name;
      std::printf("%-10s %s %.1f tokens/s; %s: %.1f\n", name.c_str(), LayoutName(plan).c_str(),
                  plan.decode.expected, by_memory ? "by memory" : "equal", other.decode.expected);
    }
  }
}

// A mixture of experts that does not fit its card: attention stays there, experts go to the CPU.
TEST(HardMachines, ExpertsGoToTheCpu) {
  TPRUN_NEEDS_TEST_DATA();
  const ModelSpec spec = Config("Qwen3-30B-A3B", "q4_0");
  const Topology machine = Machine("moe", Desktop("      - RTX 3060\n"));
  PlanRequest request = Request(spec, machine, 8192);
  const Plan plan = PlanFor(request);
  Show(plan, spec);
  ASSERT_TRUE(plan.fits());
  ASSERT_EQ(plan.world_size(), 2);
  EXPECT_THAT(LayoutName(plan), HasSubstr("MLPs on cpu"));
  for (const RankPlan& rank : plan.ranks) {
    EXPECT_TRUE(rank.device != "cuda:0" || UnusedPart(rank) < 0.03) << UnusedPart(rank);
  }
  for (const Alternative& other : plan.rejected) {
    EXPECT_LE(other.tokens_per_s, plan.decode.expected) << other.layout;
  }
}

// Card and CPU together just hold it: little of either stays free.
TEST(HardMachines, ExpertsFillCardAndCpu) {
  TPRUN_NEEDS_TEST_DATA();
  const ModelSpec spec = Config("Mixtral-8x7B-v0.1", "q8_0");
  const Topology machine = Machine(
      "full", absl::StrReplaceAll(Desktop("      - RTX 3060\n"), {{"memory: 32", "memory: 36"}}));
  PlanRequest request = Request(spec, machine, 512);
  request.objective = Objective::kContext;
  const Plan plan = PlanFor(request);
  Show(plan, spec);
  ASSERT_TRUE(plan.fits());
  ASSERT_EQ(plan.world_size(), 2);
  for (const RankPlan& rank : plan.ranks) EXPECT_LT(UnusedPart(rank), 0.03) << rank.device;
}

double SecondsToPlan(const PlanRequest& request) {
  const auto start = std::chrono::steady_clock::now();
  const Plan plan = PlanFor(request);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  std::printf("%s: %s, %.1f tokens/s, planned in %.2f s\n", plan.model_name.c_str(),
              LayoutName(plan).c_str(), plan.decode.expected, spent.count());
  EXPECT_TRUE(plan.fits());
  return spent.count();
}

// Eight unlike cards and 100 layers, with and without room to spare. The bound is that of the aim
// for one search on an idle machine, with a factor for busy ones.
TEST(PlanningTime, EightUnlikeDevices) {
  ModelSpec spec = PlanModel(64, 8, 100);
  std::string gpus;
  const char* names[] = {"RTX 3060", "RTX 3090", "RTX 4090",  "RTX 4080",
                         "RTX 3080", "RTX 3070", "RTX A6000", "RTX 4060 Ti"};
  for (const char* name : names) absl::StrAppend(&gpus, "      - ", name, "\n");
  const Topology machine = Machine("unlike", Desktop(gpus));
  for (int64_t context : {2048, 8192}) {
    PlanRequest request = Request(spec, machine, context);
    request.options.batch = context == 8192 ? 2 : 1;
    request.advise = false;
    EXPECT_LT(SecondsToPlan(request), 10);
  }
}

TEST(PlanningTime, ThousandHosts) {
  TPRUN_NEEDS_TEST_DATA();
  const ModelSpec spec = Config("DeepSeek-V3", "");
  const std::string many =
      "network: {bandwidth: 400Gbit/s, latency: 5us}\n"
      "hosts:\n  - count: 600\n    cpu: {cores: 64, memory: 1TiB, bandwidth: 300GB/s}\n"
      "    gpus:\n      - {name: NVIDIA H200, count: 8}\n    nvlink:\n      - gpus: all\n"
      "  - count: 400\n    name: old\n    cpu: {cores: 32, memory: 512GiB, bandwidth: 150GB/s}\n"
      "    gpus:\n      - {name: NVIDIA RTX A6000, count: 4}\n";
  const Topology machine = Machine("thousand", many);
  PlanRequest request = Request(spec, machine, 4096);
  request.advise = false;
  EXPECT_LT(SecondsToPlan(request), 60);
}

}  // namespace
}  // namespace tprun
