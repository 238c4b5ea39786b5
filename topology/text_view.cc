#include "topology/text_view.h"

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "topology/alike_hosts.h"
#include "topology/cpu_list.h"

namespace tprun {

TextView::TextView(const Topology& topology, bool color)
    : topology(topology),
      color(color),
      finder(topology),
      devices(DevicesByHost(topology)),
      alike(AlikeHosts(topology)),
      count(topology.hosts.size()),
      last(topology.hosts.size()) {
  for (size_t host = 0; host < alike.size(); ++host) {
    ++count[alike[host]];
    last[alike[host]] = static_cast<int>(host);
  }
}

std::string TextView::HostSpan(int host) const {
  const Host& first = topology.hosts[host];
  if (first.count > 1) {
    return absl::StrCat(HostName(first, 0), " ... ", HostName(first, first.count - 1));
  }
  if (count[host] == 1) return first.name;
  return absl::StrCat(first.name, " ... ", topology.hosts[last[host]].name);
}

std::string TextView::HostLabel(int host) const {
  const std::string span = HostSpan(host);
  const int hosts = count[host] * topology.hosts[host].count;
  return hosts == 1 ? span : absl::StrCat(span, " (", hosts, ")");
}

std::string RateOrUnknown(double rate) { return rate > 0 ? FormatBandwidth(rate) : "?"; }

std::string ShortCpus(const std::string& cpus) {
  constexpr size_t kLong = 32;
  if (cpus.size() <= kLong) return cpus;
  const std::string front = cpus.substr(0, cpus.rfind(',', kLong - 10));
  const auto all = ParseCpuList(cpus);
  return absl::StrCat(front, ",...", all.ok() ? absl::StrCat(" (", all->size(), ")") : "");
}

}  // namespace tprun
