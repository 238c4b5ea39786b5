#include "topology/gpu_overheads.h"

#include "base/file.h"
#include "base/units.h"
#include "gtest/gtest.h"
#include "topology/gpu_catalogue.h"

namespace tprun {
namespace {

DeviceInfo Gpu(const std::string& name, const std::string& capability) {
  DeviceInfo gpu;
  gpu.kind = DeviceKind::kGpu;
  gpu.name = name;
  gpu.compute_capability = capability;
  return gpu;
}

TEST(GpuOverheads, TheFirstEntryThatMatchesCounts) {
  const std::vector<GpuOverheads> all = {
      {.device = "card", .context_bytes = 1, .source = "a"},
      {.compute_capability = "9.0", .context_bytes = 2, .source = "b"},
      {.context_bytes = 3, .source = "c"}};
  EXPECT_EQ(OverheadsOfGpu(all, Gpu("card", "9.0")).context_bytes, 1);
  EXPECT_EQ(OverheadsOfGpu(all, Gpu("other", "9.0")).context_bytes, 2);
  EXPECT_EQ(OverheadsOfGpu(all, Gpu("other", "8.6")).context_bytes, 3);
  EXPECT_EQ(OverheadsOfGpu({}, Gpu("other", "8.6")).context_bytes, 0);
  EXPECT_EQ(OverheadsOfGpu({}, Gpu("other", "8.6")).source, "not known");
}

TEST(GpuOverheads, WhatWasMeasuredOfTheCardGoesFirst) {
  DeviceInfo gpu = Gpu("NVIDIA H100", "9.0");
  const GpuOverheads nominal = OverheadsOfGpu(gpu);
  ASSERT_GT(nominal.context_bytes, 0);
  EXPECT_EQ(nominal.measured, "");
  gpu.measured.context_bytes = 333 * kMiB;
  gpu.measured.nccl_channel_bytes = 5 * kMiB;
  gpu.measured.date = "2026-11-20";
  const GpuOverheads overheads = OverheadsOfGpu(gpu);
  EXPECT_EQ(overheads.context_bytes, 333 * kMiB);
  EXPECT_EQ(overheads.nccl_channel_bytes, 5 * kMiB);
  EXPECT_EQ(overheads.nccl_base_bytes, nominal.nccl_base_bytes) << "not measured";
  EXPECT_EQ(overheads.measured, "measured on this card 2026-11-20: context, nccl_channel");
  EXPECT_EQ(overheads.source, nominal.source);
}

TEST(GpuOverheads, EveryEntryOfTheDataHasSourceAndDate) {
  const absl::StatusOr<std::string> folder = ClustersDirectory();
  ASSERT_TRUE(folder.ok()) << folder.status();
  const auto all = ReadGpuOverheads(JoinPath(*folder, "devices/overheads.yaml"));
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_FALSE(all->empty());
  for (const GpuOverheads& entry : *all) {
    EXPECT_GT(entry.context_bytes, 100 * kMiB);
    EXPECT_LT(entry.context_bytes, kGiB);
    EXPECT_GT(entry.nccl_channel_bytes, 9 * kMiB);
    EXPECT_FALSE(entry.source.empty());
    EXPECT_EQ(entry.date.size(), 7u) << entry.date;
  }
  // The last is for every card.
  EXPECT_TRUE(all->back().device.empty() && all->back().compute_capability.empty());
}

TEST(GpuOverheads, MistakesHaveTheirLine) {
  const std::string path = testing::TempDir() + "/overheads.yaml";
  ASSERT_TRUE(WriteFile(path, "overheads:\n  - context: 250\n").ok());
  const absl::Status status = ReadGpuOverheads(path).status();
  EXPECT_NE(status.message().find("overheads.yaml:2"), std::string::npos) << status;
}

}  // namespace
}  // namespace tprun
