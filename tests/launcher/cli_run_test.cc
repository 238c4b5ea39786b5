// Text from checkpoints, by every way of starting the ranks.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/file.h"
#include "base/json.h"
#include "base/temporary_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/test_data.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string Tiny() { return TestDataDirectory() + "/models/tiny/stories260K"; }

// What an independent implementation says after "Once upon a time", greedy.
Json Expected() {
  return ReadJsonFile(Tiny() + "/expected.json").value_or(Json::object())["greedy_after_prompt"];
}

// `arguments` to generate the expected text; all in f32, so that sums alone differ.
std::vector<std::string> Generate(const std::string& model, std::vector<std::string> more) {
  std::vector<std::string> arguments = {
      "run",         model,    "--prompt=Once upon a time", "--max_tokens=64", "--kv_type=f32",
      "--threads=1", "--quiet"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

void ExpectTheText(const ProcessResult& result) {
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, Expected()["text"].get<std::string>() + "\n");
}

struct Way {
  std::string name;
  std::vector<std::string> options;
};

class CliRun : public ::testing::TestWithParam<Way> {};

TEST_P(CliRun, GeneratesTheExpectedText) {
  TPRUN_NEEDS_TEST_DATA();
  if (absl::string_view(GetParam().name).substr(0, 3) == "mpi") TPRUN_NEEDS_MPI();
  ExpectTheText(RunTprun(Generate(Tiny() + "/hf", GetParam().options)));
}

constexpr char kTwo[] = "--devices=cpu,cpu";
constexpr char kThree[] = "--devices=cpu,cpu,cpu";
constexpr char kFour[] = "--devices=cpu,cpu,cpu,cpu";

INSTANTIATE_TEST_SUITE_P(
    Ways, CliRun,
    ::testing::Values(Way{"one", {}}, Way{"local1", {"--backend=local"}},
                      Way{"local2", {kTwo, "--backend=local"}},
                      Way{"local3", {kThree, "--backend=local"}},
                      Way{"local4", {kFour, "--backend=local"}},
                      Way{"local3shares", {kThree, "--backend=local", "--shares=5:2:1"}},
                      Way{"local3layer", {kThree, "--backend=local", "--split=layer"}},
                      Way{"local2oneidle", {kTwo, "--backend=local", "--shares=1:0"}},
                      Way{"mpi1", {"--backend=mpi"}}, Way{"mpi2", {kTwo, "--backend=mpi"}},
                      Way{"mpi3", {kThree, "--backend=mpi"}}, Way{"mpi4", {kFour}},
                      Way{"mpi3shares", {kThree, "--backend=mpi", "--shares=5:2:1"}},
                      Way{"mpi2layer", {kTwo, "--backend=mpi", "--split=layer"}}),
    [](const auto& info) { return info.param.name; });

TEST(CliRunGguf, GeneratesTheExpectedText) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string gguf = Tiny() + "/gguf/stories260K-f32.gguf";
  ExpectTheText(RunTprun(Generate(gguf, {})));
  ExpectTheText(RunTprun(Generate(gguf, {kThree, "--backend=local"})));
}

TEST(CliRunUnderMpirun, IsARank) {
  TPRUN_NEEDS_TEST_DATA();
  TPRUN_NEEDS_MPI();
  ExpectTheText(RunUnderMpirun(2, Generate(Tiny() + "/hf", {})));
  ExpectTheText(RunUnderMpirun(3, Generate(Tiny() + "/hf", {kThree, "--shares=1:2:1"})));
}

TEST(CliRunJson, HasTheTokenIds) {
  TPRUN_NEEDS_TEST_DATA();
  for (const std::string devices : {"--devices=cpu", kThree}) {
    const ProcessResult result =
        RunTprun(Generate(Tiny() + "/hf", {"--format=json", "--backend=local", devices}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto json = ParseJson(result.out);
    ASSERT_TRUE(json.ok()) << json.status();
    EXPECT_EQ((*json)["new_ids"], Expected()["new_ids"]);
    EXPECT_EQ((*json)["text"], Expected()["text"]);
    EXPECT_EQ((*json)["prompt_ids"].size(), 5);
  }
}

constexpr int kEndOfText = 1;  // of models/stories

// The bundled model against transformers, up to where two tokens nearly tie.
TEST(CliRunBundled, AgreesWithTransformers) {
  const auto golden = ReadJsonFile(SourcePath("tests/golden/stories/expected.json"));
  ASSERT_TRUE(golden.ok()) << golden.status();
  for (const Json& example : (*golden)["cases"]) {
    const std::string prompt = example["prompt"];
    const size_t safe = example["safe"];
    const ProcessResult result = RunTprun(
        {"run", SourcePath("models/stories"), "--prompt=" + prompt, "--quiet", "--format=json",
         "--kv_type=f32", "--backend=local", kTwo, "--max_tokens=" + std::to_string(safe)});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    Json expected = Json::array();
    for (size_t i = 0; i < safe && example["greedy_ids"][i] != kEndOfText; ++i) {
      expected.push_back(example["greedy_ids"][i]);
    }
    const Json json = ParseJson(result.out).value_or(Json::object());
    EXPECT_EQ(json["prompt_ids"], example["prompt_ids"]) << prompt;
    EXPECT_EQ(json["new_ids"], expected) << prompt;
  }
}

class CliRunText : public ::testing::Test {
 protected:
  ProcessResult Run(std::vector<std::string> more, const ProcessOptions& options = {}) {
    std::vector<std::string> arguments = {"run", SourcePath("models/stories"), "--threads=1"};
    arguments.push_back("--max_tokens=" + std::to_string(max_tokens_));
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProcessResult result = RunTprun(arguments, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  }

  int max_tokens_ = 24;
};

TEST_F(CliRunText, SamplingDependsOnTheSeedButNotOnTheRanks) {
  const std::vector<std::string> sampling = {"--temperature=0.9", "--top_p=0.95", "--kv_type=f32",
                                             "--prompt=One day", "--backend=local"};
  auto sample = [&](const std::string& devices, const std::string& seed) {
    std::vector<std::string> arguments = sampling;
    arguments.insert(arguments.end(), {devices, seed});
    return Run(arguments).out;
  };
  const std::string first = sample("--devices=cpu", "--seed=7");
  EXPECT_EQ(sample("--devices=cpu", "--seed=7"), first);
  EXPECT_EQ(sample(kThree, "--seed=7"), first);
  EXPECT_NE(sample("--devices=cpu", "--seed=8"), first);
}

TEST_F(CliRunText, PromptComesFromStandardInput) {
  ProcessOptions options;
  options.input = "Once upon a time, there was a \"quoted\" cat\nthat";
  const std::string argument = Run({"--prompt=" + options.input}).out;
  EXPECT_EQ(argument.rfind(options.input, 0), 0) << argument;
  EXPECT_EQ(Run({"--prompt=-"}, options).out, argument);
  if (HaveMpirun()) {
    EXPECT_EQ(Run({"--prompt=-", kTwo, "--backend=mpi"}, options).out, argument);
  }
}

// The prompt as the model sees it must not depend on how it gets to the ranks.
TEST_F(CliRunText, AnyPromptReachesTheRanksOfMpirun) {
  TPRUN_NEEDS_MPI();
  max_tokens_ = 4;
  for (const std::string& prompt :
       {std::string(":"), std::string("-"), std::string("--quiet"), std::string("Once\0upon", 9),
        std::string("a \xff\xfe b"), std::string("Once\n\n upon")}) {
    ProcessOptions options;
    options.input = prompt;
    auto run = [&](const std::string& backend) {
      return ParseJson(Run({"--prompt=-", "--format=json", "--quiet", kTwo, "--backend=" + backend},
                           options)
                           .out)
          .value_or(Json::object());
    };
    const Json local = run("local");
    const Json mpi = run("mpi");
    EXPECT_GT(local["prompt_ids"].size(), 1);
    EXPECT_EQ(local["prompt_ids"], mpi["prompt_ids"]) << prompt;
    EXPECT_EQ(local["text"], mpi["text"]) << prompt;
  }
  EXPECT_EQ(Run({"--prompt=:", "--quiet", kTwo, "--backend=mpi"}).out,
            Run({"--prompt=:", "--quiet", kTwo, "--backend=local"}).out);
}

// A single argument of a program ends at 128 KiB. The model is too slow for such a prompt: an
// mpirun that keeps what the ranks would read stands for them.
TEST_F(CliRunText, ALongPromptReachesTheRanksOfMpirun) {
  const std::string directory = ::testing::TempDir() + "/cli_run_long_prompt";
  std::filesystem::remove_all(directory);
  std::filesystem::copy(SourcePath("models/stories"), directory);
  Json config = ReadJsonFile(directory + "/config.json").value_or(Json::object());
  config["max_position_embeddings"] = 262144;
  ASSERT_TRUE(WriteFile(directory + "/config.json", config.dump()).ok());
  const std::string mpirun = directory + "/mpirun";
  ASSERT_TRUE(WriteFile(mpirun, "#!/bin/sh\ncp \"$TPRUN_ARGUMENTS_FILE\" '" + directory +
                                    "/arguments'\necho \"$@\"\n")
                  .ok());
  std::filesystem::permissions(mpirun, std::filesystem::perms::owner_all);
  ProcessOptions options;
  options.environment = {{"TPRUN_MPIRUN", mpirun}};
  options.input = "Once" + std::string(150'000, ' ');
  const ProcessResult result = RunTprun(
      {"run", directory, "--prompt=-", "--context=200000", kTwo, "--backend=mpi"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out.find("Once"), std::string::npos);
  const std::string arguments = ReadFile(directory + "/arguments").value_or("");
  const std::string expected = "8\n--prompt150004\n" + options.input;
  EXPECT_TRUE(arguments.size() > expected.size() &&
              arguments.substr(arguments.size() - expected.size()) == expected);
  std::filesystem::remove_all(directory);
}

TEST_F(CliRunText, AnEmptyPromptIsNotTheNextArgument) {
  const std::string text = Run({}).out;
  EXPECT_EQ(Run({"--prompt=", "--quiet"}).out, text);
  if (HaveMpirun()) {
    EXPECT_EQ(Run({"--prompt=", "--quiet", "--backend=mpi"}).out, text);
  }
}

TEST_F(CliRunText, NoEchoLeavesThePromptOut) {
  const std::string prompt = "Once upon a time";
  const std::string whole = Run({"--prompt=" + prompt}).out;
  EXPECT_EQ(prompt + Run({"--prompt=" + prompt, "--no_echo"}).out, whole);
}

TEST_F(CliRunText, NoNewTokensIsJustThePrompt) {
  max_tokens_ = 0;
  EXPECT_EQ(Run({"--prompt=Once"}).out, "Once\n");
}

TEST_F(CliRunText, AnEmptyPromptBeginsAText) { EXPECT_GT(Run({}).out.size(), 20); }

TEST_F(CliRunText, ReportsGoToStandardErrorOnly) {
  const std::string prompt = "--prompt=Once upon a time";
  const ProcessResult quiet = Run({prompt, "--quiet", kTwo});
  const ProcessResult loud = Run({prompt, kTwo});
  EXPECT_EQ(quiet.err, "");
  EXPECT_EQ(loud.out, quiet.out);
  EXPECT_THAT(loud.err, HasSubstr("rank 0 on cpu: predicted "));
  EXPECT_THAT(loud.err, HasSubstr("rank 1 on cpu: predicted "));
  EXPECT_THAT(loud.err, HasSubstr("generated 24 tokens"));
  EXPECT_EQ(loud.err.find('\x1b'), std::string::npos) << "a progress bar without a terminal";
}

// Both on one pipe, as on a terminal.
TEST_F(CliRunText, WhatRanksSayComesInOrder) {
  TPRUN_NEEDS_MPI();
  const std::string script = absl::StrCat("'", TprunPath(), "' run '", SourcePath("models/stories"),
                                          "' --devices=cpu,cpu --backend=mpi --threads=1 ",
                                          "--max_tokens=8 --prompt='Once upon' 2>&1");
  for (int i = 0; i < 5; ++i) {
    TprunProcess job({"-c", script}, {}, "sh");
    EXPECT_THAT(job.Wait().out,
                MatchesRegex("rank 0 on cpu: [^\n]*\nrank 1 on cpu: [^\n]*\nOnce upon[^:]*\n"
                             "loaded in [^\n]*\n"));
  }
}

TEST_F(CliRunText, TellsWhenItIsSlowerThanWanted) {
  max_tokens_ = 40;
  const ProcessResult slow = Run({"--min_speed=1e8", "--ignore_eos"});
  EXPECT_THAT(slow.err, HasSubstr("less than --min_speed=1e+08: `tprun plan`"));
  EXPECT_THAT(slow.err, HasSubstr("tokens/s, less than --min_speed=1e+08 (stopped"));
  EXPECT_EQ(Run({"--min_speed=1e-3", "--ignore_eos"}).err.find("min_speed"), std::string::npos);
  EXPECT_EQ(Run({"--min_speed=1e8", "--quiet"}).err, "");
}

// Plans of what cannot be run say so, and why.
TEST(CliRunPlanned, IsToldByThePlanToo) {
  const std::string config = SourcePath("models/stories/config.json");
  const std::string reason = "it can be planned but not run: tensor \"model.embed_tokens.weight\"";
  EXPECT_THAT(RunTprun({"plan", config, "--weights=nvfp4", "--devices=cpu"}).out,
              HasSubstr(reason));
  EXPECT_EQ(RunTprun({"plan", config, "--devices=cpu"}).out.find("planned but"), std::string::npos);
}

// Moshi: what it hears in, what it says and sounds like out.
TEST(CliRunFrames, AreThoseOfTransformers) {
  const std::string folder = SourcePath("tests/golden/moshi");
  const Json expected = ReadJsonFile(folder + "/expected.json").value_or(Json::object());
  const std::string codes = ::testing::TempDir() + "/cli_run_codes.json";
  // More than the window of 16 that its config tells.
  const int frames = static_cast<int>(expected["heard"].size());
  ASSERT_GT(frames, 20);
  Json heard = Json::array();
  std::string lines;
  for (int i = 0; i < frames; ++i) {
    heard.push_back(expected["heard"][i]);
    lines += absl::StrJoin(expected["generated"][i].get<std::vector<int>>(), " ") + "\n";
  }
  ASSERT_TRUE(WriteFile(codes, heard.dump()).ok());
  const std::vector<std::string> run = {
      "run",           folder,        "--codes=" + codes, "--backend=local",
      "--kv_type=f32", "--threads=1", "--quiet"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), run.begin(), run.end());
    return RunTprun(more);
  };
  for (const std::vector<std::string>& ranks : std::vector<std::vector<std::string>>{
           {"--devices=cpu"}, {kTwo}, {kThree, "--shares=1:3:1"}}) {
    const ProcessResult result = with(ranks);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.out, lines) << ranks.back();
  }
  const Json json = ParseJson(with({"--format=json", "--max_tokens=9"}).out).value_or(Json());
  EXPECT_EQ(json["frames"].size(), 9);
  EXPECT_EQ(json["frames"][8], expected["generated"][8]);
  // With chance: the same on any ranks, by the seed.
  const std::string drawn = with({"--temperature=0.8", "--seed=3"}).out;
  EXPECT_NE(drawn, lines);
  EXPECT_EQ(with({"--temperature=0.8", "--seed=3", kTwo}).out, drawn);
  for (const auto& [option, message] : std::vector<std::pair<std::string, std::string>>{
           {"--codes=", "a list of frames, each a list of 2 whole numbers"},
           {"--codes=" + folder + "/config.json", "each a list of 2 whole numbers"},
           {"--prompt=Hi", "it takes --codes, no --prompt"},
           {"--repetition_penalty=2", "--repetition_penalty is not for"}}) {
    const ProcessResult result = with({option});
    EXPECT_EQ(result.exit_code, 2) << option;
    EXPECT_THAT(result.err, HasSubstr(message));
  }
}

// The text is told where its vocabulary lies beside the weights by any name, here one whose ids
// from 3 on are bytes.
TEST(CliRunFrames, TellTheText) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string golden = SourcePath("tests/golden/moshi");
  const Json expected = ReadJsonFile(golden + "/expected.json").value_or(Json());
  const absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Make("tprun-moshi");
  ASSERT_TRUE(folder.ok()) << folder.status();
  const std::string vocabulary =
      TestDataDirectory() + "/models/tiny/stories260K/hf/tokenizer.model";
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {golden + "/config.json", "config.json"},
           {golden + "/model.safetensors", "model.safetensors"},
           {vocabulary, "tokenizer_spm_32k_3.model"}}) {
    std::filesystem::copy_file(from, folder->File(to));
  }
  std::string said;
  for (const Json& frame : expected["generated"]) {
    const int id = frame[0].get<int>();
    if (id != 0 && id != 3) said += static_cast<char>(id - 3);  // no padding
  }
  ASSERT_GT(said.size(), 10);
  const std::string codes = folder->File("heard.json");
  ASSERT_TRUE(WriteFile(codes, expected["heard"].dump()).ok());
  const ProcessResult result =
      RunTprun({"run", folder->path(), "--codes=" + codes, "--kv_type=f32", "--format=json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(ParseJson(result.out).value_or(Json())["text"], said);
}

// Ids in and out: with a tokenizer beside them, and for checkpoints that have none.
TEST_F(CliRunText, TakesAndGivesIds) {
  const Json json =
      ParseJson(Run({"--prompt=One day", "--format=json", "--quiet"}).out).value_or(Json());
  const std::string prompt = absl::StrJoin(json["prompt_ids"].get<std::vector<int>>(), ",");
  const std::string ids = absl::StrJoin(json["new_ids"].get<std::vector<int>>(), " ");
  EXPECT_EQ(Run({"--prompt_ids=" + prompt, "--no_echo", "--quiet"}).out, " " + ids + "\n");
  const Json again =
      ParseJson(Run({"--prompt_ids=" + prompt, "--format=json", "--quiet"}).out).value_or(Json());
  EXPECT_EQ(again["new_ids"], json["new_ids"]);
  const std::string stop = absl::StrCat("--stop_ids=999999,", json["new_ids"][5].get<int>());
  const Json stopped =
      ParseJson(Run({"--prompt_ids=" + prompt, "--format=json", stop}).out).value_or(Json());
  EXPECT_LE(stopped["new_ids"].size(), 5);
  EXPECT_EQ(stopped["ended"], true);
  EXPECT_EQ(json["ended"], false);
  const std::string folder = SourcePath("tests/golden/llama_gqa");
  const Json expected = ReadJsonFile(folder + "/expected.json").value_or(Json());
  const std::string input = absl::StrJoin(expected["input_ids"].get<std::vector<int>>(), ",");
  const std::string greedy = absl::StrJoin(expected["greedy_ids"].get<std::vector<int>>(), " ");
  const ProcessResult bare =
      RunTprun({"run", folder, "--prompt_ids=" + input, "--max_tokens=32", "--no_echo",
                "--kv_type=f32", "--quiet", "--devices=cpu,cpu", "--backend=local"});
  EXPECT_EQ(bare.out, " " + greedy + "\n") << bare.err;
  const ProcessResult outside = RunTprun({"run", folder, "--prompt_ids=1,9999"});
  EXPECT_EQ(outside.exit_code, 2);
  EXPECT_THAT(outside.err, HasSubstr("--prompt_ids: wanted ids from 0 to "));
  EXPECT_THAT(RunTprun({"run", folder, "--prompt=a"}).err, HasSubstr("or give --prompt_ids=1,2,3"));
}

// Quantised on load, each rank its own slice: what the plain loops of one rank make of it.
TEST_F(CliRunText, QuantisesOnLoadOnAnyRanks) {
  const std::string lena =
      "Once upon a time, there was a quiet girl named Lena. One evening, a star ";
  const std::pair<std::string, std::string> cases[] = {
      {"bf16", lena + "fell from the sky, and Lena saw it.\n"},
      {"fp8", lena + "fell from the sky, and Lena saw it.\n"},
      {"q8_0", lena + "fell from the sky, and Lena saw it.\n"},
      {"q4_K",
       "Once upon a time, a little boy named Ravi lived in a big house. One evening, a star fell "
       "from the sky, and Ravi\n"},
      {"nf4",
       "Once upon a time, there was a small girl named Lena. One night, Lena saw a bright star. "
       "\"I "
       "wish for a big\n"}};
  for (const auto& [type, text] : cases) {
    for (const std::vector<std::string>& ranks : std::vector<std::vector<std::string>>{
             {"--kernels=reference"}, {"--devices=cpu"}, {kThree, "--shares=5:2:1"}}) {
      std::vector<std::string> arguments = {"--prompt=Once upon a time", "--kv_type=f32",
                                            "--weights=" + type, "--backend=local"};
      arguments.insert(arguments.end(), ranks.begin(), ranks.end());
      EXPECT_EQ(Run(arguments).out, text) << type << " " << ranks.back();
    }
  }
}

TEST_F(CliRunText, MorePromptThanAChunkGivesTheSameText) {
  const std::string prompt = "--prompt=One day, Tom and his mom went to the big park to play ball";
  EXPECT_EQ(Run({prompt, "--prefill_chunk=5", "--kv_type=f32"}).out,
            Run({prompt, "--kv_type=f32"}).out);
}

}  // namespace
}  // namespace tprun
