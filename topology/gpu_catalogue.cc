#include "topology/gpu_catalogue.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/pcie.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

// "NVIDIA A100-SXM4-80GB" -> "a100sxm480gb".
std::string Normalise(absl::string_view name) {
  std::vector<std::string> words;
  const std::string lower = absl::AsciiStrToLower(name);
  for (absl::string_view word : absl::StrSplit(lower, absl::ByAnyChar(" -_"), absl::SkipEmpty())) {
    if (word != "nvidia" && word != "geforce" && word != "tesla") words.emplace_back(word);
  }
  return absl::StrJoin(words, "");
}

absl::Status ReadNvlink(const YamlMap& gpu, GpuFacts& facts) {
  if (!gpu.Has("nvlink")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const YamlMap nvlink, YamlMap::Open(gpu.path(), gpu.Get("nvlink"), "nvlink",
                                                       {"generation", "links", "bandwidth"}));
  ASSIGN_OR_RETURN(facts.nvlink_generation, nvlink.IntOr("generation", 1, 9, 0));
  ASSIGN_OR_RETURN(facts.nvlink_links, nvlink.Int("links", 1, 64));
  ASSIGN_OR_RETURN(facts.nvlink_bandwidth_bytes_per_s, nvlink.Bandwidth("bandwidth"));
  return absl::OkStatus();
}

absl::Status ReadPcie(const YamlMap& gpu, GpuFacts& facts) {
  ASSIGN_OR_RETURN(const std::string pcie, gpu.String("pcie"));
  const absl::StatusOr<PcieLink> link = ParsePcie(pcie);
  if (!link.ok()) return gpu.Error("pcie", link.status().message());
  facts.pcie_generation = link->generation;
  facts.pcie_width = link->width;
  if (gpu.Has("pcie_p2p")) {
    ASSIGN_OR_RETURN(facts.pcie_peer_access, gpu.BoolOr("pcie_p2p", false));
  }
  return absl::OkStatus();
}

absl::Status ReadChip(const YamlMap& gpu, GpuFacts& facts) {
  ASSIGN_OR_RETURN(facts.device_class, gpu.StringOr("class", ""));
  ASSIGN_OR_RETURN(facts.architecture, gpu.StringOr("architecture", ""));
  ASSIGN_OR_RETURN(facts.compute_capability, gpu.String("compute_capability"));
  ASSIGN_OR_RETURN(facts.peak_ops_per_s, gpu.OpsByType("peak"));
  ASSIGN_OR_RETURN(facts.l2_bytes, gpu.BytesOr("l2", 0));
  ASSIGN_OR_RETURN(facts.multiprocessors, gpu.IntOr("sms", 1, 10000, 0));
  ASSIGN_OR_RETURN(facts.tdp_w, gpu.IntOr("tdp_w", 1, 100000, 0));
  return absl::OkStatus();
}

absl::StatusOr<GpuFacts> ReadFacts(const std::string& path, const YAML::Node& node) {
  ASSIGN_OR_RETURN(const YamlMap gpu,
                   YamlMap::Open(path, node, "gpu",
                                 {"name", "aliases", "class", "architecture", "pci_ids", "memory",
                                  "unified", "bandwidth", "compute_capability", "pcie", "pcie_p2p",
                                  "nvlink", "peak", "l2", "sms", "tdp_w", "doubt", "source"}));
  GpuFacts facts;
  ASSIGN_OR_RETURN(facts.name, gpu.String("name"));
  ASSIGN_OR_RETURN(facts.aliases, gpu.Texts("aliases", 16));
  ASSIGN_OR_RETURN(facts.pci_ids, gpu.Texts("pci_ids", 16));
  ASSIGN_OR_RETURN(facts.memory_bytes, gpu.Bytes("memory"));
  ASSIGN_OR_RETURN(facts.unified_memory, gpu.BoolOr("unified", false));
  ASSIGN_OR_RETURN(facts.memory_bandwidth_bytes_per_s, gpu.Bandwidth("bandwidth"));
  RETURN_IF_ERROR(ReadPcie(gpu, facts));
  RETURN_IF_ERROR(ReadNvlink(gpu, facts));
  RETURN_IF_ERROR(ReadChip(gpu, facts));
  ASSIGN_OR_RETURN(facts.doubt, gpu.StringOr("doubt", ""));
  ASSIGN_OR_RETURN(facts.source, gpu.StringOr("source", ""));
  return facts;
}

absl::StatusOr<GpuCatalogue> ReadCatalogue(const std::string& path, const YAML::Node& root) {
  ASSIGN_OR_RETURN(const YamlMap map, YamlMap::Open(path, root, "GPU catalogue", {"gpus"}));
  ASSIGN_OR_RETURN(const auto nodes, YamlList(path, map.Get("gpus"), "gpus", 1000));
  std::vector<GpuFacts> gpus;
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(GpuFacts facts, ReadFacts(path, node));
    gpus.push_back(std::move(facts));
  }
  return GpuCatalogue(std::move(gpus));
}

// Letters to insert, delete, replace or swap with a neighbour to make `b` of `a` (optimal string
// alignment).
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

std::string InstalledDirectory() {
  std::array<char, 4096> buffer;
  const ssize_t length = readlink("/proc/self/exe", buffer.data(), buffer.size());
  if (length <= 0 || length == static_cast<ssize_t>(buffer.size())) return "";
  const std::string program(buffer.data(), length);
  return absl::StrCat(program.substr(0, program.rfind('/')), "/../share/tprun/clusters");
}

}  // namespace

absl::StatusOr<std::string> ClustersDirectory() {
  std::vector<std::string> candidates;
  const char* chosen = std::getenv("TPRUN_CLUSTERS");
  if (chosen != nullptr && *chosen != '\0') {
    candidates = {chosen};
  } else {
    candidates = {InstalledDirectory(), TPRUN_CLUSTERS_DIR};
  }
  for (const std::string& folder : candidates) {
    if (!folder.empty() && FileExists(JoinPath(folder, "gpus.yaml"))) return folder;
  }
  return absl::NotFoundError(
      absl::StrCat("no folder with gpus.yaml; looked at: ", absl::StrJoin(candidates, ", "),
                   "; set TPRUN_CLUSTERS to the folder \"clusters\""));
}

GpuCatalogue::GpuCatalogue(std::vector<GpuFacts> gpus) : gpus_(std::move(gpus)) {
  for (size_t i = 0; i < gpus_.size(); ++i) {
    const int place = static_cast<int>(i);
    std::set<std::string> names = {Normalise(gpus_[i].name)};
    for (const std::string& alias : gpus_[i].aliases) names.insert(Normalise(alias));
    for (const std::string& name : names) by_name_[name].push_back(place);
    for (const std::string& id : gpus_[i].pci_ids) by_pci_id_[id].push_back(place);
  }
}

absl::StatusOr<GpuCatalogue> GpuCatalogue::Read(const std::string& path) {
  ASSIGN_OR_RETURN(const YAML::Node root, LoadYaml(path));
  try {
    return ReadCatalogue(path, root);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

absl::StatusOr<GpuCatalogue> GpuCatalogue::ReadDefault() {
  ASSIGN_OR_RETURN(const std::string folder, ClustersDirectory());
  return Read(JoinPath(folder, "gpus.yaml"));
}

const GpuFacts* GpuCatalogue::Closest(const std::vector<int>& places, int64_t memory_bytes) const {
  const GpuFacts* best = nullptr;
  for (int place : places) {
    const GpuFacts& gpu = gpus_[place];
    const bool closer =
        best != nullptr && memory_bytes > 0 &&
        std::abs(gpu.memory_bytes - memory_bytes) < std::abs(best->memory_bytes - memory_bytes);
    if (best == nullptr || closer) best = &gpu;
  }
  return best;
}

const GpuFacts* GpuCatalogue::Find(absl::string_view name, int64_t memory_bytes) const {
  const auto found = by_name_.find(Normalise(name));
  return found == by_name_.end() ? nullptr : Closest(found->second, memory_bytes);
}

std::vector<std::string> GpuCatalogue::Similar(absl::string_view name) const {
  constexpr size_t kMost = 3;
  const std::string wanted = Normalise(name).substr(0, 64);
  std::vector<std::pair<size_t, std::string>> near;
  for (const auto& [known, places] : by_name_) {
    // The beginning of a name is near too: "rtx40".
    const bool begins = wanted.size() >= 3 && absl::StartsWith(known, wanted);
    const size_t distance = begins ? 1 : Distance(wanted, known);
    if (distance <= std::max<size_t>(1, std::min(wanted.size(), known.size()) / 3)) {
      near.emplace_back(distance, known);
    }
  }
  std::stable_sort(near.begin(), near.end(), [&](const auto& a, const auto& b) {
    return std::make_pair(a.first, a.second.size()) < std::make_pair(b.first, b.second.size());
  });
  std::vector<std::string> names;
  for (const auto& [distance, known] : near) {
    if (names.size() < kMost && distance == near[0].first) names.push_back(known);
  }
  return names;
}

const GpuFacts* GpuCatalogue::FindPciId(absl::string_view pci_id, int64_t memory_bytes) const {
  const auto found = by_pci_id_.find(absl::AsciiStrToLower(pci_id));
  return found == by_pci_id_.end() ? nullptr : Closest(found->second, memory_bytes);
}

const GpuFacts* GpuCatalogue::Nearest(absl::string_view compute_capability,
                                      int64_t memory_bytes) const {
  std::vector<int> alike;
  std::vector<int> all;
  for (size_t i = 0; i < gpus_.size(); ++i) {
    all.push_back(static_cast<int>(i));
    if (gpus_[i].compute_capability == compute_capability) alike.push_back(all.back());
  }
  return Closest(alike.empty() ? all : alike, memory_bytes);
}

}  // namespace tprun
