#include <cstdlib>
#include <filesystem>

#include "absl/strings/match.h"
#include "base/dtype.h"
#include "engine/checkpoint/tensor_reader.h"
#include "engine/runtime/read_shard.h"
#include "gmock/gmock.h"
#include "tests/engine/runtime/engine_harness.h"
#include "tests/fnv1a.h"
#include "tests/test_data.h"

// Checkpoints in the layouts of quantisers against what their libraries make of them
// (tests/golden/quantized/make_quantized.py).

namespace tprun {
namespace {

// Logits of up to 2 in float32, summed in another order.
constexpr double kTolerance = 1e-5;

std::string Folder(const std::string& kind) { return SourcePath("tests/golden/quantized/" + kind); }

struct QuantizedCase {
  const char* kind;
  const char* format;
};

class QuantizedCheckpoint : public testing::TestWithParam<QuantizedCase> {
 protected:
  void SetUp() override {
    auto model = OpenTestModel(Folder(GetParam().kind));
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    auto expected = ReadJsonFile(Folder(GetParam().kind) + "/expected.json");
    ASSERT_TRUE(expected.ok()) << expected.status();
    expected_ = *std::move(expected);
  }

  TestModel model_;
  Json expected_;
};

// The bits of `values` once they are rounded to what the library gives.
std::string RoundedTo(const std::string& dtype, const std::vector<float>& values) {
  const WeightFormat& format = dtype == "float16"    ? kF16Format
                               : dtype == "bfloat16" ? kBF16Format
                                                     : kF32Format;
  std::string bytes(format.Bytes(static_cast<int64_t>(values.size())), '\0');
  format.quantize(values.data(), bytes.data(), static_cast<int64_t>(values.size()));
  return bytes;
}

TEST_P(QuantizedCheckpoint, ValuesAreTheLibrarysToTheBit) {
  EXPECT_EQ(expected_["matrices"].size(), 7);
  for (const auto& [name, golden] : expected_["matrices"].items()) {
    const CheckpointTensor* tensor = model_.checkpoint->Find(name);
    ASSERT_NE(tensor, nullptr) << name;
    const bool other = absl::EndsWith(GetParam().kind, "mixed") && absl::StrContains(name, "down");
    EXPECT_EQ(tensor->format->name, other ? "int8_g128_bf16" : GetParam().format);
    std::vector<char> blocks(tensor->bytes);
    const absl::Status status = ReadTensor(*model_.checkpoint, *tensor, blocks.data());
    ASSERT_TRUE(status.ok()) << status;
    std::vector<float> values(tensor->shape[0] * tensor->shape[1]);
    tensor->format->dequantize(blocks.data(), values.data(), static_cast<int64_t>(values.size()));
    const uint64_t hash = std::strtoull(golden["fnv1a"].get<std::string>().c_str(), nullptr, 16);
    EXPECT_EQ(Fnv1a(RoundedTo(golden["dtype"].get<std::string>(), values)), hash) << name;
  }
}

// Every cut that a plan can make gives the bytes that the whole has there.
TEST_P(QuantizedCheckpoint, SlicesAreThoseOfTheWhole) {
  for (const TensorSpec& tensor : model_.spec.tensors) {
    if (tensor.shape.size() < 2) continue;
    const WeightFormat& format = StoredFormat(tensor);
    const int64_t columns = tensor.shape[1];
    std::string whole(tensor.shape[0] * format.Bytes(columns), '\0');
    const Shard all = {{0, tensor.shape[0]}, {0, columns}};
    ASSERT_TRUE(ReadShard(*model_.checkpoint, tensor, all, whole.data()).ok());
    // The last cross from one block of 128 rows into the next where there are two.
    const Range middle = {tensor.shape[0] * 3 / 8, tensor.shape[0] * 7 / 8};
    for (const Range rows : {Range{3, 21}, Range{8, 9}, Range{0, 48}, middle}) {
      for (int64_t c = 0; c < columns; c += format.block_elements) {
        const int64_t width = format.block_elements;
        std::string part(rows.size() * format.Bytes(width), '\0');
        ASSERT_TRUE(
            ReadShard(*model_.checkpoint, tensor, {rows, {c, c + width}}, part.data()).ok());
        for (int64_t r = 0; r < rows.size(); ++r) {
          const size_t at = (rows.begin + r) * format.Bytes(columns) + format.Bytes(c);
          ASSERT_EQ(part.substr(r * format.Bytes(width), format.Bytes(width)),
                    whole.substr(at, format.Bytes(width)))
              << tensor.name;
        }
      }
    }
  }
}

// Equal shares of every block; where the one KV head cannot be cut between blocks, the first rank
// has all of the attention.
TestLayout Shares(int ranks) {
  TestLayout layout = TensorSplit(std::vector<double>(ranks, 1));
  const auto place = layout.place;
  layout.place = [place](const ModelSpec& spec) {
    std::vector<Placement> placements = place(spec);
    for (size_t block = 0; block < placements.size(); ++block) {
      Placement& placement = placements[block];
      const bool replicated = placement.kv_replication > 1;
      if (!replicated || CanReplicateKv(spec, static_cast<int>(block), placement.kv_replication)) {
        continue;
      }
      placement.kv_replication = 1;
      placement.shares.assign(placement.shares.size(), 0);
      placement.shares[0] = UnitsOf(spec, static_cast<int>(block)).count;
    }
    return placements;
  };
  return layout;
}

TEST_P(QuantizedCheckpoint, LogitsAreThoseOfTransformers) {
  EXPECT_EQ(model_.spec.not_runnable, "");
  const auto tokens = expected_["input_ids"].get<std::vector<int32_t>>();
  const auto expected = expected_["last_logits"].get<std::vector<float>>();
  for (const TestLayout& layout : {Shares(1), Shares(2), Shares(3), LayerSplit(2), BlocksApart()}) {
    for (const bool reference : {false, true}) {
      TestOptions options;
      options.reference_kernels = reference;
      const auto logits =
          LogitsAt(model_, layout, options, tokens, {static_cast<int64_t>(tokens.size()) - 1});
      ASSERT_TRUE(logits.ok()) << logits.status();
      EXPECT_LT(LargestDifference((*logits)[0], expected), kTolerance) << layout.name;
    }
  }
}

// A plan of the config alone counts the bytes that the checkpoint's tensors take.
TEST_P(QuantizedCheckpoint, PlansOfTheConfigHaveTheSameBytes) {
  const auto config = Checkpoint::Open(Folder(GetParam().kind) + "/config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto planned = ReadModelSpec(**config);
  ASSERT_TRUE(planned.ok()) << planned.status();
  ASSERT_EQ(planned->tensors.size(), model_.spec.tensors.size());
  for (size_t i = 0; i < planned->tensors.size(); ++i) {
    const TensorSpec& a = planned->tensors[i];
    const TensorSpec& b = model_.spec.tensors[i];
    EXPECT_EQ(StoredFormat(a).Bytes(ElementCount(a)), StoredFormat(b).Bytes(ElementCount(b)))
        << a.name << ": " << a.format->name << " and " << b.format->name;
  }
}

TEST_P(QuantizedCheckpoint, MayBeWidenedOnLoad) {
  const auto wide = ReadModelSpec(*model_.checkpoint, &kF32Format);
  ASSERT_TRUE(wide.ok()) << wide.status();
  TestModel model;
  model.checkpoint = std::move(model_.checkpoint);
  model.spec = *wide;
  const auto tokens = expected_["input_ids"].get<std::vector<int32_t>>();
  const auto logits =
      LogitsAt(model, Shares(2), {}, tokens, {static_cast<int64_t>(tokens.size()) - 1});
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_LT(LargestDifference((*logits)[0], expected_["last_logits"].get<std::vector<float>>()),
            kTolerance);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, QuantizedCheckpoint,
    testing::Values(QuantizedCase{"fp8_tensor", "fp8"}, QuantizedCase{"fp8_channel", "fp8"},
                    QuantizedCase{"fp8_block", "fp8"}, QuantizedCase{"gptq_g32", "int4_g32"},
                    QuantizedCase{"gptq_g128_v2", "int4_g128"},
                    QuantizedCase{"gptq_int8_row", "int8_g128"},
                    QuantizedCase{"gptq_act_order", "f16"}, QuantizedCase{"awq_g64", "int4_g64"},
                    QuantizedCase{"ct_int4_sym", "int4_g128_bf16"},
                    QuantizedCase{"ct_int4_asym", "int4_g32_bf16"},
                    QuantizedCase{"ct_int8_sym", "int8_g128_bf16"},
                    QuantizedCase{"ct_int8_asym", "int8_g128_bf16"},
                    QuantizedCase{"ct_mixed", "int4_g64_bf16"},
                    QuantizedCase{"modelopt_fp8", "fp8"}, QuantizedCase{"bnb_nf4", "nf4"},
                    QuantizedCase{"bnb_nf4_double", "nf4"}, QuantizedCase{"bnb_fp4", "fp4"},
                    QuantizedCase{"bnb_int8", "bnb_int8"}),
    [](const auto& info) { return std::string(info.param.kind); });

// A copy of a golden folder whose config is changed before its model is read.
absl::Status OpenChanged(const std::string& kind, const std::function<void(Json&)>& change) {
  const std::string folder = testing::TempDir() + "/changed_" + kind;
  std::filesystem::remove_all(folder);
  std::filesystem::copy(Folder(kind), folder);
  std::filesystem::permissions(folder + "/config.json", std::filesystem::perms::owner_all);
  Json config = *ReadJsonFile(folder + "/config.json");
  change(config["quantization_config"]);
  EXPECT_TRUE(WriteFile(folder + "/config.json", config.dump()).ok());
  auto checkpoint = Checkpoint::Open(folder);
  absl::Status status = checkpoint.status();
  if (status.ok()) {
    const auto spec = ReadModelSpec(**checkpoint);
    status = spec.ok() ? CheckRunnable(*spec) : spec.status();
  }
  std::filesystem::remove_all(folder);
  return status;
}

TEST(QuantizedCheckpointErrors, WhatDoesNotFitIsNamed) {
  const struct {
    const char* kind;
    const char* key;
    Json value;
    const char* expected;
  } cases[] = {
      {"gptq_g32", "group_size", 64, "scales\": wanted shape [4, 128], found [8, 128]"},
      {"gptq_g32", "bits", 8, "wanted shape"},
      {"gptq_g32", "group_size", "32", "group_size"},
      {"awq_g64", "group_size", 128, "wanted shape"},
      {"fp8_block", "weight_block_size", Json::array({64, 64}), "one per block of 64 x 64"},
      {"fp8_block", "weight_block_size", Json::array({0, 128}), "a block of two whole numbers"},
      // Layouts that others give the same names, and methods that are not read.
      {"gptq_g32", "bits", 3,
       "of method \"gptq\" is unknown in this form; read are GPTQ of 4 or 8"},
      {"gptq_g32", "checkpoint_format", "marlin",
       "packed in a way that is not read; read are GPTQ"},
      {"gptq_g32", "quant_method", "hqq", "of method \"hqq\" is unknown in this form; read are"},
      {"awq_g64", "version", "gemv", "packed in a way that is not read; read are"},
      {"ct_int4_sym", "format", "marlin-24", "packed in a way that is not read; read are"},
      {"fp8_tensor", "quant_method", "quark", "fp8_e4m3, which cannot be read; supported: "},
  };
  for (const auto& test : cases) {
    const absl::Status status =
        OpenChanged(test.kind, [&](Json& quantization) { quantization[test.key] = test.value; });
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.expected;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(test.expected));
  }
}

}  // namespace
}  // namespace tprun
