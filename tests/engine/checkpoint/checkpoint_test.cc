#include "engine/checkpoint/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>

#include "absl/strings/match.h"
#include "base/dtype.h"
#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/checkpoint/checkpoint_test_files.h"

namespace tprun {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSmallConfig[] = R"({"model_type": "llama", "hidden_size": 2})";

std::string SmallSafetensors() {
  return SafetensorsFile({MakeTensor("a", {2, 3}, kF32Format, {1, 2, 3, 4, 5, 6}),
                          MakeTensor("b", {2}, kBF16Format, {7, 8})});
}

Json SmallMetadata() { return {{"general.architecture", "llama"}, {"llama.block_count", 1}}; }

std::string SmallGguf() {
  return GgufFile(SmallMetadata(),
                  {MakeTensor("token_embd.weight", {4, 2}, kF32Format, {1, 2, 3, 4, 5, 6, 7, 8})});
}

TEST(CheckpointTest, OpensEveryTinyModel) {
  TPRUN_NEEDS_TEST_DATA();
  int opened = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(TestDataDirectory() + "/models/tiny")) {
    const std::string path = entry.path().string();
    const bool is_folder = entry.is_directory() && FileExists(path + "/config.json");
    const bool is_gguf = absl::EndsWith(path, ".gguf") && !absl::StrContains(path, "-00002-") &&
                         !absl::StrContains(path, "-00003-");
    if (!is_folder && !is_gguf) continue;
    SCOPED_TRACE(path);
    const std::unique_ptr<Checkpoint> checkpoint = OpenOrDie(path);
    ASSERT_NE(checkpoint, nullptr);
    ASSERT_NO_FATAL_FAILURE(ExpectConsistent(*checkpoint));
    EXPECT_EQ(checkpoint->kind(), is_gguf ? CheckpointKind::kGguf : CheckpointKind::kSafetensors);
    EXPECT_GE(checkpoint->tensors().size(), 15);
    EXPECT_FALSE(checkpoint->config().empty());
    ++opened;
  }
  EXPECT_GE(opened, 30);
}

// The same tensors under other names: a GGUF has as many as the folder it was made from, but for
// those that it fuses or stacks.
TEST(CheckpointTest, HeadersSayTheSameForSafetensorsAndGguf) {
  TPRUN_NEEDS_TEST_DATA();
  const auto folder = OpenOrDie(TinyModel("random-qwen3-tiny/hf"));
  const auto gguf = OpenOrDie(TinyModel("random-qwen3-tiny/gguf/random-qwen3-tiny-f32.gguf"));
  EXPECT_EQ(folder->tensors().size(), gguf->tensors().size());
  const std::map<std::string, std::string> names = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"},
      {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"},
      {"lm_head.weight", "output.weight"}};
  for (const auto& [hf, ggml] : names) {
    const CheckpointTensor* a = folder->Find(hf);
    const CheckpointTensor* b = gguf->Find(ggml);
    ASSERT_TRUE(a != nullptr && b != nullptr) << hf;
    EXPECT_EQ(a->shape, b->shape);
    EXPECT_EQ(a->type_name, "BF16");
    EXPECT_EQ(b->type_name, "F32");
    EXPECT_EQ(TensorFloats(*folder, *a), TensorFloats(*gguf, *b)) << hf;
  }
}

TEST(CheckpointTest, ShardedBf16IsTheRoundedSingleFile) {
  TPRUN_NEEDS_TEST_DATA();
  const auto single = OpenOrDie(TinyModel("stories260K/hf"));
  const auto sharded = OpenOrDie(TinyModel("stories260K/hf-bf16-sharded"));
  EXPECT_EQ(sharded->files().size(), 2);
  ASSERT_EQ(single->tensors().size(), sharded->tensors().size());
  for (const auto& [name, tensor] : single->tensors()) {
    const CheckpointTensor* other = sharded->Find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(other->shape, tensor.shape);
    std::vector<float> rounded = TensorFloats(*single, tensor);
    for (float& value : rounded) value = ToFloat(ToBFloat16(value));
    EXPECT_EQ(TensorFloats(*sharded, *other), rounded) << name;
  }
}

TEST(CheckpointTest, SplitGgufEqualsTheUnsplitOne) {
  TPRUN_NEEDS_TEST_DATA();
  const auto whole = OpenOrDie(TinyModel("stories260K/gguf/stories260K-f16.gguf"));
  const auto split =
      OpenOrDie(TinyModel("stories260K/gguf/split/stories260K-f16-00001-of-00003.gguf"));
  EXPECT_EQ(split->files().size(), 3);
  ASSERT_EQ(split->tensors().size(), 47);
  for (const auto& [name, tensor] : whole->tensors()) {
    const CheckpointTensor* other = split->Find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(other->shape, tensor.shape);
    EXPECT_EQ(other->format, tensor.format);
    EXPECT_EQ(TensorBytes(*split, *other), TensorBytes(*whole, tensor)) << name;
  }
  EXPECT_EQ(split->config(), whole->config());
  // A folder that holds the set only.
  EXPECT_EQ(OpenOrDie(TinyModel("stories260K/gguf/split"))->tensors().size(), 47);
}

TEST(CheckpointTest, QuantisedGgufIsCloseToF32) {
  TPRUN_NEEDS_TEST_DATA();
  const auto exact = OpenOrDie(TinyModel("stories260K/gguf/stories260K-f32.gguf"));
  // Relative RMS errors that the manifest of the quantised vectors measured, and some air.
  for (const auto& [type, tolerance] :
       std::map<std::string, double>{{"q8_0", 0.01}, {"q4_0", 0.12}, {"bf16", 0.003}}) {
    const auto coarse = OpenOrDie(TinyModel("stories260K/gguf/stories260K-" + type + ".gguf"));
    int quantised = 0;
    for (const auto& [name, tensor] : coarse->tensors()) {
      const std::vector<float> wanted = TensorFloats(*exact, *exact->Find(name));
      const std::vector<float> found = TensorFloats(*coarse, tensor);
      ASSERT_EQ(wanted.size(), found.size()) << name;
      double error = 0;
      double size = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        error += std::pow(wanted[i] - found[i], 2);
        size += std::pow(wanted[i], 2);
      }
      EXPECT_LE(std::sqrt(error / size), tolerance) << type << " " << name;
      quantised += tensor.format == FindWeightFormat(type);
    }
    EXPECT_GT(quantised, 25) << type;
  }
}

TEST(CheckpointTest, BlocksOf256HaveTheirFormatAndSize) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint = OpenOrDie(TinyModel("random-llama-256/gguf/random-llama-256-q4_k.gguf"));
  int found = 0;
  for (const auto& [name, tensor] : checkpoint->tensors()) {
    if (tensor.type_name != "Q4_K") continue;
    ++found;
    EXPECT_EQ(tensor.format, &kQ4_KFormat) << name;
    EXPECT_EQ(tensor.bytes, tensor.shape[0] * tensor.shape[1] / 256 * 144) << name;
  }
  EXPECT_GT(found, 5);
}

TEST(CheckpointTest, AlignmentKeyIsRead) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint = OpenOrDie(TinyModel("stories260K/gguf/stories260K-q4_1.gguf"));
  for (const auto& [name, tensor] : checkpoint->tensors()) EXPECT_EQ(tensor.offset % 64, 0) << name;
  EXPECT_EQ(std::min_element(
                checkpoint->tensors().begin(), checkpoint->tensors().end(),
                [](const auto& a, const auto& b) { return a.second.offset < b.second.offset; })
                ->second.offset,
            14336);
}

TEST(CheckpointTest, SafetensorsFileAndFolderAreTheSame) {
  const TemporaryDirectory folder;
  const std::string config = folder.Write("config.json", kSmallConfig);
  const std::string weights = folder.Write("model.safetensors", SmallSafetensors());
  for (const std::string& path : {folder.path(), weights}) {
    const auto checkpoint = OpenOrDie(path);
    ASSERT_NE(checkpoint, nullptr);
    EXPECT_EQ(checkpoint->kind(), CheckpointKind::kSafetensors);
    EXPECT_EQ(checkpoint->path(), path);
    EXPECT_EQ(checkpoint->directory(), folder.path());
    EXPECT_EQ(checkpoint->config()["hidden_size"], 2);
    EXPECT_TRUE(checkpoint->metadata().empty());
    ASSERT_NE(checkpoint->Find("a"), nullptr);
    EXPECT_THAT(checkpoint->Find("a")->shape, ElementsAre(2, 3));
    EXPECT_THAT(TensorFloats(*checkpoint, *checkpoint->Find("a")), ElementsAre(1, 2, 3, 4, 5, 6));
    EXPECT_THAT(TensorFloats(*checkpoint, *checkpoint->Find("b")), ElementsAre(7, 8));
    EXPECT_EQ(checkpoint->Find("c"), nullptr);
  }
  EXPECT_EQ(OpenOrDie(config)->kind(), CheckpointKind::kConfigOnly);
}

TEST(CheckpointTest, ContentsDecideNotTheName) {
  const TemporaryDirectory folder;
  folder.Write("config.json", kSmallConfig);
  EXPECT_EQ(OpenOrDie(folder.Write("x.bin", SmallGguf()))->kind(), CheckpointKind::kGguf);
  EXPECT_EQ(OpenOrDie(folder.Write("y.gguf", SmallSafetensors()))->kind(),
            CheckpointKind::kSafetensors);
  EXPECT_EQ(OpenOrDie(folder.Write("z.json", "\n {\"dim\": 1}"))->config()["dim"], 1);
}

TEST(CheckpointTest, FolderWithOneGgufOrWithoutWeights) {
  const TemporaryDirectory folder;
  EXPECT_EQ(Checkpoint::Open(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("model-q8.gguf", SmallGguf());
  EXPECT_EQ(OpenOrDie(folder.path())->kind(), CheckpointKind::kGguf);
  folder.Write("model-q4.gguf", SmallGguf());
  const absl::Status two = Checkpoint::Open(folder.path()).status();
  EXPECT_EQ(two.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(two.message()), HasSubstr("model-q4.gguf, model-q8.gguf"));
  folder.Write("config.json", kSmallConfig);
  EXPECT_EQ(OpenOrDie(folder.path())->kind(), CheckpointKind::kConfigOnly);
}

TEST(CheckpointTest, ShardOpensTheWholeModel) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string folder = TinyModel("stories260K/hf-bf16-sharded/");
  const size_t tensors = OpenOrDie(folder)->tensors().size();
  EXPECT_EQ(OpenOrDie(folder + "model-00002-of-00002.safetensors")->tensors().size(), tensors);
  EXPECT_EQ(OpenOrDie(folder + "model.safetensors.index.json")->tensors().size(), tensors);
}

TEST(CheckpointTest, GgufVersion2AndAllValueTypes) {
  const TemporaryDirectory folder;
  Json metadata = SmallMetadata();
  metadata["x.negative"] = -5;
  metadata["x.large"] = int64_t{1} << 40;
  metadata["x.flag"] = true;
  metadata["x.half"] = 0.5;
  metadata["x.words"] = {"one", "", "drei"};
  metadata["x.nested"] = {{1, 2}, Json::array(), {3}};
  const auto checkpoint = OpenOrDie(folder.Write("a.gguf", GgufFile(metadata, {}, 2)));
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(checkpoint->metadata(), metadata);
  EXPECT_TRUE(checkpoint->tensors().empty());
}

TEST(CheckpointTest, NarrowGgufValueTypes) {
  const TemporaryDirectory folder;
  const double pi = 3.141592653589793;
  uint64_t bits;
  std::memcpy(&bits, &pi, sizeof(bits));
  std::string pairs;
  const auto add = [&](const std::string& key, int type, uint64_t value, int bytes) {
    pairs += GgufString(key) + GgufNumber(type, 4) + GgufNumber(value, bytes);
  };
  add("u8", 0, 200, 1);
  add("i8", 1, 200, 1);
  add("u16", 2, 65535, 2);
  add("i16", 3, 65535, 2);
  add("u64", 10, ~uint64_t{0}, 8);
  add("i64", 11, ~uint64_t{0}, 8);
  add("f64", 12, bits, 8);
  pairs += GgufString("general.architecture") + GgufNumber(8, 4) + GgufString("llama");
  const auto checkpoint = OpenOrDie(folder.Write(
      "a.gguf", "GGUF" + GgufNumber(3, 4) + GgufNumber(0, 8) + GgufNumber(8, 8) + pairs));
  ASSERT_NE(checkpoint, nullptr);
  const Json& metadata = checkpoint->metadata();
  EXPECT_EQ(metadata["u8"], 200);
  EXPECT_EQ(metadata["i8"], -56);
  EXPECT_EQ(metadata["u16"], 65535);
  EXPECT_EQ(metadata["i16"], -1);
  EXPECT_EQ(metadata["u64"], ~uint64_t{0});
  EXPECT_EQ(metadata["i64"], -1);
  EXPECT_EQ(metadata["f64"], pi);
}

TEST(CheckpointTest, UnknownTypesAreKept) {
  const TemporaryDirectory folder;
  folder.Write("config.json", kSmallConfig);
  const std::string header =
      R"({"w": {"dtype": "F3_NEW", "shape": [2, 3], "data_offsets": [0, 5]}})";
  const auto safetensors =
      OpenOrDie(folder.Write("model.safetensors", GgufNumber(header.size(), 8) + header + "12345"));
  ASSERT_NE(safetensors, nullptr);
  EXPECT_EQ(safetensors->Find("w")->format, nullptr);
  EXPECT_EQ(safetensors->Find("w")->type_name, "F3_NEW");
  EXPECT_EQ(safetensors->Find("w")->bytes, 5);

  WeightFormat future = kF32Format;
  future.ggml_type = 77;
  const std::string bytes = GgufFile(SmallMetadata(), {{"w", {2, 4}, &future, std::string(32, 'x')},
                                                       MakeTensor("v", {2}, kF32Format, {1, 2})});
  const auto gguf = OpenOrDie(folder.Write("a.gguf", bytes));
  ASSERT_NE(gguf, nullptr);
  EXPECT_EQ(gguf->Find("w")->format, nullptr);
  EXPECT_EQ(gguf->Find("w")->type_name, "ggml type 77");
  EXPECT_EQ(gguf->Find("w")->bytes, 32);
  EXPECT_THAT(TensorFloats(*gguf, *gguf->Find("v")), ElementsAre(1, 2));
}

}  // namespace
}  // namespace tprun
