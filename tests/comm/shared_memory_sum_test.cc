#include "comm/shared_memory_sum.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "comm/shared_memory.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

std::string FreshName(const std::string& what) {
  return absl::StrCat("/tprun-test-", what, "-", getpid());
}

absl::Status NoCheck() { return absl::OkStatus(); }

// What rank `rank` gives for element i: small integers, exact in every type and order of sums.
float ValueOf(int rank, int64_t i) { return static_cast<float>((i + 3 * rank) % 7 - 3); }

std::vector<uint8_t> Values(int rank, int64_t count, DType dtype) {
  std::vector<uint8_t> bytes(count * SizeOf(dtype));
  for (int64_t i = 0; i < count; ++i) {
    const float value = ValueOf(rank, i);
    if (dtype == DType::kF32) std::memcpy(&bytes[4 * i], &value, 4);
    const Float16 f16 = ToFloat16(value);
    if (dtype == DType::kF16) std::memcpy(&bytes[2 * i], &f16, 2);
  }
  return bytes;
}

std::vector<uint8_t> Sums(int ranks, int64_t count, DType dtype) {
  std::vector<uint8_t> bytes(count * SizeOf(dtype));
  for (int64_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int r = 0; r < ranks; ++r) sum += ValueOf(r, i);
    if (dtype == DType::kF32) std::memcpy(&bytes[4 * i], &sum, 4);
    const Float16 f16 = ToFloat16(sum);
    if (dtype == DType::kF16) std::memcpy(&bytes[2 * i], &f16, 2);
  }
  return bytes;
}

// Calls body(rank, sum) on threads, each with a mapping of its own.
template <class Body>
void OnRanks(int ranks, const Body& body) {
  const std::string name = FreshName(absl::StrCat("ranks", ranks));
  auto memory = SharedMemory::Create(name, SharedMemorySum::Bytes(ranks));
  ASSERT_TRUE(memory.ok()) << memory.status();
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      auto own = SharedMemory::Open(name, SharedMemorySum::Bytes(ranks));
      ASSERT_TRUE(own.ok()) << own.status();
      SharedMemorySum sum(own->data(), r, ranks);
      body(r, sum);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SharedMemorySum, AddsUpInEverySizeAndType) {
  for (int ranks : {2, 3, 5}) {
    OnRanks(ranks, [&](int rank, SharedMemorySum& sum) {
      for (DType dtype : {DType::kF32, DType::kF16}) {
        for (int64_t count : {1, 15, 16, 2048, 8191, 65536, 65537, 300001}) {
          const std::vector<uint8_t> own = Values(rank, count, dtype);
          std::vector<uint8_t> out(own.size(), 0x55), in_place = own;
          ASSERT_TRUE(sum.Run(own.data(), out.data(), count, dtype, NoCheck).ok());
          ASSERT_TRUE(sum.Run(in_place.data(), in_place.data(), count, dtype, NoCheck).ok());
          const std::vector<uint8_t> expected = Sums(ranks, count, dtype);
          EXPECT_TRUE(out == expected) << ranks << " ranks, " << count;
          EXPECT_TRUE(in_place == expected) << ranks << " ranks, " << count << " in place";
        }
      }
    });
  }
}

// Ranks of changing speed, so that each at times waits, sleeps, and runs ahead.
TEST(SharedMemorySum, ManyRoundsAtOddSpeeds) {
  OnRanks(3, [](int rank, SharedMemorySum& sum) {
    std::mt19937 random(rank), sizes(99);
    for (int round = 0; round < 400; ++round) {
      const auto count = static_cast<int64_t>(sizes() % 20000 + 1);
      if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 900));
      std::vector<float> x(count, static_cast<float>(round % 100 + rank));
      ASSERT_TRUE(sum.Run(x.data(), x.data(), count, DType::kF32, NoCheck).ok());
      for (float value : x) ASSERT_EQ(value, static_cast<float>(3 * (round % 100) + 3));
    }
  });
}

TEST(SharedMemorySum, AWaitEndsWithTheErrorOfItsCheck) {
  OnRanks(2, [](int rank, SharedMemorySum& sum) {
    if (rank == 1) return;
    float x = 1;
    int checks = 0;
    const absl::Status status = sum.Run(&x, &x, 1, DType::kF32, [&] {
      return ++checks < 3 ? absl::OkStatus() : absl::DeadlineExceededError("too long");
    });
    EXPECT_EQ(status.message(), "too long");
    EXPECT_EQ(checks, 3);
  });
}

TEST(SharedMemorySum, UnequalCountsAreAnError) {
  OnRanks(2, [](int rank, SharedMemorySum& sum) {
    std::vector<float> x(100, 1);
    EXPECT_FALSE(sum.Run(x.data(), x.data(), 50 + rank, DType::kF32, NoCheck).ok());
  });
}

TEST(SharedMemorySum, BetweenProcesses) {
  const std::string name = FreshName("processes");
  auto memory = SharedMemory::Create(name, SharedMemorySum::Bytes(2));
  ASSERT_TRUE(memory.ok()) << memory.status();
  const auto rounds = [](void* data, int rank) {
    SharedMemorySum sum(data, rank, 2);
    bool right = true;
    for (int i = 0; i < 2000; ++i) {
      float x[3] = {static_cast<float>(i), static_cast<float>(rank), 1};
      right &= sum.Run(x, x, 3, DType::kF32, NoCheck).ok();
      right &= x[0] == 2.0f * static_cast<float>(i) && x[1] == 1 && x[2] == 2;
    }
    return right;
  };
  const pid_t child = fork();
  if (child == 0) {
    auto own = SharedMemory::Open(name, SharedMemorySum::Bytes(2));
    _exit(own.ok() && rounds(own->data(), 1) ? 0 : 1);
  }
  EXPECT_TRUE(rounds(memory->data(), 0));
  int status = 1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(SharedMemory, TheNameGoesWithItsCreator) {
  const std::string name = FreshName("name");
  {
    auto memory = SharedMemory::Create(name, 4096);
    ASSERT_TRUE(memory.ok()) << memory.status();
    EXPECT_FALSE(SharedMemory::Create(name, 4096).ok());   // taken
    EXPECT_FALSE(SharedMemory::Open(name, 1 << 20).ok());  // too small
    EXPECT_TRUE(SharedMemory::Open(name, 4096).ok());      // and does not take the name along
    EXPECT_TRUE(SharedMemory::Open(name, 4096).ok());
    memory->RemoveName();
    EXPECT_FALSE(SharedMemory::Open(name, 4096).ok());
    std::memset(memory->data(), 1, 4096);
    ASSERT_TRUE(SharedMemory::Create(name, 4096).ok());  // and its end removes it
  }
  EXPECT_FALSE(SharedMemory::Open(name, 4096).ok());
  EXPECT_FALSE(SharedMemory::Create(FreshName("huge"), int64_t{1} << 60).ok());
}

TEST(SharedMemory, PartsAreReservedByThoseWhoUseThem) {
  const std::string name = FreshName("parts");
  auto memory = SharedMemory::CreateUnreserved(name, int64_t{1} << 39);
  ASSERT_TRUE(memory.ok()) << memory.status();
  auto other = SharedMemory::Open(name, int64_t{1} << 39);
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE(memory->Reserve(0, 4096).ok());
  ASSERT_TRUE(other->Reserve(8192, 4096).ok());
  static_cast<char*>(memory->data())[8192] = 'x';
  EXPECT_EQ(static_cast<char*>(other->data())[8192], 'x');
  EXPECT_TRUE(absl::IsResourceExhausted(other->Reserve(8192, int64_t{1} << 38)));
}

}  // namespace
}  // namespace tprun
