#include "topology/synthetic.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cluster_file.h"
#include "topology/pcie.h"
#include "topology/source.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

constexpr size_t kMaxText = 4096;
constexpr int kMaxGpus = 64;
constexpr int64_t kMaxHostMemory = 64 * 1024 * kGiB;  // the largest of one host today is 32 TiB

constexpr char kGrammar[] =
    "the form is [N x] host [network], a host in brackets when there are several: "
    "\"2x[4xrtx3090 nvlink-pairs cpu:24c,256GiB] ib:100\". Host: GPUs joined by + "
    "(rtx3090+2xrtx3060:12GiB,pcie4x4), and nvlink, nvlink-pairs, nvswitch, cube-mesh, pcie:4x8, "
    "numa:2, switch:4 (GPUs on one PCIe switch), cpu:CORESc,MEMORY[,BANDWIDTH]. Network: "
    "NAME:GBIT[xNICS][@LATENCY], oversubscription:2";

absl::Status Wrong(absl::string_view part, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", part, "\": ", why, "; ", kGrammar));
}

struct Gpu {
  const GpuFacts* facts = nullptr;
  std::string memory;  // "" as the catalogue
  std::string pcie;
};

struct SyntheticHost {
  int count = 1;
  std::vector<Gpu> gpus;
  std::string nvlink;  // "nvlink", "nvlink-pairs", "nvswitch", "cube-mesh"
  std::string pcie;
  int numa_nodes = 0;
  int per_switch = 0;
  std::string cores, memory, bandwidth;
};

// Takes "12x" from the front; 1 where there is none. "x" alone or too many is an error.
absl::StatusOr<int> TakeCount(absl::string_view& text, int max) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  if (digits == 0 || digits == text.size() || text[digits] != 'x') return 1;
  int count = 0;
  if (!absl::SimpleAtoi(text.substr(0, digits), &count) || count < 1 || count > max) {
    return Wrong(text, absl::StrCat("wanted a number from 1 to ", max, " before the x"));
  }
  text.remove_prefix(digits + 1);
  return count;
}

// Slots have 1, 2, 4, 8 or 16 lanes (the specification knows 12 and 32, which no GPU has).
absl::Status CheckLanes(absl::string_view text, const PcieLink& link) {
  for (int lanes : {1, 2, 4, 8, 16}) {
    if (link.width == lanes) return absl::OkStatus();
  }
  return Wrong(text, "wanted 1, 2, 4, 8 or 16 lanes, as in 4x16 (generation 4)");
}

// Cards are sold with other memory than we know of (24 GB modded to 48), but not with any.
absl::Status CheckMemory(absl::string_view text, int64_t memory, const GpuFacts& facts) {
  if (memory == 0 || (memory >= 256 * kMiB && memory / 8 <= facts.memory_bytes)) {
    return absl::OkStatus();
  }
  return Wrong(text, absl::StrCat("wanted a memory of 256 MiB to ",
                                  FormatBytes(8 * facts.memory_bytes), " for the ", facts.name,
                                  " (the usual: ", FormatBytes(facts.memory_bytes), ")"));
}

absl::Status ReadGpuOption(absl::string_view option, Gpu& gpu) {
  absl::string_view pcie = option;
  if (absl::ConsumePrefix(&pcie, "pcie")) {
    absl::ConsumePrefix(&pcie, "=");
    const absl::StatusOr<PcieLink> link = ParsePcie(pcie);
    if (!link.ok()) return Wrong(option, link.status().message());
    RETURN_IF_ERROR(CheckLanes(option, *link));
    gpu.pcie = std::string(pcie);
    return absl::OkStatus();
  }
  if (const auto bytes = ParseBytes(option); !bytes.ok()) {
    return Wrong(option, "wanted a memory size such as 24GiB or pcie4x8");
  }
  gpu.memory = std::string(option);
  return absl::OkStatus();
}

// "2xrtx3060:12GiB,pcie4x4".
absl::Status ReadGpu(absl::string_view text, const GpuCatalogue& catalogue, SyntheticHost& host) {
  const absl::string_view whole = text;
  ASSIGN_OR_RETURN(const int count, TakeCount(text, kMaxGpus));
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  Gpu gpu;
  if (!parts.second.empty()) {
    for (absl::string_view option : absl::StrSplit(parts.second, ',')) {
      RETURN_IF_ERROR(ReadGpuOption(option, gpu));
    }
  }
  const int64_t memory = gpu.memory.empty() ? 0 : ParseBytes(gpu.memory).value_or(0);
  gpu.facts = catalogue.Find(parts.first, memory);
  if (gpu.facts == nullptr) gpu.facts = catalogue.Find(absl::StrCat("rtx", parts.first), memory);
  if (gpu.facts == nullptr) {
    std::vector<std::string> names = catalogue.Similar(parts.first);
    if (names.empty()) names = catalogue.Similar(absl::StrCat("rtx", parts.first));
    if (names.empty()) {
      return Wrong(whole,
                   "no such GPU in gpus.yaml (its names without blanks, such as rtx4090, "
                   "a100, h200, l40s)");
    }
    return absl::InvalidArgumentError(absl::StrCat("\"", whole,
                                                   "\": no such GPU in gpus.yaml; did you mean ",
                                                   absl::StrJoin(names, " or "), "?"));
  }
  RETURN_IF_ERROR(CheckMemory(whole, memory, *gpu.facts));
  if (host.gpus.size() + count > kMaxGpus) {
    return Wrong(whole, absl::StrCat("wanted at most ", kMaxGpus, " GPUs in a host"));
  }
  host.gpus.insert(host.gpus.end(), count, gpu);
  return absl::OkStatus();
}

// "32c,256GiB,200GB/s".
absl::Status ReadCpu(absl::string_view text, SyntheticHost& host) {
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int cores = 0;
    if (absl::EndsWith(part, "c") && absl::SimpleAtoi(part.substr(0, part.size() - 1), &cores) &&
        cores >= 1 && cores <= 65536) {
      host.cores = absl::StrCat(cores);
    } else if (ParseBandwidth(part).ok()) {
      host.bandwidth = std::string(part);
    } else if (const auto bytes = ParseBytes(part); bytes.ok()) {
      if (*bytes < 256 * kMiB || *bytes > kMaxHostMemory) {
        return Wrong(part,
                     absl::StrCat("wanted a memory of 256 MiB to ", FormatBytes(kMaxHostMemory)));
      }
      host.memory = std::string(part);
    } else {
      return Wrong(part, "wanted cores (32c), memory (256GiB) or bandwidth (200GB/s)");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Number(absl::string_view text, absl::string_view item, int max) {
  int value = 0;
  if (absl::SimpleAtoi(text, &value) && value >= 1 && value <= max) return value;
  return Wrong(item, absl::StrCat("wanted a number from 1 to ", max));
}

absl::Status ReadItem(absl::string_view item, const GpuCatalogue& catalogue, SyntheticHost& host) {
  absl::string_view value = item;
  if (absl::ConsumePrefix(&value, "cpu:")) return ReadCpu(value, host);
  if (absl::ConsumePrefix(&value, "pcie:")) {
    const absl::StatusOr<PcieLink> link = ParsePcie(value);
    if (!link.ok()) return Wrong(item, link.status().message());
    RETURN_IF_ERROR(CheckLanes(item, *link));
    host.pcie = std::string(value);
    return absl::OkStatus();
  }
  if (absl::ConsumePrefix(&value, "numa:")) {
    ASSIGN_OR_RETURN(host.numa_nodes, Number(value, item, kMaxGpus));
    return absl::OkStatus();
  }
  if (absl::ConsumePrefix(&value, "switch:")) {
    ASSIGN_OR_RETURN(host.per_switch, Number(value, item, kMaxGpus));
    return absl::OkStatus();
  }
  if (item == "nvlink" || item == "nvlink-pairs" || item == "nvswitch" || item == "cube-mesh") {
    host.nvlink = std::string(item);
    return absl::OkStatus();
  }
  for (absl::string_view gpu : absl::StrSplit(item, '+')) {
    RETURN_IF_ERROR(ReadGpu(gpu, catalogue, host));
  }
  return absl::OkStatus();
}

// A word that tells of the network: "ib:400x8@3us" or "oversubscription:2". False if it is none.
struct Network {
  std::string name, bandwidth, latency, oversubscription;
  int nics = 1;
};

absl::StatusOr<bool> ReadNetwork(absl::string_view word, std::vector<Network>& networks) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(word, absl::MaxSplits(':', 1));
  if (parts.first == "oversubscription" && !networks.empty()) {
    double ratio = 0;
    if (!absl::SimpleAtod(parts.second, &ratio) || !(ratio >= 1 && ratio <= 1000)) {
      return Wrong(word, "wanted a number from 1 to 1000");
    }
    networks.back().oversubscription = std::string(parts.second);
    return true;
  }
  const bool is_name = parts.first == "ib" || parts.first == "eth" || parts.first == "roce" ||
                       parts.first == "efa" || parts.first == "net";
  if (!is_name) return false;
  Network network;
  network.name = std::string(parts.first);
  std::pair<absl::string_view, absl::string_view> timed =
      absl::StrSplit(parts.second, absl::MaxSplits('@', 1));
  const std::pair<absl::string_view, absl::string_view> rate =
      absl::StrSplit(timed.first, absl::MaxSplits('x', 1));
  double gbit = 0;
  if (!absl::SimpleAtod(rate.first, &gbit) || !(gbit > 0 && gbit < 1e6)) {
    return Wrong(word, "wanted the rate of a NIC in Gbit/s, as in ib:400x8");
  }
  network.bandwidth = absl::StrCat(rate.first, "Gbit/s");
  if (!rate.second.empty()) {
    ASSIGN_OR_RETURN(network.nics, Number(rate.second, word, 1024));
  }
  if (!timed.second.empty()) {
    if (!ParseLatency(timed.second).ok()) return Wrong(word, "wanted a time after @, such as 3us");
    network.latency = std::string(timed.second);
  }
  networks.push_back(std::move(network));
  return true;
}

// The pairs of a DGX-1 with V100 and their links (NVIDIA DGX-1 whitepaper; its topo -m).
constexpr std::array<std::array<int, 3>, 16> kCubeMesh = {{{0, 1, 1},
                                                           {0, 2, 1},
                                                           {0, 3, 2},
                                                           {0, 4, 2},
                                                           {1, 2, 2},
                                                           {1, 3, 1},
                                                           {1, 5, 2},
                                                           {2, 3, 2},
                                                           {2, 6, 1},
                                                           {3, 7, 1},
                                                           {4, 5, 1},
                                                           {4, 6, 1},
                                                           {4, 7, 2},
                                                           {5, 6, 2},
                                                           {5, 7, 1},
                                                           {6, 7, 2}}};

absl::StatusOr<std::string> NvlinkYaml(const SyntheticHost& host) {
  const int count = static_cast<int>(host.gpus.size());
  if (host.nvlink.empty()) return "";
  for (const Gpu& gpu : host.gpus) {
    if (host.nvlink != "nvlink-pairs" && gpu.facts->nvlink_links == 0) {
      return Wrong(host.nvlink, absl::StrCat(gpu.facts->name, " has no NVLink"));
    }
  }
  if (count < 2) return Wrong(host.nvlink, "wanted at least two GPUs");
  std::string yaml = "    nvlink:\n";
  if (host.nvlink == "nvswitch") return yaml + "      - {gpus: all, switch: true}\n";
  if (host.nvlink == "nvlink") {
    const int links = host.gpus[0].facts->nvlink_links / (count - 1);
    if (links == 0) return Wrong(host.nvlink, "too many GPUs for links between every two");
    return absl::StrCat(yaml, "      - {gpus: all, links: ", links, "}\n");
  }
  if (host.nvlink == "cube-mesh") {
    if (count != 8) return Wrong(host.nvlink, "wanted eight GPUs");
    for (const auto& [a, b, links] : kCubeMesh) {
      absl::StrAppend(&yaml, "      - {gpus: [", a, ", ", b, "], links: ", links, "}\n");
    }
    return yaml;
  }
  int pairs = 0;
  for (int i = 0; i + 1 < count; ++i) {
    if (host.gpus[i].facts != host.gpus[i + 1].facts) continue;
    if (host.gpus[i].facts->nvlink_links == 0) continue;
    absl::StrAppend(&yaml, "      - {gpus: [", i, ", ", i + 1, "]}\n");
    ++pairs;
    ++i;
  }
  if (pairs == 0) return Wrong(host.nvlink, "no two neighbouring GPUs that are alike have NVLink");
  return yaml;
}

std::string GpuYaml(const SyntheticHost& host, int index) {
  const Gpu& gpu = host.gpus[index];
  std::string yaml = absl::StrCat("      - {name: \"", gpu.facts->name, "\"");
  absl::StrAppend(&yaml, ", memory: ",
                  gpu.memory.empty() ? absl::StrCat(gpu.facts->memory_bytes, "B") : gpu.memory);
  const std::string& pcie = gpu.pcie.empty() ? host.pcie : gpu.pcie;
  if (!pcie.empty()) absl::StrAppend(&yaml, ", pcie: ", pcie);
  if (host.numa_nodes > 0) {
    const int node = index * host.numa_nodes / static_cast<int>(host.gpus.size());
    absl::StrAppend(&yaml, ", numa_node: ", node);
  }
  if (host.per_switch > 0) {
    absl::StrAppend(&yaml, ", pci_bridges: [switch", index / host.per_switch, ", port", index, "]");
  }
  return yaml + "}\n";
}

absl::StatusOr<std::string> HostYaml(const SyntheticHost& host, int number) {
  int64_t vram = 0;
  for (const Gpu& gpu : host.gpus) vram += gpu.facts->memory_bytes;
  std::string yaml =
      absl::StrCat("  - name: ", number == 0 ? "node" : absl::StrCat("node-", number),
                   "\n    count: ", host.count,
                   "\n    cpu: {cores: ", host.cores.empty() ? "16" : host.cores, ", memory: ");
  const int64_t assumed = std::max(64 * kGiB, (2 * vram + 64 * kGiB - 1) / (64 * kGiB) * 64 * kGiB);
  absl::StrAppend(&yaml, host.memory.empty() ? absl::StrCat(assumed / kGiB, "GiB") : host.memory);
  if (!host.bandwidth.empty()) absl::StrAppend(&yaml, ", bandwidth: ", host.bandwidth);
  absl::StrAppend(&yaml, "}\n");
  if (!host.gpus.empty()) absl::StrAppend(&yaml, "    gpus:\n");
  for (size_t i = 0; i < host.gpus.size(); ++i) {
    absl::StrAppend(&yaml, GpuYaml(host, static_cast<int>(i)));
  }
  ASSIGN_OR_RETURN(const std::string nvlink, NvlinkYaml(host));
  return yaml + nvlink;
}

// Splits at blanks that are not within brackets.
absl::StatusOr<std::vector<std::string>> Words(absl::string_view text) {
  std::vector<std::string> words(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' ? 1 : c == ']' ? -1 : 0;
    if (depth < 0 || depth > 1) return Wrong(text, "the brackets do not match");
    if (depth == 0 && absl::ascii_isspace(c)) {
      if (!words.back().empty()) words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  if (depth != 0) return Wrong(text, "the brackets do not match");
  if (words.back().empty()) words.pop_back();
  return words;
}

struct Synthetic {
  std::vector<SyntheticHost> hosts;
  std::vector<Network> networks;
};

// "2x[4xrtx3090 nvlink-pairs]", perhaps several joined by "+".
absl::Status ReadBrackets(absl::string_view word, const GpuCatalogue& catalogue, Synthetic& out) {
  while (!word.empty()) {
    const absl::string_view whole = word;
    SyntheticHost host;
    ASSIGN_OR_RETURN(host.count, TakeCount(word, 10000));
    const size_t end = word.find(']');
    if (!absl::ConsumePrefix(&word, "[") || end == absl::string_view::npos) {
      return Wrong(whole, "wanted a host in brackets, as in 2x[rtx3090]");
    }
    for (absl::string_view item :
         absl::StrSplit(word.substr(0, end - 1), absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
      RETURN_IF_ERROR(ReadItem(item, catalogue, host));
    }
    out.hosts.push_back(std::move(host));
    word.remove_prefix(end);
    if (!word.empty() && (!absl::ConsumePrefix(&word, "+") || word.empty())) {
      return Wrong(whole, "wanted + and a further host, or a blank, behind the bracket");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Synthetic> Read(absl::string_view text, const GpuCatalogue& catalogue) {
  if (text.size() > kMaxText) return Wrong(text.substr(0, 40), "the line is too long");
  ASSIGN_OR_RETURN(const std::vector<std::string> words, Words(text));
  Synthetic out;
  bool bare = false;
  for (const std::string& word : words) {
    ASSIGN_OR_RETURN(const bool is_network, ReadNetwork(word, out.networks));
    if (is_network) continue;
    if (absl::StrContains(word, "[")) {
      if (!out.hosts.empty()) return Wrong(word, "wanted one list of hosts, joined by +");
      RETURN_IF_ERROR(ReadBrackets(word, catalogue, out));
      continue;
    }
    if (!bare && !out.hosts.empty()) return Wrong(word, "stands behind the brackets of a host");
    if (!bare) out.hosts.emplace_back();
    bare = true;
    RETURN_IF_ERROR(ReadItem(word, catalogue, out.hosts[0]));
  }
  if (out.hosts.empty()) return Wrong(text, "wanted a host");
  for (const SyntheticHost& host : out.hosts) {
    if (host.gpus.empty() && host.cores.empty() && host.memory.empty()) {
      return Wrong(text, "wanted GPUs or cpu: in every host");
    }
  }
  return out;
}

class SyntheticFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return "synthetic line"; }
  bool Matches(absl::string_view text) const override { return LooksSynthetic(text); }
  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    const absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
    if (!catalogue.ok()) return catalogue.status();
    absl::StatusOr<Topology> topology = ParseSynthetic(text, *catalogue);
    if (!topology.ok() && path != text) return Annotate(topology.status(), path);
    return topology;
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeSyntheticFormat() {
  return std::make_unique<SyntheticFormat>();
}

bool LooksSynthetic(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  if (text.empty() || text.size() > kMaxText) return false;
  bool has_digit = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    has_digit = has_digit || absl::ascii_isdigit(c);
    const bool number_point = c == '.' && i > 0 && absl::ascii_isdigit(text[i - 1]);
    // "/" is that of GB/s.
    const bool per_second = c == '/' && i + 1 < text.size() && text[i + 1] == 's';
    if (!absl::ascii_isalnum(c) && !absl::StrContains(" +-:,[]@=", absl::string_view(&c, 1)) &&
        !number_point && !per_second) {
      return false;
    }
  }
  return has_digit;
}

absl::StatusOr<std::string> SyntheticYaml(absl::string_view text, const GpuCatalogue& catalogue) {
  ASSIGN_OR_RETURN(const Synthetic machines, Read(text, catalogue));
  std::string yaml = absl::StrCat("source: \"", absl::StripAsciiWhitespace(text), "\"\n");
  absl::StrAppend(&yaml, "hosts:\n");
  std::string notes;
  for (size_t i = 0; i < machines.hosts.size(); ++i) {
    const SyntheticHost& host = machines.hosts[i];
    ASSIGN_OR_RETURN(const std::string one, HostYaml(host, static_cast<int>(i)));
    absl::StrAppend(&yaml, one);
    if (host.cores.empty() || host.memory.empty()) {
      notes =
          "  - \"cpu: cores or memory are not given; 16 cores, twice the GPUs' memory assumed\"\n";
    }
  }
  if (!machines.networks.empty()) absl::StrAppend(&yaml, "fabrics:\n");
  for (const Network& network : machines.networks) {
    absl::StrAppend(&yaml, "  - {name: ", network.name, ", nic_bandwidth: ", network.bandwidth,
                    ", nics: ", network.nics);
    if (!network.latency.empty()) absl::StrAppend(&yaml, ", latency: ", network.latency);
    if (!network.oversubscription.empty()) {
      absl::StrAppend(&yaml, ", oversubscription: ", network.oversubscription);
    }
    absl::StrAppend(&yaml, "}\n");
  }
  if (!notes.empty()) absl::StrAppend(&yaml, "notes:\n", notes);
  return yaml;
}

absl::StatusOr<Topology> ParseSynthetic(const std::string& text, const GpuCatalogue& catalogue) {
  ASSIGN_OR_RETURN(const std::string yaml, SyntheticYaml(text, catalogue));
  const absl::StatusOr<Topology> topology = ParseClusterFile(yaml, "the line", catalogue);
  if (!topology.ok()) return Wrong(text, topology.status().message());
  return topology;
}

}  // namespace tprun
