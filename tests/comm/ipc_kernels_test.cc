// Runs the kernels of the ipc back end on the host: every rank a thread with a slab of its own, as
// ranks on one GPU are. What is tested is the protocol: that slots, flags and rings are used in an
// order in which nothing is read before it is written or written before it was read (under the
// thread sanitizer too), for any number of ranks and any size.
#include "comm/ipc_kernels.cuh"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/comm/typed_values.h"

namespace tprun {

thread_local EmulatedIndex blockIdx;

namespace {

// Slabs for `ranks` ranks, and what their kernels know.
class Group {
 public:
  Group(int ranks, int channels, int64_t chunk_bytes, int64_t ring_bytes,
        uint64_t timeout_ns = 60'000'000'000) {
    const IpcLayout layout = LayOutIpc(ranks, channels, chunk_bytes, ring_bytes);
    for (int r = 0; r < ranks; ++r) {
      slabs_.push_back(std::make_unique<Line16[]>(layout.total / 16));
      statuses_.push_back(std::make_unique<IpcStatus>());
    }
    for (int r = 0; r < ranks; ++r) {
      IpcView view = {layout, r, {}, statuses_[r].get(), timeout_ns};
      for (int p = 0; p < ranks; ++p) view.slabs[p] = reinterpret_cast<char*>(slabs_[p].get());
      views_.push_back(view);
    }
  }

  int ranks() const { return static_cast<int>(views_.size()); }
  const IpcView& view(int rank) const { return views_[rank]; }
  IpcStatus& status(int rank) { return *statuses_[rank]; }

  void Run(const std::function<void(const IpcView&)>& body) {
    std::vector<std::thread> threads;
    for (const IpcView& view : views_) threads.emplace_back([&] { body(view); });
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::vector<std::unique_ptr<Line16[]>> slabs_;
  std::vector<std::unique_ptr<IpcStatus>> statuses_;
  std::vector<IpcView> views_;
};

IpcCut CutOf(const IpcView& view, int64_t bytes) {
  return CutForIpc(bytes, view.layout.channels, view.layout.chunk_bytes);
}

template <typename T>
void AllReduce(const IpcView& view, const void* send, void* receive, int64_t bytes) {
  const IpcCut cut = CutOf(view, bytes);
  for (int c = 0; c < cut.channels; ++c) {  // the blocks of the grid
    blockIdx.x = c;
    IpcAllReduceKernel<T>(view, static_cast<const char*>(send), static_cast<char*>(receive), bytes,
                          cut);
  }
}

void AllReduce(const IpcView& view, TypedValues& values, int64_t count, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return AllReduce<float>(view, values.data(), values.data(), count * 4);
    case DType::kF16:
      return AllReduce<HalfBits>(view, values.data(), values.data(), count * 2);
    case DType::kBF16:
      return AllReduce<Bf16Bits>(view, values.data(), values.data(), count * 2);
  }
}

int Given(int rank, int64_t i) { return static_cast<int>((i * 7 + rank * 3) % 11) - 5; }

class IpcKernelsTest : public testing::TestWithParam<int> {};

TEST_P(IpcKernelsTest, AllReduceSumsInARow) {
  Group group(GetParam(), /*channels=*/3, /*chunk_bytes=*/1024, /*ring_bytes=*/256);
  group.Run([&](const IpcView& view) {
    for (int64_t count : {1, 7, 256, 1000, 5, 3001, 20000, 12}) {
      for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        TypedValues values(count, dtype);
        for (int64_t i = 0; i < count; ++i) values.Set(i, Given(view.rank, i));
        AllReduce(view, values, count, dtype);
        for (int64_t i = 0; i < count; ++i) {
          int wanted = 0;
          for (int r = 0; r < group.ranks(); ++r) wanted += Given(r, i);
          ASSERT_TRUE(values.Check(i, wanted).ok()) << values.Check(i, wanted) << " of " << count;
        }
      }
    }
  });
}

TEST_P(IpcKernelsTest, EveryRankGetsTheSameBits) {
  constexpr int64_t kCount = 999;
  Group group(GetParam(), 2, 1024, 256);
  std::vector<std::vector<float>> sums(group.ranks());
  group.Run([&](const IpcView& view) {
    std::vector<float> values(kCount);
    uint32_t random = 12345 + view.rank;
    for (float& value : values) {
      random = random * 1664525 + 1013904223;
      value = static_cast<float>(random) * 1e-9f;
    }
    AllReduce<float>(view, values.data(), values.data(), kCount * 4);
    sums[view.rank] = values;
  });
  for (const std::vector<float>& other : sums) EXPECT_EQ(other, sums[0]);
}

// Every thread of a block runs `body`.
void RunBlock(int threads, unsigned block, const std::function<void()>& body) {
  EmulatedBlock shared(threads);
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {
    all.emplace_back([&, t] {
      emulated_block = &shared;
      blockIdx.x = block;
      threadIdx.x = t;
      blockDim.x = threads;
      body();
    });
  }
  for (std::thread& thread : all) thread.join();
}

// Sum, residual and norm at once: the residual has the bits of the ops apart, the norm is that of
// float64. Rows of one piece and several, more tokens than channels, one thread and several.
TEST_P(IpcKernelsTest, AllReduceAddNormIsTheOpsApart) {
  constexpr int kChannels = 3;
  Group group(GetParam(), kChannels, /*chunk_bytes=*/1024, /*ring_bytes=*/256);
  group.Run([&](const IpcView& view) {
    for (const auto [tokens, dim, threads] : std::vector<std::array<int, 3>>{
             {1, 256, 1}, {1, 7, 4}, {2, 64, 8}, {5, 300, 3}, {4, 1030, 8}}) {
      const int64_t count = int64_t{tokens} * dim;
      std::vector<float> parts(count), residual(count), weight(dim), out(count);
      for (int64_t i = 0; i < count; ++i) {
        parts[i] = static_cast<float>(Given(view.rank, i)) * 0.37f;
        residual[i] = static_cast<float>(Given(99, i)) * 1.7f;
      }
      for (int i = 0; i < dim; ++i) weight[i] = 0.5f + static_cast<float>(i % 5);
      std::vector<float> sum = parts, wanted = residual;
      AllReduce<float>(view, sum.data(), sum.data(), count * 4);
      for (int64_t i = 0; i < count; ++i) wanted[i] += sum[i];
      const bool unit_offset = tokens % 2 == 0;
      const SumAndNorm what = {parts.data(), residual.data(), weight.data(), out.data(), tokens,
                               dim,          0.01f,           unit_offset};
      const int channels = std::min(tokens, kChannels);
      for (int c = 0; c < channels; ++c) {
        RunBlock(threads, c, [&] { IpcAllReduceNormKernel(view, what, channels); });
      }
      ASSERT_EQ(residual, wanted) << tokens << " tokens of " << dim;
      for (int64_t t = 0; t < tokens; ++t) {
        double squares = 0;
        for (int i = 0; i < dim; ++i) squares += std::pow(double{wanted[t * dim + i]}, 2);
        const double scale = 1 / std::sqrt(squares / dim + 0.01);
        for (int i = 0; i < dim; ++i) {
          const double exact = wanted[t * dim + i] * scale * (weight[i] + (unit_offset ? 1 : 0));
          ASSERT_NEAR(out[t * dim + i], exact, 1e-5 * (1 + std::fabs(exact)));
        }
      }
    }
  });
}

// Parts of different lengths, some empty, in memory that is not aligned.
TEST_P(IpcKernelsTest, AllGatherOfUnevenParts) {
  Group group(GetParam(), 3, 1024, 256);
  group.Run([&](const IpcView& view) {
    for (int shape = 0; shape < 4; ++shape) {
      IpcParts parts = {};
      int64_t total = 0;
      for (int r = 0; r < group.ranks(); ++r) {
        parts.offsets[r] = total;
        parts.sizes[r] = shape == 0 ? r * 5 : shape == 1 ? 7000 * (r % 2) : shape == 2 ? 1 : 4096;
        total += parts.sizes[r];
      }
      std::vector<char> gathered(total + 1, '?');
      std::vector<char> own(parts.sizes[view.rank] + 1);
      for (size_t i = 0; i < own.size(); ++i) own[i] = static_cast<char>(Given(view.rank, i));
      const IpcCut cut = CutOf(view, *std::max_element(parts.sizes, parts.sizes + group.ranks()));
      for (int c = 0; c < cut.channels; ++c) {
        blockIdx.x = c;
        IpcAllGatherKernel(view, own.data(), gathered.data() + 1, parts, cut);
      }
      for (int r = 0; r < group.ranks(); ++r) {
        for (int64_t i = 0; i < parts.sizes[r]; ++i) {
          ASSERT_EQ(gathered[1 + parts.offsets[r] + i], static_cast<char>(Given(r, i)));
        }
      }
    }
  });
}

// All send before any receives, as far as the ring holds it; and one message that it does not.
TEST_P(IpcKernelsTest, MessagesPassTheRing) {
  Group group(GetParam(), 1, 1024, /*ring_bytes=*/4096);
  group.Run([&](const IpcView& view) {
    const int next = (view.rank + 1) % group.ranks();
    const int last = (view.rank + group.ranks() - 1) % group.ranks();
    for (int round = 0; round < 50; ++round) {
      std::vector<char> sent(1 + round * 37 % 1000, static_cast<char>(round + view.rank));
      std::vector<char> received(sent.size());
      for (int part = 0; part < 3; ++part) IpcSendKernel(view, sent.data(), sent.size(), next);
      for (int part = 0; part < 3; ++part) {
        IpcReceiveKernel(view, received.data(), received.size(), last);
        ASSERT_EQ(std::count(received.begin(), received.end(), static_cast<char>(round + last)),
                  static_cast<int64_t>(received.size()));
      }
    }
    if (group.ranks() < 2) return;
    std::vector<char> large(100'003);
    if (view.rank == 0) {
      for (size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31);
      IpcSendKernel(view, large.data(), large.size(), 1);
    } else if (view.rank == 1) {
      IpcReceiveKernel(view, large.data(), large.size(), 0);
      for (size_t i = 0; i < large.size(); ++i) ASSERT_EQ(large[i], static_cast<char>(i * 31));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, IpcKernelsTest, testing::Values(1, 2, 3, 5, 8));

TEST(IpcKernelsTest, AWaitInVainEndsAndIsTold) {
  Group group(2, 4, 1024, 256, /*timeout_ns=*/50'000'000);
  std::vector<float> values(1000, 1);
  const uint64_t begin = Nanoseconds();
  AllReduce<float>(group.view(0), values.data(), values.data(), 4000);
  AllReduce<float>(group.view(0), values.data(), values.data(), 4000);
  EXPECT_EQ(group.status(0).failed, 1u + 1u);
  EXPECT_GE(Nanoseconds() - begin, 50'000'000u);
  EXPECT_LT(Nanoseconds() - begin, 1'000'000'000u) << "later kernels do not wait again";
}

TEST(IpcKernelsTest, TheHostEndsAWait) {
  Group group(3, 1, 1024, 256);
  std::thread host([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    StoreFresh(&group.status(0).abort, 1);
  });
  float value = 1;
  AllReduce<float>(group.view(0), &value, &value, 4);
  char byte;
  IpcReceiveKernel(group.view(0), &byte, 1, 2);
  host.join();
  EXPECT_NE(group.status(0).failed, 0u);
}

TEST(IpcKernelsTest, ThePatternTellsEveryWrongWord) {
  std::vector<uint32_t> memory(5000);
  IpcWritePatternKernel(memory.data(), memory.size(), 1, 2);
  const auto wrong = [&](int from, int to) {
    unsigned count = 0;
    IpcCheckPatternKernel(memory.data(), memory.size(), from, to, &count);
    return count;
  };
  EXPECT_EQ(wrong(1, 2), 0u);
  EXPECT_EQ(wrong(2, 1), 5000u);
  memory[17] ^= 1;
  memory[4999] = 0;
  EXPECT_EQ(wrong(1, 2), 2u);
  std::rotate(memory.begin(), memory.begin() + 1, memory.end());
  EXPECT_EQ(wrong(1, 2), 5000u);
}

TEST(IpcProtocolTest, LayoutDoesNotOverlap) {
  const IpcLayout layout = LayOutIpc(5, 3, 1024, 256);
  std::vector<std::pair<int64_t, int64_t>> parts = {{layout.dead, 4},      {layout.epochs, 3 * 8},
                                                    {layout.sent, 5 * 8},  {layout.received, 5 * 8},
                                                    {layout.heads, 5 * 8}, {layout.tails, 5 * 8}};
  for (int r = 0; r < 5; ++r) {
    parts.push_back({layout.RingOffset(r), 256});
    for (int c = 0; c < 3; ++c) {
      parts.push_back({layout.FlagOffset(c, r), 8});
      for (int epoch : {6, 7}) parts.push_back({layout.SlotOffset(c, epoch, r), 1024});
    }
  }
  std::sort(parts.begin(), parts.end());
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    EXPECT_LE(parts[i].first + parts[i].second, parts[i + 1].first) << i;
  }
  EXPECT_LE(parts.back().first + parts.back().second, layout.total);
  EXPECT_EQ(layout.SlotOffset(1, 4, 2), layout.SlotOffset(1, 8, 2));
}

TEST(IpcProtocolTest, CutsCoverEveryByteOnce) {
  for (int64_t bytes : {0, 1, 16, 1023, 1024, 1025, 8192, 16384, 262144, 262145, 10'000'000}) {
    const IpcCut cut = CutForIpc(bytes, 16, 16384);
    EXPECT_GE(cut.channels, 1);
    EXPECT_LE(cut.channels, 16);
    EXPECT_LE(cut.piece, 16384);
    EXPECT_EQ(cut.piece % 16, 0);
    EXPECT_GE(cut.rounds * cut.channels * cut.piece, bytes);
    EXPECT_LT((cut.rounds - 1) * cut.channels * cut.piece, std::max<int64_t>(bytes, 1));
  }
  EXPECT_EQ(CutForIpc(8192, 16, 16384).channels, 8) << "8 KiB go through 8 channels at once";
  EXPECT_EQ(CutForIpc(16384, 16, 16384).channels, 16);
}

// A sender that hears when it must that all has been taken always finds room.
TEST(IpcProtocolTest, CountedPartsFindRoom) {
  constexpr int64_t kRing = 4096;
  IpcRingCount sender(kRing), receiver(kRing);
  EXPECT_EQ(sender.most_part(), kRing / 2);
  std::minstd_rand random(5);
  int64_t in_ring = 0;
  int heard = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t bytes = 1 + static_cast<int64_t>(random() % sender.most_part());
    const bool full = sender.Add(bytes);
    EXPECT_EQ(full, receiver.Add(bytes));
    if (full) {
      EXPECT_GT(in_ring + (bytes + 15) / 16 * 16, kRing) << "told without need";
      in_ring = 0;
      ++heard;
    }
    in_ring += (bytes + 15) / 16 * 16;
    EXPECT_LE(in_ring, kRing);
  }
  EXPECT_GT(heard, 100);
}

}  // namespace
}  // namespace tprun
