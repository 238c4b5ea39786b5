#include "launcher/numa_binding.h"

#include <sched.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/file.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

// A host's /sys with nodes of these processors.
std::string FakeRoot(const std::string& name, const std::vector<std::string>& cpu_lists) {
  const std::string root = absl::StrCat(::testing::TempDir(), "/numa_", name);
  for (size_t node = 0; node < cpu_lists.size(); ++node) {
    const std::string folder = absl::StrCat(root, "/sys/devices/system/node/node", node);
    std::filesystem::create_directories(folder);
    EXPECT_TRUE(WriteFile(folder + "/cpulist", cpu_lists[node] + "\n").ok());
  }
  std::filesystem::create_directories(root + "/sys/devices/system/node/power");
  return root;
}

std::vector<int> Cpus(int count) {
  std::vector<int> cpus(count);
  std::iota(cpus.begin(), cpus.end(), 0);
  return cpus;
}

TEST(NumaBinding, RanksGoToNodesEvenly) {
  const std::string root = FakeRoot("two", {"0-3,8-11", "4-7,12-15"});
  for (int rank = 0; rank < 4; ++rank) {
    const NumaShare share = ShareNumaNodes(Cpus(16), rank, 4, root);
    EXPECT_EQ(share.nodes, std::vector<int>{rank / 2});
    EXPECT_EQ(share.cpus, rank < 2 ? (std::vector<int>{0, 1, 2, 3, 8, 9, 10, 11})
                                   : (std::vector<int>{4, 5, 6, 7, 12, 13, 14, 15}));
  }
}

TEST(NumaBinding, OneRankTakesAllNodes) {
  const std::string root = FakeRoot("all", {"0,2", "1,3"});
  const NumaShare share = ShareNumaNodes(Cpus(4), 0, 1, root);
  EXPECT_EQ(share.nodes, (std::vector<int>{0, 1}));
  EXPECT_EQ(share.cpus, Cpus(4));
}

TEST(NumaBinding, SaysWhereARankIs) {
  const std::string root = FakeRoot("said", {"0-3,8-11", "4-7,12-15"});
  EXPECT_EQ(DescribeShare(ShareNumaNodes(Cpus(16), 1, 2, root)),
            "NUMA node 1 (processors 4-7,12-15)");
  EXPECT_EQ(DescribeShare(ShareNumaNodes(Cpus(16), 0, 1, root)),
            "NUMA nodes 0-1 (processors 0-15), memory in turns");
  EXPECT_EQ(DescribeShare(NumaShare()), "");
}

TEST(NumaBinding, FewRanksShareManyNodes) {
  const std::string root = FakeRoot("many", {"0", "1", "2", "3"});
  EXPECT_EQ(ShareNumaNodes(Cpus(4), 0, 2, root).nodes, (std::vector<int>{0, 1}));
  EXPECT_EQ(ShareNumaNodes(Cpus(4), 1, 2, root).nodes, (std::vector<int>{2, 3}));
}

TEST(NumaBinding, NothingIsBoundWhereTheProcessorsDoNotComeOutEven) {
  const std::string five = FakeRoot("five", {"0", "1", "2", "3", "4"});
  EXPECT_TRUE(ShareNumaNodes(Cpus(5), 0, 2, five).cpus.empty());
  const std::string two = FakeRoot("halves", {"0-7", "8-15"});
  EXPECT_TRUE(ShareNumaNodes(Cpus(16), 0, 3, two).cpus.empty());
  EXPECT_TRUE(ShareNumaNodes(Cpus(10), 1, 2, two).cpus.empty());  // 8 and 2 of them
}

// Ten and more nodes are in the order of their numbers, not of their names.
TEST(NumaBinding, NodesAreInTheOrderOfTheirNumbers) {
  std::vector<std::string> lists;
  for (int i = 0; i < 12; ++i) lists.push_back(absl::StrCat(i));
  EXPECT_EQ(ShareNumaNodes(Cpus(12), 2, 12, FakeRoot("twelve", lists)).nodes, std::vector<int>{2});
}

TEST(NumaBinding, OnlyAllowedProcessorsCount) {
  const std::string root = FakeRoot("part", {"0-3", "4-7", ""});
  const NumaShare share = ShareNumaNodes({2, 3, 5, 6}, 1, 2, root);
  EXPECT_EQ(share.nodes, std::vector<int>{1});
  EXPECT_EQ(share.cpus, (std::vector<int>{5, 6}));
  // All on one node: there is nothing to choose.
  EXPECT_TRUE(ShareNumaNodes({4, 5}, 1, 2, root).cpus.empty());
}

TEST(NumaBinding, NothingIsBoundWhereThereIsOneNodeOrNoWord) {
  EXPECT_TRUE(ShareNumaNodes(Cpus(8), 0, 2, FakeRoot("one", {"0-7"})).cpus.empty());
  EXPECT_TRUE(ShareNumaNodes(Cpus(8), 0, 2, FakeRoot("bad", {"0-x", "4-7"})).cpus.empty());
  EXPECT_TRUE(ShareNumaNodes(Cpus(8), 0, 2, "/nowhere").cpus.empty());
  EXPECT_TRUE(ShareNumaNodes(Cpus(8), 3, 2, FakeRoot("two", {"0-3", "4-7"})).cpus.empty());
  EXPECT_TRUE(BindToShare({}).ok());
}

TEST(NumaBinding, BindsTheThreadAndThoseItStarts) {
  const std::vector<int> allowed = AllowedCpus();
  ASSERT_FALSE(allowed.empty());
  std::thread([&] {
    ASSERT_TRUE(BindToShare({{0}, {allowed.back()}}).ok());
    EXPECT_EQ(AllowedCpus(), std::vector<int>{allowed.back()});
    std::thread([&] { EXPECT_EQ(AllowedCpus(), std::vector<int>{allowed.back()}); }).join();
  }).join();
  EXPECT_EQ(AllowedCpus(), allowed);
  std::thread([] {
    const absl::Status status = BindToShare({{0}, {CPU_SETSIZE - 1}});
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(status.message().find("1023"), absl::string_view::npos) << status;
  }).join();
}

}  // namespace
}  // namespace tprun
