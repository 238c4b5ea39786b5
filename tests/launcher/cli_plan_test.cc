#include <filesystem>

#include "absl/strings/match.h"
#include "base/file.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/launcher/well_formed_xml.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::AnyOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Config(const std::string& name) {
  return TestDataDirectory() + "/models/configs/" + name + "/config.json";
}

TEST(CliPlan, PlansThePublishedConfigs) {
  TPRUN_NEEDS_TEST_DATA();
  for (const std::string name : {"Llama-2-7b-chat-hf", "Llama-2-70b-chat-hf",
                                 "Llama-3.2-3B",       "Meta-Llama-3-8B",
                                 "Meta-Llama-3.1-8B",  "Mistral-7B-v0.1",
                                 "Qwen1.5-0.5B",       "Qwen2-7B-Instruct",
                                 "Qwen3-8B",           "chatglm3-6b",
                                 "gemma-2-9b",         "gemma-2b-it",
                                 "gemma-7b",           "glm-4-9b-chat",
                                 "glm-4-voice-9b",     "openchat-3.5-0106-gemma",
                                 "orpheus-3b-0.1-ft",  "DeepSeek-V3",
                                 "Mixtral-8x7B-v0.1",  "Qwen3-30B-A3B",
                                 "gpt-oss-20b",        "Phi-3.5-mini-instruct"}) {
    const ProcessResult result = RunTprun({"plan", Config(name)});
    EXPECT_THAT(result.exit_code, AnyOf(0, 3)) << name << ": " << result.err;
    EXPECT_THAT(result.out, HasSubstr("parameters")) << name;
    EXPECT_THAT(result.out, HasSubstr("KV cache")) << name;
    EXPECT_EQ(result.err.empty(), result.exit_code == 0) << name << ": " << result.err;
  }
}

TEST(CliPlan, NamesWhatIsNotSupported) {
  const std::string path = testing::TempDir() + "/unknown_config.json";
  ASSERT_TRUE(WriteFile(path, R"({"hidden_size": 64})").ok());
  const ProcessResult result = RunTprun({"plan", path});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("tprun: "));
  EXPECT_THAT(result.err, HasSubstr("model_type"));
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
}

// Audio codecs have no layers to lay out: how much of them there is, and where they fit.
TEST(CliPlan, TellsTheSizeOfCodecs) {
  TPRUN_NEEDS_TEST_DATA();
  const std::pair<std::string, std::string> cases[] = {{"snac_24khz", "19842914 parameters"},
                                                       {"mimi", "96151393 parameters"}};
  for (const auto& [name, expected] : cases) {
    const std::string folder = TestDataDirectory() + "/models/configs/" + name;
    const ProcessResult fits = RunTprun({"plan", folder, "--topology=rtx3060"});
    EXPECT_EQ(fits.exit_code, 0) << fits.err;
    EXPECT_THAT(fits.out, HasSubstr(expected));
    EXPECT_THAT(fits.out, HasSubstr("cuda:0: needs "));
    const ProcessResult small = RunTprun(
        {"plan", folder, "--topology=rtx3060", "--devices=cuda:0", "--limit=cuda:0=64MiB"});
    EXPECT_EQ(small.exit_code, 3);
    EXPECT_THAT(small.err, HasSubstr("does not fit: it needs "));
    EXPECT_EQ(RunTprun({"plan", folder, "--format=json"}).exit_code, 2);
  }
}

TEST(CliPlan, ACodecTakesWhatAppliesToIt) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TestDataDirectory() + "/models/configs/mimi";
  const std::pair<std::string, std::string> wrong[] = {{"--weights=q4_0", "--weights: "},
                                                       {"--devices=cuda:7", "--devices: no device"},
                                                       {"--limit=foo=1GiB", "--limit: no device"}};
  for (const auto& [option, error] : wrong) {
    const ProcessResult result = RunTprun({"plan", folder, "--topology=rtx3060", option});
    EXPECT_EQ(result.exit_code, 2) << option;
    EXPECT_THAT(result.err, HasSubstr(error));
  }
  const std::string matrix = testing::TempDir() + "/bare_matrix.txt";
  ASSERT_TRUE(WriteFile(matrix, "\tGPU0\tCPU Affinity\nGPU0\t X \t0-7\n").ok());
  const ProcessResult unknown = RunTprun({"plan", folder, "--topology=" + matrix});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("how much memory cuda:0 has is not stated"));
}

TEST(CliPlan, ACodecBesideALanguageModelDoesNotHideIt) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = testing::TempDir() + "/two_models";
  std::filesystem::create_directory(folder);
  std::filesystem::copy_file(SourcePath("models/stories") + "/config.json", folder + "/config.json",
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::copy_file(TestDataDirectory() + "/models/configs/mimi/mimi_config.json",
                             folder + "/mimi_config.json",
                             std::filesystem::copy_options::overwrite_existing);
  const ProcessResult result = RunTprun({"plan", folder, "--topology=rtx3060"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, Not(HasSubstr("codec")));
  EXPECT_THAT(result.out, HasSubstr("4,066,560"));
}

// Too many unlike cards for a search to look at every chain of groups: it ends early, and what
// needs no search is found all the same.
TEST(CliPlan, ASearchThatEndsEarlyDoesNotSayThatNothingFits) {
  const std::string folder = testing::TempDir();
  ASSERT_TRUE(WriteFile(folder + "/config.json",
                        R"({"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 60,
      "intermediate_size": 28672, "vocab_size": 32000, "num_attention_heads": 128,
      "num_key_value_heads": 128, "max_position_embeddings": 4096, "torch_dtype": "bfloat16"})")
                  .ok());
  ASSERT_TRUE(WriteFile(folder + "/hosts.yaml", R"(network: {bandwidth: 10Gbit/s, latency: 50us}
hosts:
  - name: a
    cpu: {cores: 8, memory: 16GiB, bandwidth: 40GB/s}
    gpus: [{name: rtx3060}, {name: rtx3090}, {name: rtx4090}, {name: rtx4080}]
  - name: b
    cpu: {cores: 8, memory: 16GiB, bandwidth: 50GB/s}
    gpus: [{name: rtx3080}, {name: rtx3070}, {name: rtxa6000}, {name: rtx4060ti}]
  - name: c
    cpu: {cores: 8, memory: 24GiB, bandwidth: 60GB/s}
    gpus: [{name: rtx3090}, {name: rtx4070}, {name: rtx5090}, {name: rtx3060}]
)")
                  .ok());
  const ProcessResult result = RunTprun(
      {"plan", folder + "/config.json", "--context=512", "--topology=" + folder + "/hosts.yaml"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("the search was ended"));
  EXPECT_THAT(result.out, Not(HasSubstr("tokens/s, faster")));
}

// A long cache of which little is read: devices that take attention alone have few seconds per
// byte.
TEST(CliPlan, WhatItChoosesIsNotSlowerThanWhatCanBeNamed) {
  TPRUN_NEEDS_TEST_DATA();
  std::vector<std::string> arguments = {"plan",
                                        Config("Meta-Llama-3-8B"),
                                        "--weights=q8_0",
                                        "--context=90000",
                                        "--format=json",
                                        "--topology=[h100+a40]+[rtx4090+a40] ib:400",
                                        "--limit=node/cuda:0=6844MiB",
                                        "--limit=node/cuda:1=3772MiB",
                                        "--limit=node-1/cuda:0=17084MiB",
                                        "--limit=node-1/cuda:1=2748MiB"};
  const ProcessResult chosen = RunTprun(arguments);
  ASSERT_EQ(chosen.exit_code, 0) << chosen.err;
  arguments.push_back("--devices=node/cuda:0,node-1/cuda:0,node/cuda:1,node-1/cuda:1");
  const ProcessResult named = RunTprun(arguments);
  ASSERT_EQ(named.exit_code, 0) << named.err;
  const absl::StatusOr<Json> a = ParseJson(chosen.out), b = ParseJson(named.out);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_GE((*a)["decode_tokens_per_s"]["expected"].get<double>(),
            (*b)["decode_tokens_per_s"]["expected"].get<double>() * (1 - 1e-9));
}

TEST(CliPlan, TellsTheDeviceTheBytesAndTheRemedyWhenItDoesNotFit) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string machine = "--topology=" + SourcePath("clusters/rtx3090-rtx3060.yaml");
  const ProcessResult result = RunTprun({"plan", Config("Llama-2-70b-chat-hf"), machine});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.out, HasSubstr("would help: "));
  EXPECT_THAT(result.err,
              ContainsRegex("^tprun: Llama-2-70b-chat-hf does not fit: rank [0-2] needs "
                            "[0-9.]+ GiB on (cuda:[01]|cpu), which has [0-9.]+ GiB"));
  EXPECT_THAT(result.err, HasSubstr("; try "));
  // All that `run` says of it is this line.
  const ProcessResult run = RunTprun({"bench", Config("Llama-2-70b-chat-hf"), "--weights=f32"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, StartsWith("tprun: Llama-2-70b-chat-hf does not fit"));
}

TEST(CliPlan, PlansForEveryClusterFile) {
  TPRUN_NEEDS_TEST_DATA();
  for (const auto& entry : std::filesystem::directory_iterator(SourcePath("clusters"))) {
    const std::string name = entry.path().filename();
    if (entry.path().extension() != ".yaml" || name == "gpus.yaml" || name == "overheads.yaml") {
      continue;
    }
    const std::string machine = "--topology=" + entry.path().string();
    const ProcessResult result =
        RunTprun({"plan", Config("Meta-Llama-3-8B"), machine, "--weights=q4_0"});
    EXPECT_EQ(result.exit_code, 0) << machine << ": " << result.err;
    const ProcessResult svg =
        RunTprun({"plan", Config("Meta-Llama-3-8B"), machine, "--weights=q4_0", "--format=svg"});
    EXPECT_EQ(svg.exit_code, 0) << machine << ": " << svg.err;
    EXPECT_EQ(XmlFault(svg.out), "") << machine;
    EXPECT_THAT(svg.out, HasSubstr("<svg"));
  }
}

TEST(CliPlan, JsonGoesToStandardOutputOrAFile) {
  const std::string path = ::testing::TempDir() + "/cli_plan_test.json";
  const std::vector<std::string> arguments = {"plan", SourcePath("models/stories"),
                                              "--devices=cpu,cpu", "--format=json"};
  const ProcessResult result = RunTprun(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = ParseJson(result.out);
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ((*json)["ranks"].size(), 2);
  EXPECT_EQ((*json)["blocks"].size(), 2 + 2 * 6);
  std::vector<std::string> to_file = arguments;
  to_file.push_back("--output=" + path);
  EXPECT_EQ(RunTprun(to_file).out, "");
  const auto written = ReadJsonFile(path);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ((*written)["blocks"], (*json)["blocks"]);
  std::filesystem::remove(path);
}

TEST(CliPlan, AFullDiskIsAFailureAndNotBadInput) {
  const ProcessResult result =
      RunTprun({"plan", SourcePath("models/stories"), "--devices=cpu", "--output=/dev/full"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("/dev/full"));
}

TEST(CliPlan, DeviceMapOfALayerSplitNamesEveryLayer) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string machine = "--topology=" + SourcePath("clusters/rtx3090-rtx3060.yaml");
  const std::vector<std::string> arguments = {"plan", Config("Meta-Llama-3-8B"), machine,
                                              "--format=device-map"};
  std::vector<std::string> layers = arguments;
  layers.push_back("--split=layer");
  const ProcessResult result = RunTprun(layers);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = ParseJson(result.out);
  ASSERT_TRUE(json.ok()) << json.status();
  for (int layer = 0; layer < 32; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    int entries = 0;
    for (const auto& item : json->items()) {
      entries += item.key() == prefix || absl::StartsWith(item.key(), prefix + ".") ? 1 : 0;
    }
    EXPECT_GE(entries, 1) << prefix;
  }
  // A block over two devices is nothing that a device map could say.
  std::vector<std::string> over_both = arguments;
  over_both.push_back("--split=tensor");
  const ProcessResult tensor = RunTprun(over_both);
  EXPECT_EQ(tensor.exit_code, 2);
  EXPECT_EQ(tensor.out, "");
  EXPECT_THAT(tensor.err, HasSubstr("--split=layer"));
}

}  // namespace
}  // namespace tprun
