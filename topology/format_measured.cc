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

}  // namespace

std::string MeasuredText(const Topology& topology, bool color) {
  constexpr size_t kShown = 200;
  TextRows rows;
  bool copies = false, ranks = false;
  for (size_t i = 0; i < topology.devices.size() && rows.size() < kShown; ++i) {
    const DeviceMeasurements& measured = topology.devices[i].measured;
    if (measured.date.empty() && measured.matmul_ops_per_s.empty()) continue;
    copies = copies || measured.host_to_device_bytes_per_s > 0;
    ranks = ranks || measured.rank_latency_s > 0;
    rows.push_back({QualifiedDeviceId(topology, static_cast<int>(i)), measured.date,
                    Rate(measured.memory_bandwidth_bytes_per_s),
                    Rate(measured.host_to_device_bytes_per_s),
                    Rate(measured.device_to_host_bytes_per_s),
                    MatmulText(measured.matmul_ops_per_s), RanksText(measured)});
  }
  if (rows.empty()) return "";
  std::vector<std::string> heads = {"measured",
                                    "on",
                                    "memory>",
                                    "from host>",
                                    "to host>",
                                    "matrix products",
                                    "two ranks: all-reduce"};
  const auto drop = [&](int column) {
    heads.erase(heads.begin() + column);
    for (auto& row : rows) row.erase(row.begin() + column);
  };
  if (!ranks) drop(6);
  if (!copies) {
    drop(4);
    drop(3);
  }
  return TextTable(std::move(heads), rows, color);
}

}  // namespace tprun
