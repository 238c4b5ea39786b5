#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>

#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/checkpoint/checkpoint_test_files.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

constexpr char kConfig[] = R"({"model_type": "llama"})";

std::string Header(const std::string& json, const std::string& data) {
  return GgufNumber(json.size(), 8) + json + data;
}

std::string Gguf(uint32_t version, uint64_t tensors, uint64_t pairs, const std::string& rest) {
  return "GGUF" + GgufNumber(version, 4) + GgufNumber(tensors, 8) + GgufNumber(pairs, 8) + rest;
}

std::string Pair(const std::string& key, int type, const std::string& value) {
  return GgufString(key) + GgufNumber(type, 4) + value;
}

std::string Llama() { return Pair("general.architecture", 8, GgufString("llama")); }

std::string TensorInfo(const std::string& name, const std::vector<uint64_t>& dimensions, int type,
                       uint64_t offset) {
  std::string info = GgufString(name) + GgufNumber(dimensions.size(), 4);
  for (const uint64_t size : dimensions) info += GgufNumber(size, 8);
  return info + GgufNumber(type, 4) + GgufNumber(offset, 8);
}

struct BadFile {
  std::string name;  // of the test
  std::string contents;
  std::string message;  // that the error has in it
};

std::ostream& operator<<(std::ostream& out, const BadFile& file) { return out << file.name; }

class BadFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, FailsWithOneSentence) {
  const TemporaryDirectory folder;
  folder.Write("config.json", kConfig);
  const bool gguf = GetParam().contents.substr(0, 4) == "GGUF";
  const std::string path = folder.Write(gguf ? "a.gguf" : "model.safetensors", GetParam().contents);
  const absl::Status status = Checkpoint::Open(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_THAT(message, HasSubstr(path));
  EXPECT_THAT(message, HasSubstr("wanted"));
  EXPECT_THAT(message, HasSubstr("found"));
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_LT(message.size(), 500);
}

std::string TensorNamed(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

const BadFile kBadSafetensors[] = {
    {"Empty", "", "length of a safetensors header"},
    {"SevenBytes", "1234567", "length of a safetensors header"},
    {"LengthOfTheUniverse", GgufNumber(uint64_t{1} << 60, 8) + "{}", "found length 115292150"},
    {"LengthPastTheEnd", GgufNumber(100, 8) + "{}", "at most 2 bytes, found length 100"},
    {"NotJson", Header("{\"w\":", ""), "syntax error"},
    {"NotUtf8", Header("{\"\xff\": 1}", ""), "syntax error"},
    {"Array", Header("[]", ""), "wanted a JSON object"},
    {"Nested", Header("{\"w\":" + std::string(100'000, '['), ""), "an object with dtype"},
    {"MetadataOfNumbers", Header(R"({"__metadata__":{"a":1}})", ""), "strings only"},
    {"NumberAsTensor", Header(R"({"w":1})", ""), "found a number"},
    {"NoShape", Header(TensorNamed(R"("dtype":"U8","data_offsets":[0,0])"), ""), "fewer"},
    {"UnknownField", Header(TensorNamed(R"("kind":"U8")"), ""), "found \"kind\""},
    {"FieldTwice", Header(TensorNamed(R"("dtype":"U8","dtype":"U8")"), ""), "twice"},
    {"NegativeShape", Header(TensorNamed(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), "x"),
     "negative"},
    {"FractionalShape",
     Header(TensorNamed(R"("dtype":"U8","shape":[1.5],"data_offsets":[0,1])"), "x"), "fraction"},
    {"HugeShape",
     Header(TensorNamed(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1])"),
            "x"),
     "a shape that fits"},
    {"HugeNumber",
     Header(TensorNamed(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1])"),
            "x"),
     "below 2^63"},
    {"SizeMismatch",
     Header(TensorNamed(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), "1234"),
     "wanted 8 bytes"},
    {"PastTheEnd", Header(TensorNamed(R"("dtype":"U8","shape":[9],"data_offsets":[0,9])"), "1234"),
     "within the 4 bytes of data"},
    {"Backwards", Header(TensorNamed(R"("dtype":"U8","shape":[1],"data_offsets":[2,1])"), "1234"),
     "data_offsets"},
    {"ThreeOffsets",
     Header(TensorNamed(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,1])"), "1234"),
     "at most 2"},
    {"NameTwice",
     Header(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
            R"("w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            "12"),
     "twice"},
    {"Overlap",
     Header(R"({"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
            R"("w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            "123"),
     "do not overlap"},
    {"Gap", Header(TensorNamed(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), "12"),
     "fill the 2 bytes"},
    {"GitLfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"},
};

const BadFile kBadGguf[] = {
    {"MagicOnly", "GGUF", "GGUF version"},
    {"TwentyBytes", Gguf(3, uint64_t{1} << 60, 0, "").substr(0, 20), "metadata pairs"},
    {"TensorsOfTheUniverse", Gguf(3, uint64_t{1} << 60, 0, ""), "tensor descriptions"},
    {"PairsOfTheUniverse", Gguf(3, 0, uint64_t{1} << 60, ""), "metadata pairs"},
    {"Version1", Gguf(1, 0, 0, ""), "found version 1"},
    {"Version9", Gguf(9, 0, 0, ""), "found version 9"},
    {"BigEndian", Gguf(0x03000000, 0, 0, ""), "big-endian"},
    {"LongKey", Gguf(3, 0, 1, GgufNumber(uint64_t{1} << 40, 8) + std::string(64, 'x')),
     "a metadata key of at most 65535 bytes"},
    {"LongString", Gguf(3, 0, 1, GgufString("k") + GgufNumber(8, 4) + GgufNumber(1000, 8) + "x"),
     "a metadata string"},
    {"UnknownValueType", Gguf(3, 0, 1, Pair("k", 13, std::string(8, 'x'))),
     "value type from 0 to 12, found 13"},
    {"BoolOfTwo", Gguf(3, 0, 1, Pair("k", 7, "\x02")), "a bool of 0 or 1"},
    {"LongArray",
     Gguf(3, 0, 1, Pair("k", 9, GgufNumber(0, 4) + GgufNumber(uint64_t{1} << 61, 8) + "xxx")),
     "the array of metadata key"},
    {"DeepArray",
     Gguf(3, 0, 1,
          Pair("k", 9,
               [] {
                 std::string nested;
                 for (int i = 0; i < 10'000; ++i) nested += GgufNumber(9, 4) + GgufNumber(1, 8);
                 return nested;
               }())),
     "nested at most"},
    {"KeyTwice", Gguf(3, 0, 2, Llama() + Llama()), "again"},
    {"AlignmentOfZero", Gguf(3, 0, 2, Llama() + Pair("general.alignment", 4, GgufNumber(0, 4))),
     "multiple of 8"},
    {"AlignmentAsText", Gguf(3, 0, 2, Llama() + Pair("general.alignment", 8, GgufString("32"))),
     "multiple of 8"},
    {"FiveDimensions",
     Gguf(3, 1, 1, Llama() + TensorInfo("w", {1, 1, 1, 1, 1}, 0, 0) + std::string(64, 'x')),
     "at most 4 dimensions"},
    {"HugeDimension",
     Gguf(3, 1, 1, Llama() + TensorInfo("w", {~uint64_t{0}}, 0, 0) + std::string(64, 'x')),
     "below 2^63"},
    {"HugeShape",
     Gguf(3, 1, 1,
          Llama() + TensorInfo("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0) +
              std::string(64, 'x')),
     "a shape that fits"},
    {"HugeShapeOfUnknownType",
     Gguf(3, 1, 1,
          Llama() + TensorInfo("w", {uint64_t{1} << 40, uint64_t{1} << 40}, 99, 0) +
              std::string(64, 'x')),
     "a shape that fits"},
    {"HalfABlock", Gguf(3, 1, 1, Llama() + TensorInfo("w", {48, 2}, 8, 0) + std::string(256, 'x')),
     "whole blocks of 32"},
    {"RetiredType", Gguf(3, 1, 1, Llama() + TensorInfo("w", {32}, 4, 0) + std::string(256, 'x')),
     "retired type 4"},
    {"MisalignedOffset",
     Gguf(3, 1, 1, Llama() + TensorInfo("w", {4}, 0, 4) + std::string(256, 'x')),
     "a multiple of 32, found 4"},
    {"OffsetPastTheEnd",
     Gguf(3, 1, 1, Llama() + TensorInfo("w", {4}, 0, uint64_t{1} << 62) + std::string(64, 'x')),
     "inside the file"},
    {"DataPastTheEnd", Gguf(3, 1, 1, Llama() + TensorInfo("w", {400}, 0, 0) + std::string(64, 'x')),
     "wanted 1600 bytes of tensor"},
    {"Overlap",
     Gguf(3, 2, 1,
          Llama() + TensorInfo("v", {16}, 0, 0) + TensorInfo("w", {4}, 0, 32) +
              std::string(256, 'x')),
     "do not overlap"},
    {"NameTwice",
     Gguf(3, 2, 1,
          Llama() + TensorInfo("w", {4}, 0, 0) + TensorInfo("w", {4}, 0, 32) +
              std::string(256, 'x')),
     "every tensor once"},
    {"NoName", Gguf(3, 1, 1, Llama() + TensorInfo("", {4}, 0, 0) + std::string(64, 'x')),
     "a name for every tensor"},
    {"NoArchitecture", Gguf(3, 0, 0, ""), "general.architecture"},
    {"SplitWithAnotherName", Gguf(3, 0, 2, Llama() + Pair("split.count", 2, GgufNumber(3, 2))),
     "-00001-of-00003.gguf"},
    {"SecondOfASplit",
     Gguf(3, 0, 3,
          Llama() + Pair("split.count", 2, GgufNumber(3, 2)) +
              Pair("split.no", 2, GgufNumber(1, 2))),
     "the first file of the split set"},
};

const auto kName = [](const auto& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Safetensors, BadFileTest, ::testing::ValuesIn(kBadSafetensors), kName);
INSTANTIATE_TEST_SUITE_P(Gguf, BadFileTest, ::testing::ValuesIn(kBadGguf), kName);

std::string OneTensorFile(const std::string& name) {
  return SafetensorsFile({MakeTensor(name, {2}, kF32Format, {1, 2})});
}

absl::Status OpenIndex(const std::string& index, const std::vector<std::string>& shards) {
  const TemporaryDirectory folder;
  folder.Write("config.json", kConfig);
  folder.Write("model.safetensors.index.json", index);
  for (size_t i = 0; i < shards.size(); ++i) {
    folder.Write("s" + std::to_string(i + 1), shards[i]);
  }
  return Checkpoint::Open(folder.path()).status();
}

TEST(BadIndexTest, NamesWhatIsWrong) {
  const std::string both = R"({"weight_map": {"a": "s1", "b": "s2"}})";
  EXPECT_TRUE(OpenIndex(both, {OneTensorFile("a"), OneTensorFile("b")}).ok());
  const absl::Status missing = OpenIndex(both, {OneTensorFile("a")});
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("s2: wanted this shard"));
  EXPECT_TRUE(OpenIndex(both, {}).ok());  // not downloaded yet: only its config
  const std::vector<std::pair<absl::Status, std::string>> cases = {
      {OpenIndex(both, {OneTensorFile("a"), OneTensorFile("c")}), "wanted tensor \"b\""},
      {OpenIndex(both, {OneTensorFile("a"), OneTensorFile("a")}), "every tensor once"},
      {OpenIndex("{", {}), "index.json"},
      {OpenIndex("[]", {}), "weight_map"},
      {OpenIndex(R"({"weight_map": []})", {}), "found an array"},
      {OpenIndex(R"({"weight_map": {}})", {}), "weight_map"},
      {OpenIndex(R"({"weight_map": {"a": 1}})", {}), "file beside it"},
      {OpenIndex(R"({"weight_map": {"a": "../s1"}})", {}), "file beside it"},
      {OpenIndex(R"({"weight_map": {"a": "/etc/passwd"}})", {}), "file beside it"},
  };
  for (const auto& [status, message] : cases) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(BadConfigTest, MissingOrNotJson) {
  const TemporaryDirectory folder;
  const std::string weights = folder.Write("model.safetensors", OneTensorFile("a"));
  const absl::Status missing = Checkpoint::Open(weights).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("config.json"));
  for (const std::string bad : {"", "{", "[1]", "nonsense", "{\"a\": \"\xff\"}"}) {
    folder.Write("config.json", bad);
    for (const std::string& path : {folder.path(), folder.path() + "/config.json"}) {
      const absl::Status status = Checkpoint::Open(path).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
      EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
    }
  }
  EXPECT_EQ(Checkpoint::Open(folder.path() + "/none").status().code(), absl::StatusCode::kNotFound);
}

TEST(BadSplitTest, MissingOrForeignFile) {
  TPRUN_NEEDS_TEST_DATA();
  const std::string name = "stories260K-f16-0000";
  std::vector<std::string> parts;
  for (const char* digit : {"1", "2", "3"}) {
    parts.push_back(Slurp(TinyModel("stories260K/gguf/split/" + name + digit + "-of-00003.gguf")));
  }
  const TemporaryDirectory folder;
  const std::string first = folder.Write(name + "1-of-00003.gguf", parts[0]);
  folder.Write(name + "2-of-00003.gguf", parts[1]);
  const absl::Status missing = Checkpoint::Open(first).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("file 3 of 3"));
  folder.Write(name + "3-of-00003.gguf", parts[1]);
  EXPECT_THAT(std::string(Checkpoint::Open(first).status().message()),
              HasSubstr("wanted split.no 2 and split.count 3, found 1 and 3"));
  folder.Write(name + "3-of-00003.gguf", parts[2]);
  EXPECT_TRUE(Checkpoint::Open(first).ok());
  std::string fewer = parts[0];
  const size_t at = fewer.find("split.tensors.count");
  ASSERT_NE(at, std::string::npos);
  fewer[at + strlen("split.tensors.count") + 4] = 40;
  folder.Write(name + "1-of-00003.gguf", fewer);
  EXPECT_THAT(std::string(Checkpoint::Open(first).status().message()), HasSubstr("47 tensors"));
}

// Opens a file again and again with other bytes in it. What opens must be consistent; what does
// not must say so with the two codes the header promises.
class Mutator {
 public:
  explicit Mutator(const std::string& bytes) : bytes_(bytes) {
    folder_.Write("config.json", kConfig);
  }

  void Try(const std::string& bytes) {
    const std::string path = folder_.path() + "/model";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    const absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(path);
    ++tried_;
    if (checkpoint.ok()) {
      ++opened_;
      ASSERT_NO_FATAL_FAILURE(ExpectConsistent(**checkpoint));
      return;
    }
    ASSERT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument)
        << checkpoint.status();
    ASSERT_NE(checkpoint.status().message().find(path), absl::string_view::npos)
        << checkpoint.status();
  }

  void TruncateEverywhere(size_t step) {
    for (size_t size = 0; size < bytes_.size(); size += step) {
      ASSERT_NO_FATAL_FAILURE(Try(bytes_.substr(0, size))) << "cut at " << size;
    }
    EXPECT_EQ(opened_, 0);
  }

  void ChangeBytes(size_t header_bytes, size_t step) {
    constexpr uint8_t kChanges[] = {0x01, 0x80, 0xff, 0x20};
    for (size_t at = 0; at < header_bytes; at += step) {
      std::string changed = bytes_;
      changed[at] = static_cast<char>(changed[at] ^ kChanges[at % 4]);
      ASSERT_NO_FATAL_FAILURE(Try(changed)) << "byte " << at;
    }
  }

  // Overwrites eight bytes at a time with numbers that lengths and counts should not be.
  void PlantNumbers(size_t header_bytes, size_t step) {
    constexpr uint64_t kNumbers[] = {0, uint64_t{1} << 31, uint64_t{1} << 60, uint64_t{1} << 63,
                                     ~uint64_t{0}};
    for (size_t at = 0; at + 8 <= header_bytes; at += step) {
      std::string changed = bytes_;
      changed.replace(at, 8, GgufNumber(kNumbers[at % 5], 8));
      ASSERT_NO_FATAL_FAILURE(Try(changed)) << "at " << at;
    }
  }

  int tried() const { return tried_; }

 private:
  std::string bytes_;
  TemporaryDirectory folder_;
  int tried_ = 0;
  int opened_ = 0;
};

std::string SmallGguf() {
  return GgufFile({{"general.architecture", "llama"},
                   {"general.name", "small"},
                   {"llama.block_count", 1},
                   {"llama.rope.freq_base", 10000.0},
                   {"general.alignment", 32},
                   {"tokenizer.ggml.tokens", {"a", "b"}},
                   {"nested", {{1, 2}, {3}}},
                   {"flag", true}},
                  {MakeTensor("token_embd.weight", {2, 32}, kQ8_0Format, std::vector<float>(64)),
                   MakeTensor("output_norm.weight", {32}, kF32Format, std::vector<float>(32))});
}

std::string SmallSafetensors() {
  return SafetensorsFile({MakeTensor("a", {2, 3}, kF32Format, std::vector<float>(6)),
                          MakeTensor("b", {4}, kBF16Format, std::vector<float>(4))});
}

TEST(MutationTest, SmallFiles) {
  for (const std::string& bytes : {SmallGguf(), SmallSafetensors()}) {
    Mutator mutator(bytes);
    ASSERT_NO_FATAL_FAILURE(mutator.TruncateEverywhere(2));
    ASSERT_NO_FATAL_FAILURE(mutator.ChangeBytes(bytes.size(), 1));
    ASSERT_NO_FATAL_FAILURE(mutator.PlantNumbers(bytes.size(), 1));
    EXPECT_GT(mutator.tried(), 300);
  }
}

TEST(MutationTest, RealFiles) {
  TPRUN_NEEDS_TEST_DATA();
  for (const std::string name :
       {"stories260K/gguf/stories260K-q4_0.gguf", "random-gemma-tiny/hf/model.safetensors",
        "moshi-upstream-test/test_lm_model.safetensors"}) {
    SCOPED_TRACE(name);
    const std::string bytes = Slurp(TinyModel(name));
    Mutator mutator(bytes);
    ASSERT_NO_FATAL_FAILURE(mutator.TruncateEverywhere(bytes.size() / 41));
    const size_t header = std::min<size_t>(bytes.size(), 15'000);
    ASSERT_NO_FATAL_FAILURE(mutator.ChangeBytes(header, 151));
    ASSERT_NO_FATAL_FAILURE(mutator.PlantNumbers(header, 151));
  }
}

// A header must not cost more than its file: none of these may take memory or time for what they
// only claim.
TEST(BadFileTimeTest, ClaimsCostNothing) {
  const auto start = std::chrono::steady_clock::now();
  const TemporaryDirectory folder;
  for (int shift = 20; shift < 64; ++shift) {
    const uint64_t claim = uint64_t{1} << shift;
    for (const std::string& bytes :
         {Gguf(3, claim, 0, ""), Gguf(3, 0, claim, ""),
          Gguf(3, 0, 1, Pair("k", 9, GgufNumber(9, 4) + GgufNumber(claim, 8))),
          GgufNumber(claim, 8) + "{}"}) {
      EXPECT_FALSE(Checkpoint::Open(folder.Write("x", bytes)).ok());
    }
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// Found by fuzzing: 12 bytes of header and a hole in the file made half a gigabyte of empty
// strings.
TEST(BadGguf, AHoleMakesNoMillionsOfStrings) {
  const TemporaryDirectory directory;
  constexpr uint64_t kStrings = (uint64_t{1} << 22) + 1;
  const std::string path = directory.Write(
      "hole.gguf", Gguf(3, 0, 1, Pair("k", 9, GgufNumber(8, 4) + GgufNumber(kStrings, 8))));
  std::error_code error;
  std::filesystem::resize_file(path, 64 << 20, error);
  ASSERT_FALSE(error) << error.message();
  const auto checkpoint = Checkpoint::Open(path);
  EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(checkpoint.status().message()),
              testing::HasSubstr("at most 4194304 array elements"));
}

}  // namespace
}  // namespace tprun
