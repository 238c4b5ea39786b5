#include "topology/gpu_catalogue.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/file.h"
#include "base/status_macros.h"
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
  ASSIGN_OR_RETURN(const YamlMap nvlink,
                   YamlMap::Open(gpu.path(), gpu.Get("nvlink"), "nvlink", {"links", "bandwidth"}));
  ASSIGN_OR_RETURN(facts.nvlink_links, nvlink.Int("links", 1, 64));
  ASSIGN_OR_RETURN(facts.nvlink_bandwidth_bytes_per_s, nvlink.Bandwidth("bandwidth"));
  return absl::OkStatus();
}

absl::StatusOr<GpuFacts> ReadFacts(const std::string& path, const YAML::Node& node) {
  ASSIGN_OR_RETURN(const YamlMap gpu,
                   YamlMap::Open(path, node, "gpu",
                                 {"name", "aliases", "memory", "bandwidth", "compute_capability",
                                  "pcie", "nvlink", "doubt", "source"}));
  GpuFacts facts;
  ASSIGN_OR_RETURN(facts.name, gpu.String("name"));
  if (gpu.Has("aliases")) {
    ASSIGN_OR_RETURN(const auto aliases, YamlList(path, gpu.Get("aliases"), "aliases", 16));
    for (const YAML::Node& alias : aliases) {
      if (!alias.IsScalar()) return YamlError(path, alias, "aliases: wanted texts");
      facts.aliases.push_back(alias.Scalar());
    }
  }
  ASSIGN_OR_RETURN(facts.memory_bytes, gpu.Bytes("memory"));
  ASSIGN_OR_RETURN(facts.memory_bandwidth_bytes_per_s, gpu.Bandwidth("bandwidth"));
  ASSIGN_OR_RETURN(facts.compute_capability, gpu.String("compute_capability"));
  ASSIGN_OR_RETURN(const std::string pcie, gpu.String("pcie"));
  const absl::StatusOr<PcieLink> link = ParsePcie(pcie);
  if (!link.ok()) return gpu.Error("pcie", link.status().message());
  facts.pcie_generation = link->generation;
  facts.pcie_width = link->width;
  RETURN_IF_ERROR(ReadNvlink(gpu, facts));
  return facts;
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

absl::StatusOr<GpuCatalogue> GpuCatalogue::Read(const std::string& path) {
  ASSIGN_OR_RETURN(const YAML::Node root, LoadYaml(path));
  ASSIGN_OR_RETURN(const YamlMap map, YamlMap::Open(path, root, "GPU catalogue", {"gpus"}));
  ASSIGN_OR_RETURN(const auto nodes, YamlList(path, map.Get("gpus"), "gpus", 1000));
  std::vector<GpuFacts> gpus;
  for (const YAML::Node& node : nodes) {
    ASSIGN_OR_RETURN(GpuFacts facts, ReadFacts(path, node));
    gpus.push_back(std::move(facts));
  }
  return GpuCatalogue(std::move(gpus));
}

absl::StatusOr<GpuCatalogue> GpuCatalogue::ReadDefault() {
  ASSIGN_OR_RETURN(const std::string folder, ClustersDirectory());
  return Read(JoinPath(folder, "gpus.yaml"));
}

const GpuFacts* GpuCatalogue::Find(absl::string_view name, int64_t memory_bytes) const {
  const std::string wanted = Normalise(name);
  const GpuFacts* best = nullptr;
  for (const GpuFacts& gpu : gpus_) {
    bool matches = Normalise(gpu.name) == wanted;
    for (const std::string& alias : gpu.aliases) matches = matches || Normalise(alias) == wanted;
    if (!matches) continue;
    const bool closer =
        best != nullptr && memory_bytes > 0 &&
        std::abs(gpu.memory_bytes - memory_bytes) < std::abs(best->memory_bytes - memory_bytes);
    if (best == nullptr || closer) best = &gpu;
  }
  return best;
}

}  // namespace tprun
