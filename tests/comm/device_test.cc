#include "comm/device.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "comm/available_memory.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(CpuDeviceTest, BuffersAreZeroedAlignedAndWritable) {
  const auto device = MakeCpuDevice();
  EXPECT_EQ(device->name(), "cpu");
  EXPECT_TRUE(device->host_accessible());
  for (int64_t bytes :
       {int64_t{0}, int64_t{1}, int64_t{4097}, 2 * kMiB - 1, 2 * kMiB, 5 * kMiB + 3}) {
    auto buffer = device->Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    char* const data = static_cast<char*>((*buffer)->data());
    EXPECT_EQ((*buffer)->size(), bytes);
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (bytes >= 2 * kMiB ? 2 * kMiB : 64), 0);
    EXPECT_EQ(std::count(data, data + bytes, '\0'), bytes);
    std::memset(data, 1, bytes);
  }
}

TEST(CpuDeviceTest, CopiesBothWays) {
  const auto device = MakeCpuDevice();
  auto buffer = device->Allocate(100);
  ASSERT_TRUE(buffer.ok());
  const std::string text = "activations";
  std::string back(text.size(), ' ');
  EXPECT_TRUE(device->CopyFromHost((*buffer)->data(), text.data(), text.size()).ok());
  EXPECT_TRUE(device->CopyToHost(back.data(), (*buffer)->data(), back.size()).ok());
  EXPECT_EQ(back, text);
  EXPECT_TRUE(device->CopyFromHost(nullptr, nullptr, 0).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyFromHost(nullptr, text.data(), 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyToHost(back.data(), text.data(), -1)));
  EXPECT_TRUE(device->Synchronize().ok());
}

TEST(CpuDeviceTest, MoreThanIsFreeIsRefused) {
  const auto device = MakeCpuDevice();
  const auto free = device->FreeMemory();
  ASSERT_TRUE(free.ok()) << free.status();
  EXPECT_GT(*free, kMiB);
  for (int64_t bytes : {*free * 2, std::numeric_limits<int64_t>::max()}) {
    const auto buffer = device->Allocate(bytes);
    EXPECT_TRUE(absl::IsResourceExhausted(buffer.status())) << buffer.status();
    EXPECT_TRUE(absl::StrContains(buffer.status().message(), absl::StrCat("(", bytes, " bytes)")))
        << buffer.status();
    EXPECT_TRUE(absl::StrContains(buffer.status().message(), "are free")) << buffer.status();
  }
  EXPECT_TRUE(absl::IsInvalidArgument(device->Allocate(-1).status()));
}

// Memory that was given away but not touched yet is not given away again.
TEST(CpuDeviceTest, UntouchedBuffersCount) {
  const auto device = MakeCpuDevice();
  const int64_t free = device->FreeMemory().value();
  {
    auto first = device->Allocate(free / 2);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_LE(device->FreeMemory().value(), free - free / 2 + 64 * kMiB);
    EXPECT_TRUE(absl::IsResourceExhausted(device->Allocate(free / 2 + free / 8).status()));
  }
  EXPECT_GT(device->FreeMemory().value(), free / 2 + free / 8);
}

TEST(OpenDeviceTest, NamesAreChecked) {
  const auto cpu = OpenDevice("cpu");
  ASSERT_TRUE(cpu.ok());
  EXPECT_EQ((*cpu)->name(), "cpu");
  // Without CUDA in the build, or without a GPU in the machine, in one line why.
  const absl::Status cuda = OpenDevice("cuda:0").status();
  EXPECT_TRUE(cuda.ok() || absl::IsUnimplemented(cuda) || absl::IsUnavailable(cuda)) << cuda;
  EXPECT_TRUE(cuda.ok() || absl::StrContains(cuda.message(), "cuda:0")) << cuda;
  EXPECT_FALSE(absl::StrContains(cuda.message(), "\n")) << cuda;
  EXPECT_FALSE(OpenDevice("cuda:9999").ok());
  for (const char* name : {"", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999", "cpu:0",
                           "CPU", "gpu:0", "cuda: 1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(OpenDevice(name).status())) << name;
  }
}

// A made-up /proc and /sys.
class AvailableMemoryTest : public testing::Test {
 protected:
  AvailableMemoryTest() : root_(absl::StrCat(testing::TempDir(), "/available_memory_", getpid())) {}
  ~AvailableMemoryTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  const std::string root_;
};

TEST_F(AvailableMemoryTest, WithoutCgroupsItIsMemAvailable) {
  Write("/proc/meminfo", "MemTotal: 100 kB\nMemFree:   10 kB\nMemAvailable:      50 kB\n");
  EXPECT_EQ(AvailableMemory(root_).value(), 50 * 1024);
}

TEST_F(AvailableMemoryTest, TheLimitOfEveryCgroupAboveHolds) {
  Write("/proc/meminfo", "MemAvailable: 1000 kB\n");
  Write("/proc/self/cgroup", "0::/job/step\n");
  Write("/sys/fs/cgroup/job/memory.max", "500000\n");
  Write("/sys/fs/cgroup/job/memory.current", "300000\n");
  Write("/sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 50000\nactive_file 50000\n");
  Write("/sys/fs/cgroup/job/step/memory.max", "max\n");
  Write("/sys/fs/cgroup/job/step/memory.current", "300000\n");
  EXPECT_EQ(AvailableMemory(root_).value(), 500000 - 200000);
}

TEST_F(AvailableMemoryTest, Version1InAContainer) {
  Write("/proc/meminfo", "MemAvailable: 1000 kB\n");
  Write("/proc/self/cgroup", "11:cpu,cpuacct:/x\n9:memory:/docker/abc\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "400000\n");
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "390000\n");
  Write("/sys/fs/cgroup/memory/memory.stat", "total_inactive_file 40000\n");
  EXPECT_EQ(AvailableMemory(root_).value(), 50000);
  Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "900000\n");
  EXPECT_EQ(AvailableMemory(root_).value(), 0);
}

TEST_F(AvailableMemoryTest, AMissingFileIsAnError) {
  EXPECT_TRUE(absl::IsUnavailable(AvailableMemory(root_).status()));
}

}  // namespace
}  // namespace tprun
