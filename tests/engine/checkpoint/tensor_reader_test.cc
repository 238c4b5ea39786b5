#include "engine/checkpoint/tensor_reader.h"

#include <numeric>

#include "gmock/gmock.h"
#include "tests/checkpoint_writer.h"
#include "tests/engine/checkpoint/checkpoint_test_files.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

// One matrix of `format`, of any bytes, and the checkpoint that holds it.
class OneTensor {
 public:
  OneTensor(const WeightFormat& format, std::vector<int64_t> shape) : format_(format) {
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    bytes_.resize(format.Bytes(elements));
    uint32_t state = 1;
    for (char& byte : bytes_)
      byte = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    checkpoint_ = OpenOrDie(
        folder_.Write("a.gguf", GgufFile({{"general.architecture", "llama"}},
                                         {MakeTensor("before", {3}, kF32Format, {1, 2, 3}),
                                          {"w", shape, &format, bytes_}})));
    tensor_ = checkpoint_->Find("w");
    columns_ = shape.size() < 2 ? 1 : elements / shape[0];
  }

  // What the slice is, cut out of the bytes that were written.
  std::string Wanted(int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) const {
    std::string wanted;
    const int64_t stride = format_.Bytes(columns_);
    for (int64_t row = row_begin; row < row_end; ++row) {
      wanted += bytes_.substr(row * stride + format_.Bytes(begin), format_.Bytes(end - begin));
    }
    return wanted;
  }

  std::string Read(int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) const {
    // The byte behind the slice must stay as it is.
    std::string out(format_.Bytes((row_end - row_begin) * (end - begin)) + 1, '#');
    const absl::Status status =
        ReadTensorSlice(*checkpoint_, *tensor_, row_begin, row_end, begin, end, out.data());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(out.back(), '#');
    out.pop_back();
    return out;
  }

  std::string Error(int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) const {
    std::string out(bytes_.size(), '\0');
    const absl::Status status =
        ReadTensorSlice(*checkpoint_, *tensor_, row_begin, row_end, begin, end, out.data());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }

  const std::string& bytes() const { return bytes_; }

 private:
  const WeightFormat& format_;
  TemporaryDirectory folder_;
  std::string bytes_;
  std::unique_ptr<Checkpoint> checkpoint_;
  const CheckpointTensor* tensor_ = nullptr;
  int64_t columns_ = 0;
};

class TensorReaderTest : public ::testing::TestWithParam<const WeightFormat*> {};

TEST_P(TensorReaderTest, EverySliceOfAMatrix) {
  const WeightFormat& format = *GetParam();
  const int64_t block = format.block_elements;
  const OneTensor tensor(format, {5, 4 * block});
  for (int64_t r0 = 0; r0 <= 5; ++r0) {
    for (int64_t r1 = r0; r1 <= 5; ++r1) {
      for (int64_t c0 = 0; c0 <= 4; ++c0) {
        for (int64_t c1 = c0; c1 <= 4; ++c1) {
          EXPECT_EQ(tensor.Read(r0, r1, c0 * block, c1 * block),
                    tensor.Wanted(r0, r1, c0 * block, c1 * block))
              << r0 << " " << r1 << " " << c0 << " " << c1;
        }
      }
    }
  }
}

// Rows longer than what is read in one piece, and more rows than fit into it.
TEST_P(TensorReaderTest, LongRowsAndManyRows) {
  const WeightFormat& format = *GetParam();
  const int64_t block = format.block_elements;
  const OneTensor wide(format, {3, 1 << 17});
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1 << 16}, {1 << 10, 1 << 11}, {block, 1 << 17}, {0, 1 << 17}}) {
    EXPECT_EQ(wide.Read(1, 3, begin, end), wide.Wanted(1, 3, begin, end)) << begin;
  }
  const OneTensor tall(format, {100'000, 2 * block});
  EXPECT_EQ(tall.Read(3, 99'999, block, 2 * block), tall.Wanted(3, 99'999, block, 2 * block));
}

TEST_P(TensorReaderTest, VectorsAreRowsOfOneColumn) {
  const WeightFormat& format = *GetParam();
  const int64_t block = format.block_elements;
  const OneTensor tensor(format, {6 * block});
  EXPECT_EQ(tensor.Read(0, 6 * block, 0, 1), tensor.bytes());
  EXPECT_EQ(tensor.Read(2 * block, 5 * block, 0, 1),
            tensor.bytes().substr(format.Bytes(2 * block), format.Bytes(3 * block)));
  EXPECT_EQ(tensor.Read(block, block, 0, 1), "");
  EXPECT_EQ(tensor.Read(block, 2 * block, 0, 0), "");
}

TEST_P(TensorReaderTest, HigherDimensionsAreColumns) {
  const WeightFormat& format = *GetParam();
  const int64_t block = format.block_elements;
  const OneTensor tensor(format, {4, 3, 2 * block});
  EXPECT_EQ(tensor.Read(1, 3, 2 * block, 4 * block), tensor.Wanted(1, 3, 2 * block, 4 * block));
}

TEST_P(TensorReaderTest, RangesOutsideTheTensor) {
  const int64_t block = GetParam()->block_elements;
  const OneTensor tensor(*GetParam(), {5, 4 * block});
  EXPECT_THAT(tensor.Error(0, 6, 0, block), HasSubstr("rows within [0, 5)"));
  EXPECT_THAT(tensor.Error(-1, 5, 0, block), HasSubstr("found [-1, 5)"));
  EXPECT_THAT(tensor.Error(3, 2, 0, block), HasSubstr("found [3, 2)"));
  EXPECT_THAT(tensor.Error(0, 5, 0, 5 * block), HasSubstr("columns within"));
  EXPECT_THAT(tensor.Error(0, INT64_MAX, 0, block), HasSubstr("rows"));
  EXPECT_THAT(tensor.Error(0, 5, INT64_MIN, 0), HasSubstr("columns"));
  if (block > 1) {
    EXPECT_THAT(tensor.Error(0, 5, 1, block), HasSubstr("multiples of 32"));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, TensorReaderTest,
                         ::testing::Values(&kF32Format, &kBF16Format, &kQ8_0Format, &kQ4_0Format),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(TensorReaderErrorTest, TypeThatCannotBeRead) {
  TPRUN_NEEDS_TEST_DATA();
  const auto checkpoint = OpenOrDie(TinyModel("random-llama-256/gguf/random-llama-256-q6_k.gguf"));
  CheckpointTensor tensor = *checkpoint->Find("blk.0.attn_q.weight");
  tensor.format = nullptr;  // as a header's type without a decoder gives it
  tensor.type_name = "IQ1_S";
  char byte;
  const absl::Status status = ReadTensorSlice(*checkpoint, tensor, 0, 0, 0, 0, &byte);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("IQ1_S"));
}

}  // namespace
}  // namespace tprun
