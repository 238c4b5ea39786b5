// Network cards and networks, as parts of TopologyText.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "topology/format_links.h"
#include "topology/text_table.h"

namespace tprun {
namespace {

// "cuda:0-1" of the GPUs behind the same PCIe switch.
std::string NearText(const Topology& topology, const Nic& nic) {
  std::vector<std::string> near;
  for (const auto& [gpu, kind] : nic.gpu_paths) {
    if (kind == LinkKind::kPix || kind == LinkKind::kPxb) near.push_back(topology.devices[gpu].id);
  }
  return absl::StrJoin(near, " ");
}

std::string Label(const Nic& nic) {
  return nic.name.empty() && !nic.interfaces.empty() ? nic.interfaces[0] : nic.name;
}

}  // namespace

std::string NicsText(const TextView& view) {
  constexpr size_t kShown = 40;
  const std::vector<Nic>& nics = view.topology.nics;
  const bool several = view.topology.hosts.size() > 1;
  TextRows rows;
  size_t hidden = 0;
  for (size_t i = 0; i < nics.size(); ++i) {
    const Nic& nic = nics[i];
    if (!view.IsShown(nic.host)) continue;
    const std::vector<TextCell> facts = {RateOrUnknown(nic.bandwidth_bytes_per_s),
                                         nic.numa_node >= 0 ? absl::StrCat(nic.numa_node) : "",
                                         NearText(view.topology, nic), nic.pci_bus_id};
    // Those that are alike share a row.
    if (!rows.empty() && nic.host == nics[i - 1].host && nic.pci_bus_id.empty() &&
        nic.bandwidth_bytes_per_s == nics[i - 1].bandwidth_bytes_per_s &&
        nic.numa_node == nics[i - 1].numa_node && facts[2].text == rows.back()[4].text) {
      std::string& name = rows.back()[1].text;
      name = absl::StrCat(name.substr(0, name.find(" ... ")), " ... ", Label(nic));
      continue;
    }
    if (rows.size() == kShown) {
      ++hidden;
      continue;
    }
    rows.push_back({several ? view.HostLabel(nic.host) : "", Label(nic), facts[0], facts[1],
                    facts[2], facts[3]});
  }
  if (rows.empty()) return "";
  std::vector<std::string> heads = {"host", "network card", "each way>", "NUMA>", "near", "PCI"};
  DropEmptyColumns(heads, rows);
  std::string text = TextTable(std::move(heads), rows, view.color);
  if (hidden > 0) absl::StrAppend(&text, "... ", hidden, " more; --format=json has them all\n");
  return text;
}

std::string NetworkText(const TextView& view) {
  TextRows rows;
  for (const Fabric& fabric : view.topology.fabrics) {
    int64_t hosts = 0;
    for (int host : fabric.hosts) hosts += view.topology.hosts[host].count;
    std::string details = absl::StrCat(fabric.kind == LinkKind::kNvlink ? "NVLink switches, " : "",
                                       "joins ", hosts, hosts == 1 ? " host" : " hosts");
    if (fabric.nics_per_host > 1) {
      absl::StrAppend(&details, ", ", fabric.nics_per_host, " ports of ",
                      RateOrUnknown(fabric.bandwidth_bytes_per_s / fabric.nics_per_host));
    }
    if (fabric.oversubscription > 1) {
      absl::StrAppendFormat(&details, ", oversubscribed %.3g:1", fabric.oversubscription);
    }
    rows.push_back({fabric.name, RateOrUnknown(fabric.bandwidth_bytes_per_s),
                    fabric.latency_s > 0 ? FormatDuration(fabric.latency_s) : "", details});
  }
  if (rows.empty()) return "";
  std::vector<std::string> heads = {"network", "per host>", "latency>", ""};
  DropEmptyColumns(heads, rows);
  return TextTable(std::move(heads), rows, view.color);
}

}  // namespace tprun
