#include "topology/format_measured.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(MeasuredText, ShowsWhatWasMeasured) {
  Topology box;
  box.hosts.push_back({.name = "box"});
  box.devices.push_back({.id = "cpu"});
  EXPECT_EQ(MeasuredText(TextView(box, false)), "");
  DeviceMeasurements& cpu = box.devices[0].measured;
  cpu.date = "2026-11-20";
  cpu.memory_bandwidth_bytes_per_s = 20e9;
  cpu.matmul_ops_per_s = {{"bf16", 100e9}, {"f32", 50e9}};
  EXPECT_EQ(MeasuredText(TextView(box, false)),
            "measured  on             memory  matrix products\n"
            "cpu       2026-11-20  20.0 GB/s  bf16 100, f32 50 GFLOP/s\n");
  cpu.rank_latency_s = 2e-6;
  cpu.rank_bandwidth_bytes_per_s = 3e9;
  EXPECT_THAT(MeasuredText(TextView(box, false)), HasSubstr("2.00 us, 3.00 GB/s\n"));
  DeviceInfo gpu;
  gpu.id = "cuda:0";
  gpu.kind = DeviceKind::kGpu;
  gpu.measured.date = "2026-11-20";
  gpu.measured.host_to_device_bytes_per_s = 50e9;
  gpu.measured.device_to_host_bytes_per_s = 51e9;
  gpu.measured.matmul_ops_per_s = {{"bf16", 7.9e14}};
  box.devices.push_back(gpu);
  const std::string text = MeasuredText(TextView(box, false));
  EXPECT_THAT(text, HasSubstr("from host"));
  EXPECT_THAT(text, HasSubstr("50.0 GB/s  51.0 GB/s  bf16 790 TFLOP/s"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(MeasuredText(TextView(box, true)), HasSubstr("\x1b"));
}

}  // namespace
}  // namespace tprun
