// The CUDA device on a real GPU; skipped without one.
#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "base/units.h"
#include "comm/device.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice("cuda:0");
    if (!device.ok()) GTEST_SKIP() << device.status();
    device_ = *std::move(device);
  }

  std::vector<char> Read(const void* from, int64_t bytes) {
    std::vector<char> data(bytes);
    const absl::Status status = device_->CopyToHost(data.data(), from, bytes);
    EXPECT_TRUE(status.ok()) << status;
    return data;
  }

  static std::vector<char> Pattern(int64_t bytes, int seed) {
    std::vector<char> data(bytes);
    for (int64_t i = 0; i < bytes; ++i) data[i] = static_cast<char>(i * 7 + seed + i / 251);
    return data;
  }

  std::unique_ptr<Device> device_;
};

TEST_F(CudaDeviceTest, BuffersAreZeroedAndCopied) {
  EXPECT_EQ(device_->name(), "cuda:0");
  EXPECT_FALSE(device_->host_accessible());
  for (int64_t bytes : {int64_t{1}, int64_t{1000}, 64 * kKiB, 64 * kKiB + 1, 2 * kMiB, 2 * kMiB + 1,
                        int64_t{33'333'333}}) {
    auto buffer = device_->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(Read((*buffer)->data(), bytes), std::vector<char>(bytes, 0)) << bytes;
    const std::vector<char> data = Pattern(bytes, 1);
    ASSERT_TRUE(device_->CopyFromHost((*buffer)->data(), data.data(), bytes).ok());
    EXPECT_EQ(Read((*buffer)->data(), bytes), data) << bytes;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(device_->Allocate(-1).status()));
  char byte;
  EXPECT_TRUE(absl::IsInvalidArgument(device_->CopyFromHost(nullptr, &byte, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(device_->CopyToHost(&byte, nullptr, 1)));
  EXPECT_TRUE(device_->CopyFromHost(nullptr, nullptr, 0).ok());
}

TEST_F(CudaDeviceTest, MoreThanIsFreeIsRefusedWithTheNumbers) {
  const int64_t free = device_->FreeMemory().value();
  EXPECT_GT(free, 64 * kMiB);
  const absl::Status status = device_->Allocate(free * 2).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  for (const char* part : {"cuda:0", "wanted", "are free"}) {
    EXPECT_TRUE(absl::StrContains(status.message(), part)) << status;
  }
  EXPECT_TRUE(device_->Allocate(1000).ok()) << "the device still works";
}

// The host's memory may change as soon as the call returns, however many copies are on their way.
TEST_F(CudaDeviceTest, SmallCopiesInARow) {
  constexpr int kCopies = 100;
  auto buffer = device_->Allocate(kCopies * 4);
  ASSERT_TRUE(buffer.ok());
  for (int i = 0; i < kCopies; ++i) {
    int value = i;
    ASSERT_TRUE(
        device_->CopyFromHost(static_cast<char*>((*buffer)->data()) + 4 * i, &value, 4).ok());
    value = -1;
  }
  std::vector<int> found(kCopies), wanted(kCopies);
  std::iota(wanted.begin(), wanted.end(), 0);
  ASSERT_TRUE(device_->CopyToHost(found.data(), (*buffer)->data(), kCopies * 4).ok());
  EXPECT_EQ(found, wanted);
}

// A copy within a graph reads the pinned memory anew at every launch.
TEST_F(CudaDeviceTest, GraphsRunAgain) {
  auto pinned = device_->AllocateHost(8);
  auto a = device_->Allocate(8), b = device_->Allocate(8);
  ASSERT_TRUE(pinned.ok() && a.ok() && b.ok());
  auto* const value = static_cast<int64_t*>((*pinned)->data());
  ASSERT_TRUE(device_->can_capture());
  auto graph = device_->Capture([&]() -> absl::Status {
    absl::Status status = device_->EnqueueCopyFromHost((*a)->data(), value, 8);
    status.Update(device_->EnqueueCopy((*b)->data(), (*a)->data(), 8));
    return status;
  });
  ASSERT_TRUE(graph.ok()) << graph.status();
  int64_t found = -1;
  ASSERT_TRUE(device_->CopyToHost(&found, (*b)->data(), 8).ok());
  EXPECT_EQ(found, 0) << "recording runs nothing";
  for (int64_t i = 1; i < 20; ++i) {
    *value = i;
    ASSERT_TRUE((*graph)->Launch().ok());
    ASSERT_TRUE(device_->CopyToHost(&found, (*b)->data(), 8).ok());
    EXPECT_EQ(found, i);
  }
  const auto failed = device_->Capture([] { return absl::NotFoundError("no such op"); });
  EXPECT_TRUE(absl::IsNotFound(failed.status())) << failed.status();
  EXPECT_TRUE(device_->Synchronize().ok()) << "the stream is usable again";
  EXPECT_TRUE(device_->CopyToHost(&found, (*b)->data(), 8).ok());
}

TEST_F(CudaDeviceTest, UploadersInSeveralThreads) {
  constexpr int kThreads = 4;
  constexpr int64_t kPart = 100'003, kParts = 40;
  auto buffer = device_->Allocate(kThreads * kParts * kPart);
  ASSERT_TRUE(buffer.ok());
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto uploader = device_->MakeUploader(kPart);
      if (!uploader.ok()) {
        ++failures;
        return;
      }
      for (int64_t p = 0; p < kParts; ++p) {
        const absl::StatusOr<char*> staging = (*uploader)->Stage();
        const std::vector<char> data = Pattern(kPart, t * 100 + p);
        if (staging.ok()) std::memcpy(*staging, data.data(), kPart);
        char* const to = static_cast<char*>((*buffer)->data()) + (t * kParts + p) * kPart;
        failures += !staging.ok() || !(*uploader)->Upload(to, kPart).ok();
      }
      failures += !(*uploader)->Finish().ok();
      failures += (*uploader)->Upload((*buffer)->data(), kPart + 1).ok();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  const std::vector<char> all = Read((*buffer)->data(), (*buffer)->size());
  for (int64_t part = 0; part < kThreads * kParts; ++part) {
    const std::vector<char> wanted = Pattern(kPart, part / kParts * 100 + part % kParts);
    ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), all.begin() + part * kPart)) << part;
  }
}

TEST_F(CudaDeviceTest, CopyBandwidthIsThatOfAGpu) {
  const auto bandwidth = device_->MeasureCopyBandwidth(256 * kMiB);
  ASSERT_TRUE(bandwidth.ok()) << bandwidth.status();
  EXPECT_GT(*bandwidth, 50e9);  // the slowest card of the catalogue has more
  EXPECT_LT(*bandwidth, 50e12);
  RecordProperty("copy_gb_per_s", static_cast<int>(*bandwidth / 1e9));
}

TEST_F(CudaDeviceTest, SeveralDevicesOnOneGpu) {
  auto second = OpenDevice("cuda:0");
  ASSERT_TRUE(second.ok());
  auto a = device_->Allocate(100), b = (*second)->Allocate(100);
  ASSERT_TRUE(a.ok() && b.ok());
  const std::vector<char> data = Pattern(100, 3);
  ASSERT_TRUE(device_->CopyFromHost((*a)->data(), data.data(), 100).ok());
  ASSERT_TRUE(device_->Synchronize().ok());
  ASSERT_TRUE((*second)->EnqueueCopy((*b)->data(), (*a)->data(), 100).ok());
  ASSERT_TRUE((*second)->Synchronize().ok());
  EXPECT_EQ(Read((*b)->data(), 100), data);
}

}  // namespace
}  // namespace tprun
