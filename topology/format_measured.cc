#include "topology/format_measured.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

std::string Rate(double rate) { return rate > 0 ? FormatBandwidth(rate) : ""; }

// "bf16 790, fp8 1410 TFLOP/s".
std::string MatmulText(const std::map<std::string, double>& rates) {
  double most = 0;
  for (const auto& [type, rate] : rates) most = std::max(most, rate);
  const bool tera = most >= 1e12;
  std::vector<std::string> parts;
  for (const auto& [type, rate] : rates) {
    parts.push_back(absl::StrFormat("%s %.3g", type, rate / (tera ? 1e12 : 1e9)));
  }
  if (parts.empty()) return "";
  return absl::StrCat(absl::StrJoin(parts, ", "), tera ? " TFLOP/s" : " GFLOP/s");
}

std::string RanksText(const DeviceMeasurements& measured) {
  if (measured.rank_latency_s <= 0) return "";
  return absl::StrCat(FormatDuration(measured.rank_latency_s), ", ",
                      FormatBandwidth(measured.rank_bandwidth_bytes_per_s));
}

std::string Size(int64_t bytes) { return bytes > 0 ? FormatBytes(bytes) : ""; }

}  // namespace

std::string MeasuredText(const TextView& view) {
  const Topology& topology = view.topology;
  constexpr size_t kShown = 200;
  TextRows rows;
  for (size_t i = 0; i < topology.devices.size() && rows.size() < kShown; ++i) {
    const DeviceMeasurements& measured = topology.devices[i].measured;
    const bool overheads = measured.context_bytes > 0 || measured.nccl_base_bytes > 0 ||
                           measured.nccl_channel_bytes > 0;
    if (measured.date.empty() && measured.matmul_ops_per_s.empty() && !overheads) continue;
    if (!view.IsShown(topology.devices[i].host)) continue;
    rows.push_back(
        {QualifiedDeviceId(topology, static_cast<int>(i)), measured.date,
         Rate(measured.memory_bandwidth_bytes_per_s), Rate(measured.host_to_device_bytes_per_s),
         Rate(measured.device_to_host_bytes_per_s), MatmulText(measured.matmul_ops_per_s),
         RanksText(measured), Size(measured.context_bytes), Size(measured.nccl_base_bytes),
         Size(measured.nccl_channel_bytes)});
  }
  if (rows.empty()) return "";
  std::vector<std::string> heads = {"measured",
                                    "on",
                                    "memory>",
                                    "from host>",
                                    "to host>",
                                    "matrix products",
                                    "two ranks: all-reduce",
                                    "context>",
                                    "NCCL>",
                                    "a channel>"};
  DropEmptyColumns(heads, rows);
  return TextTable(std::move(heads), rows, view.color);
}

}  // namespace tprun
