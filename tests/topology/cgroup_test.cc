#include "topology/cgroup.h"

#include <string>

#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/topology/detect_fixture.h"
#include "topology/detect_host.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

TEST(CgroupLimits, Version2TakesTheNarrowestAncestor) {
  FakeRoot root;
  root.Write("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
  root.Write("/proc/self/cgroup", "0::/outer/inner\n");
  root.Write("/sys/fs/cgroup/outer/memory.max", "8589934592\n");
  root.Write("/sys/fs/cgroup/outer/memory.current", "3221225472\n");
  root.Write("/sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 1073741824\n");
  root.Write("/sys/fs/cgroup/outer/cpu.max", "150000 100000\n");
  root.Write("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  root.Write("/sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  const CgroupLimits limits = ReadCgroupLimits(root.path());
  EXPECT_EQ(limits.memory_limit_bytes, 8 * kGiB);
  EXPECT_EQ(limits.memory_available_bytes, 6 * kGiB);
  EXPECT_DOUBLE_EQ(limits.cpus, 1.5);
}

TEST(CgroupLimits, Version1InAContainer) {
  FakeRoot root;
  root.Write(
      "/proc/self/mountinfo",
      "35 31 0:32 /docker/ab /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "32 31 0:29 /docker/ab /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
  root.Write("/proc/self/cgroup", "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n");
  root.Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n");
  root.Write("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  const CgroupLimits limits = ReadCgroupLimits(root.path());
  EXPECT_EQ(limits.memory_limit_bytes, 4 * kGiB);
  EXPECT_EQ(limits.memory_available_bytes, 3 * kGiB);
  EXPECT_DOUBLE_EQ(limits.cpus, 0.5);
}

TEST(CgroupLimits, NoLimitReadsAsNone) {
  FakeRoot root;
  root.Write("/proc/self/mountinfo",
             "35 31 0:32 / /cg rw - cgroup cgroup rw,memory\ngarbage - x\n");
  root.Write("/proc/self/cgroup", "4:memory:/\nnonsense\n");
  root.Write("/cg/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ReadCgroupLimits(root.path()).memory_limit_bytes, CgroupLimits::kNone);
  EXPECT_EQ(ReadCgroupLimits("/no/such/root").cpus, 0);
}

TEST(DetectHost, ContainerLimitsCount) {
  FakeRoot root;
  root.Write("/proc/self/mountinfo", "31 23 0:28 / /cg rw - cgroup2 cgroup2 rw\n");
  root.Write("/proc/self/cgroup", "0::/\n");
  root.Write("/proc/meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 16777216 kB\n");
  root.Write("/proc/cpuinfo", "model name : Test CPU\nflags : fpu avx2 fma avx512f amx_tile\n");
  root.Write("/cg/memory.max", "8589934592\n");
  root.Write("/cg/memory.current", "0\n");
  root.Write("/cg/cpu.max", "50000 100000\n");
  const auto detected = DetectHost(root.path());
  ASSERT_TRUE(detected.ok()) << detected.status();
  EXPECT_EQ(detected->host.memory_bytes, 8 * kGiB);
  EXPECT_EQ(detected->host.available_bytes, 8 * kGiB);
  EXPECT_EQ(detected->cpu.threads, 1);
  EXPECT_EQ(detected->cpu.name, "Test CPU");
  EXPECT_THAT(detected->cpu.isa, testing::ElementsAre("fma", "avx2", "avx512f", "amx_tile"));
  EXPECT_THAT(detected->notes, testing::Contains(testing::HasSubstr("8.00 GiB of 32.00 GiB")));
}

TEST(PseudoFileField, ReadsKernelForms) {
  const char text[] = "MemTotal:   24 kB\nNode 0 MemFree:  8 kB\ninactive_file 4096\nbad: x\n";
  EXPECT_EQ(PseudoFileField(text, "MemTotal"), 24 * 1024);
  EXPECT_EQ(PseudoFileField(text, "MemFree"), 8 * 1024);
  EXPECT_EQ(PseudoFileField(text, "inactive_file"), 4096);
  EXPECT_EQ(PseudoFileField(text, "bad"), -1);
  EXPECT_EQ(PseudoFileField(text, "absent"), -1);
}

}  // namespace
}  // namespace tprun
