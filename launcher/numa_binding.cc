#include "launcher/numa_binding.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "topology/cpu_list.h"
#include "topology/pseudo_file.h"

namespace tprun {
namespace {

// Nodes in their order, with those of their processors that are allowed; none without any.
std::vector<std::pair<int, std::vector<int>>> NodesWith(const std::vector<int>& allowed_cpus,
                                                        const std::string& root) {
  const std::string folder = root + "/sys/devices/system/node";
  std::vector<std::pair<int, std::vector<int>>> nodes;
  for (const std::string& entry : ListFolder(folder)) {
    absl::string_view number = entry;
    int node;
    if (!absl::ConsumePrefix(&number, "node") || !absl::SimpleAtoi(number, &node)) continue;
    const auto cpus = ParseCpuList(ReadPseudoLine(absl::StrCat(folder, "/", entry, "/cpulist")));
    if (!cpus.ok()) continue;
    std::vector<int> usable;
    std::set_intersection(cpus->begin(), cpus->end(), allowed_cpus.begin(), allowed_cpus.end(),
                          std::back_inserter(usable));
    if (!usable.empty()) nodes.emplace_back(node, std::move(usable));
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

}  // namespace

NumaShare ShareNumaNodes(const std::vector<int>& allowed_cpus, int index, int ranks,
                         const std::string& root) {
  const auto nodes = NodesWith(allowed_cpus, root);
  const int count = static_cast<int>(nodes.size());
  NumaShare share;
  if (count < 2 || index < 0 || index >= ranks) return share;
  // Uneven parts would give some ranks more threads than processors, and every step waits for them.
  if (count % ranks != 0 && ranks % count != 0) return share;
  for (const auto& node : nodes) {
    if (node.second.size() != nodes[0].second.size()) return share;
  }
  const int begin = index * count / ranks;
  const int end = std::max(begin + 1, (index + 1) * count / ranks);
  for (int i = begin; i < end; ++i) {
    share.nodes.push_back(nodes[i].first);
    share.cpus.insert(share.cpus.end(), nodes[i].second.begin(), nodes[i].second.end());
  }
  std::sort(share.cpus.begin(), share.cpus.end());
  return share;
}

absl::Status BindToShare(const NumaShare& share) {
  if (share.cpus.empty()) return absl::OkStatus();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  for (int cpu : share.cpus) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &cpus);
  }
  if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) {
    return absl::UnavailableError(absl::StrCat("the system refused to bind a rank to processors ",
                                               FormatCpuList(share.cpus), ": ",
                                               std::strerror(errno)));
  }
  if (share.nodes.size() < 2) return absl::OkStatus();  // first touch does it
  constexpr int kMostNodes = 1024, kBits = 8 * sizeof(unsigned long);
  unsigned long mask[kMostNodes / kBits] = {};
  for (int node : share.nodes) {
    if (node < kMostNodes) mask[node / kBits] |= 1ul << (node % kBits);
  }
  if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask, kMostNodes) != 0) {
    return absl::UnavailableError(
        absl::StrCat("the system refused to spread memory over NUMA nodes ",
                     FormatCpuList(share.nodes), ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

std::string DescribeShare(const NumaShare& share) {
  if (share.cpus.empty()) return "";
  const bool several = share.nodes.size() > 1;
  return absl::StrCat("NUMA node", several ? "s " : " ", FormatCpuList(share.nodes),
                      " (processors ", FormatCpuList(share.cpus), ")",
                      several ? ", memory in turns" : "");
}

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

}  // namespace tprun
