// `tprun plan` on the header of a published GGUF file, rebuilt without its data: Meta-Llama-3-8B
// in Q4_K_M, whose tensors are 4,912,898,048 bytes.
#include <sys/stat.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/launcher/tprun_process.h"
#include "tests/sparse_gguf.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kTensorBytes = 4'912'898'048;

bool MoreBits(int layer) { return layer < 4 || layer >= 28 || (layer - 4) % 3 == 2; }

std::string Llama3() {
  const std::string path = testing::TempDir() + "/Meta-Llama-3-8B.Q4_K_M.gguf";
  std::vector<SparseTensor> tensors = {{"token_embd.weight", {128256, 4096}, "q4_k"}};
  for (int i = 0; i < 32; ++i) {
    const std::string layer = absl::StrCat("blk.", i, ".");
    const std::string wide = MoreBits(i) ? "q6_k" : "q4_k";
    tensors.push_back({layer + "attn_norm.weight", {4096}, "f32"});
    tensors.push_back({layer + "attn_q.weight", {4096, 4096}, "q4_k"});
    tensors.push_back({layer + "attn_k.weight", {1024, 4096}, "q4_k"});
    tensors.push_back({layer + "attn_v.weight", {1024, 4096}, wide});
    tensors.push_back({layer + "attn_output.weight", {4096, 4096}, "q4_k"});
    tensors.push_back({layer + "ffn_norm.weight", {4096}, "f32"});
    tensors.push_back({layer + "ffn_gate.weight", {14336, 4096}, "q4_k"});
    tensors.push_back({layer + "ffn_up.weight", {14336, 4096}, "q4_k"});
    tensors.push_back({layer + "ffn_down.weight", {4096, 14336}, wide});
  }
  tensors.push_back({"output_norm.weight", {4096}, "f32"});
  tensors.push_back({"output.weight", {128256, 4096}, "q6_k"});
  const Json metadata = {
      {"general.architecture", "llama"},    {"llama.block_count", 32},
      {"llama.context_length", 8192},       {"llama.embedding_length", 4096},
      {"llama.feed_forward_length", 14336}, {"llama.attention.head_count", 32},
      {"llama.attention.head_count_kv", 8}, {"llama.rope.dimension_count", 128},
      {"llama.rope.freq_base", 500000.0},   {"llama.attention.layer_norm_rms_epsilon", 1e-5}};
  const absl::Status written = WriteSparseGguf(path, metadata, tensors);
  EXPECT_TRUE(written.ok()) << written;
  return path;
}

std::vector<std::string> PlanOf(const std::string& model) {
  return {"plan", model, "--topology=rtx3050tilaptop cpu:8c,32GiB,45GB/s", "--context=4096"};
}

TEST(CliGgufPlan, BytesAreThoseOfTheFile) {
  const std::string model = Llama3();
  struct stat file = {};
  ASSERT_EQ(stat(model.c_str(), &file), 0);
  EXPECT_GT(file.st_size, kTensorBytes);
  EXPECT_LT(file.st_blocks * 512, 16 << 20);  // only the header takes space
  std::vector<std::string> arguments = PlanOf(model);
  arguments.push_back("--format=json");
  const ProcessResult result = RunTprun(arguments);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const absl::StatusOr<Json> plan = ParseJson(result.out);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ((*plan)["parameters"], 8'030'261'248);
  int64_t weights = 0;
  for (const Json& rank : (*plan)["ranks"]) weights += rank["weight_bytes"].get<int64_t>();
  EXPECT_EQ(weights, kTensorBytes);
  EXPECT_EQ((*plan)["ranks"].size(), 2u);
}

// Between the 20 layers that the published case had with a reserve of 1 GiB and the 33 that spilt.
TEST(CliGgufPlan, LayersThatDoNotFitAreOnTheCpu) {
  std::vector<std::string> arguments = PlanOf(Llama3());
  arguments.push_back("--format=llama.cpp");
  const ProcessResult flags = RunTprun(arguments);
  ASSERT_EQ(flags.exit_code, 0) << flags.err;
  const size_t at = flags.out.find("-ngl ");
  ASSERT_NE(at, std::string::npos) << flags.out;
  const int layers = std::atoi(flags.out.c_str() + at + 5);
  EXPECT_GE(layers, 20);
  EXPECT_LE(layers, 25);
}

TEST(CliGgufPlan, TheCardAloneIsTooSmallAndTheRemediesHold) {
  std::vector<std::string> arguments = PlanOf(Llama3());
  arguments.push_back("--devices=cuda:0");
  const ProcessResult result = RunTprun(arguments);
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("does not fit: rank 0 needs "));
  int followed = 0;
  for (absl::string_view line : absl::StrSplit(result.out, '\n')) {
    if (!absl::ConsumePrefix(&line, "  would help: ")) continue;
    std::vector<std::string> mended = arguments;
    const std::string options(line.substr(0, line.find_first_of("(:")));
    for (absl::string_view option : absl::StrSplit(options, " and ")) {
      option = absl::StripAsciiWhitespace(option);
      if (option == "no --devices") {
        mended.erase(std::find(mended.begin(), mended.end(), "--devices=cuda:0"));
      } else if (absl::StartsWith(option, "--context=")) {
        mended[3] = std::string(option);
      } else {
        ASSERT_TRUE(absl::StartsWith(option, "--")) << option;
        mended.emplace_back(option);
      }
    }
    const ProcessResult again = RunTprun(mended);
    EXPECT_EQ(again.exit_code, 0) << line << "\n" << again.err;
    ++followed;
  }
  EXPECT_THAT(result.out, HasSubstr("would help: no --devices"));
  EXPECT_GT(followed, 0);
}

}  // namespace
}  // namespace tprun
