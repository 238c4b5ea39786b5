#include "topology/cluster_file.h"

#include <algorithm>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/file.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "topology/cluster_host.h"
#include "topology/cluster_links.h"
#include "topology/cluster_listed.h"
#include "topology/source.h"
#include "topology/yaml_map.h"

namespace tprun {
namespace {

constexpr size_t kMaxHosts = 10000;     // listed
constexpr size_t kMaxDevices = 200000;  // of listed hosts

// Reads one file into a Topology: hosts first, then the devices in the order Topology wants, then
// the links, which name devices.
class ClusterReader {
 public:
  // `joined`: see ListedHosts::names; empty for a file as it is.
  ClusterReader(std::string path, const GpuCatalogue& catalogue,
                std::vector<std::vector<std::string>> joined)
      : path_(std::move(path)), catalogue_(catalogue), joined_(std::move(joined)) {}

  absl::StatusOr<Topology> Read(const YAML::Node& root) {
    ASSIGN_OR_RETURN(const YamlMap map,
                     YamlMap::Open(path_, root, "cluster",
                                   {"description", "hosts", "network", "fabrics", "links", "source",
                                    "derive_links", "notes"}));
    ASSIGN_OR_RETURN(const std::string description, map.StringOr("description", ""));
    topology_.source = BaseName(path_);
    if (!description.empty()) absl::StrAppend(&topology_.source, " (", description, ")");
    ASSIGN_OR_RETURN(topology_.source, map.StringOr("source", topology_.source));
    ASSIGN_OR_RETURN(topology_.notes, map.Texts("notes", 1000));
    RETURN_IF_ERROR(ReadHosts(map));
    AddDevices();
    RETURN_IF_ERROR(ReadClusterLinks(map, topology_));
    RETURN_IF_ERROR(ReadClusterFabrics(map, topology_));
    ASSIGN_OR_RETURN(const bool derive, map.BoolOr("derive_links", true));
    if (derive) RETURN_IF_ERROR(Derive(map));
    return std::move(topology_);
  }

 private:
  absl::Status ReadHosts(const YamlMap& map) {
    if (!map.Has("hosts")) return map.Error("hosts", "wanted a list of hosts, found nothing");
    ASSIGN_OR_RETURN(const auto nodes, YamlList(path_, map.Get("hosts"), "hosts", kMaxHosts));
    if (nodes.empty()) return map.Error("hosts", "wanted at least one host");
    const std::set<std::string> single = HostsOfLinks(map);
    joined_.resize(nodes.size());
    for (size_t i = 0; i < nodes.size(); ++i) {
      const YAML::Node& node = nodes[i];
      std::vector<std::string> notes;
      ASSIGN_OR_RETURN(ClusterHost host, ReadClusterHost(path_, node, catalogue_, notes));
      Collect(notes, host.host.name, std::max<size_t>(1, joined_[i].size()));
      if (!joined_[i].empty()) {
        RETURN_IF_ERROR(AddJoined(node, std::move(host), joined_[i], single));
        continue;
      }
      if (host.host.name.empty()) {
        host.host.name = nodes.size() == 1 && host.host.count == 1 ? "host" : "node";
        if (host.host.count == 1 && nodes.size() > 1) {
          absl::StrAppend(&host.host.name, hosts_.size() + left_out_);
        }
      }
      RETURN_IF_ERROR(AddHost(node, std::move(host), single));
    }
    AddNotes();
    return CheckNumberedNames(map);
  }

  // What is said of many hosts alike becomes one note, with the first host's name.
  void Collect(const std::vector<std::string>& notes, const std::string& host, size_t hosts) {
    for (const std::string& note : notes) {
      absl::string_view text = note;
      if (!host.empty() && absl::ConsumePrefix(&text, host)) absl::ConsumePrefix(&text, "/");
      const auto [place, is_new] = note_places_.emplace(text, notes_.size());
      if (is_new) notes_.push_back({note, 0});
      notes_[place->second].second += static_cast<int>(hosts);
    }
  }

  void AddNotes() {
    for (const auto& [note, count] : notes_) {
      topology_.notes.push_back(
          count == 1 ? note : absl::StrCat(note, " (and ", count - 1, " more alike)"));
    }
  }

  // Equal hosts stay one entry, unless a link names a single one of them.
  absl::Status AddHost(const YAML::Node& node, ClusterHost host,
                       const std::set<std::string>& single) {
    const int count = host.host.count;
    bool apart = false;
    for (auto it = single.lower_bound(host.host.name); count > 1 && it != single.end(); ++it) {
      if (it->compare(0, host.host.name.size(), host.host.name) != 0) break;
      apart = apart || NumberAfter(*it, host.host.name, count);
    }
    const size_t entries = apart ? count : 1;
    devices_ += entries * (1 + host.gpus.size());
    if (hosts_.size() + entries > kMaxHosts || devices_ > kMaxDevices) {
      return YamlError(path_, node,
                       absl::StrCat("hosts: wanted at most ", kMaxHosts, " listed hosts and ",
                                    kMaxDevices, " devices"));
    }
    for (size_t i = 0; i < entries; ++i) {
      ClusterHost copy = host;
      if (apart) {
        absl::StrAppend(&copy.host.name, i);
        copy.host.count = 1;
      }
      if (!names_.emplace(copy.host.name, copy.host.count).second) {
        return YamlError(path_, node,
                         absl::StrCat("hosts: the name \"", copy.host.name, "\" is there twice"));
      }
      hosts_.push_back(std::move(copy));
    }
    return absl::OkStatus();
  }

  // Listed hosts that `host` stands for. Called n0, n1, ... to the last they are what a count would
  // make.
  absl::Status AddJoined(const YAML::Node& node, ClusterHost host,
                         const std::vector<std::string>& names,
                         const std::set<std::string>& single) {
    if (host.host.count != 1) return YamlError(path_, node, "hosts: counted and listed");
    if (hosts_.size() + left_out_ + names.size() > kMaxHosts) {
      return YamlError(path_, node, absl::StrCat("hosts: wanted at most ", kMaxHosts));
    }
    if (const std::string prefix = NumberedPrefix(names); !prefix.empty()) {
      host.host.name = prefix;
      host.host.count = static_cast<int>(names.size());
      const size_t before = hosts_.size();
      RETURN_IF_ERROR(AddHost(node, std::move(host), single));
      left_out_ += names.size() - (hosts_.size() - before);
      return absl::OkStatus();
    }
    for (const std::string& name : names) {
      host.host.name = name;
      RETURN_IF_ERROR(AddHost(node, host, single));
    }
    return absl::OkStatus();
  }

  // "n" of n0, n1, n2, ...
  static std::string NumberedPrefix(const std::vector<std::string>& names) {
    if (names[0].back() != '0') return "";
    const std::string prefix = names[0].substr(0, names[0].size() - 1);
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] != absl::StrCat(prefix, i)) return "";
    }
    return prefix;
  }

  // Whether `name` is that of one of `count` hosts that begin with `prefix`.
  static bool NumberAfter(absl::string_view name, absl::string_view prefix, int count) {
    int number = 0;
    const absl::string_view digits = name.substr(prefix.size());
    return absl::SimpleAtoi(digits, &number) && number >= 0 && number < count &&
           digits == absl::StrCat(number);
  }

  // "node1" beside three hosts called "node" would be there twice.
  absl::Status CheckNumberedNames(const YamlMap& map) {
    for (const auto& [name, count] : names_) {
      for (size_t split = name.size(); split > 0 && absl::ascii_isdigit(name[split - 1]); --split) {
        const auto type = names_.find(name.substr(0, split - 1));
        if (type == names_.end() || type->second == 1) continue;
        if (!NumberAfter(name, type->first, type->second)) continue;
        return map.Error(
            "hosts", absl::StrCat("the name \"", name, "\" is there twice: one of ", type->second,
                                  " hosts \"", type->first, "\" is called so"));
      }
    }
    return absl::OkStatus();
  }

  void AddDevices() {
    for (size_t i = 0; i < hosts_.size(); ++i) {
      topology_.hosts.push_back(hosts_[i].host);
      if (hosts_[i].cpu.id.empty()) continue;
      hosts_[i].cpu.host = static_cast<int>(i);
      topology_.devices.push_back(std::move(hosts_[i].cpu));
    }
    for (size_t i = 0; i < hosts_.size(); ++i) {
      const int first = static_cast<int>(topology_.devices.size());
      for (DeviceInfo& gpu : hosts_[i].gpus) {
        gpu.host = static_cast<int>(i);
        topology_.devices.push_back(std::move(gpu));
      }
      for (Link& link : hosts_[i].nvlinks) {
        link.a += first;
        link.b += first;
        topology_.links.push_back(std::move(link));
      }
      for (Nic& nic : hosts_[i].nics) {
        nic.host = static_cast<int>(i);
        std::map<int, LinkKind> paths;
        for (const auto& [gpu, kind] : nic.gpu_paths) paths[gpu + first] = kind;
        nic.gpu_paths = std::move(paths);
        topology_.nics.push_back(std::move(nic));
      }
    }
  }

  bool HasNetworkLink() const {
    return std::any_of(topology_.links.begin(), topology_.links.end(),
                       [](const Link& link) { return link.kind == LinkKind::kNetwork; });
  }

  absl::Status Derive(const YamlMap& map) {
    CompleteTopology(catalogue_, topology_);
    if (CountHosts(topology_) > 1 && topology_.fabrics.empty() && !HasNetworkLink()) {
      return map.Error("network", absl::StrCat("there are ", CountHosts(topology_),
                                               " hosts; wanted what joins them, such as "
                                               "{bandwidth: 100Gbit/s, latency: 5us}"));
    }
    return absl::OkStatus();
  }

  std::string path_;
  const GpuCatalogue& catalogue_;
  std::vector<std::vector<std::string>> joined_;
  size_t left_out_ = 0;  // hosts that are listed in the file and counted here
  std::vector<ClusterHost> hosts_;
  std::map<std::string, int> names_;                // with their counts
  std::vector<std::pair<std::string, int>> notes_;  // and how often each is said
  std::map<std::string, size_t> note_places_;       // by what they say, without the host
  size_t devices_ = 0;
  Topology topology_;
};

// yaml-cpp takes up to two seconds for a megabyte.
absl::Status CheckSize(absl::string_view text, const std::string& path) {
  constexpr size_t kMaxBytes = 2 * kMiB;
  if (text.size() <= kMaxBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": wanted a cluster file of at most ", FormatBytes(kMaxBytes), ", found ",
                   FormatBytes(text.size()), "; write equal hosts once, with count:"));
}

absl::StatusOr<Topology> ReadCluster(const std::string& text, const std::string& path,
                                     const GpuCatalogue& catalogue,
                                     std::vector<std::vector<std::string>> joined) {
  ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(text, path));
  try {
    return ClusterReader(path, catalogue, std::move(joined)).Read(root);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
}

// A cluster file has its keys at the start of a line; one in braces is the YAML that JSON is.
class ClusterYamlFormat : public TopologyFormat {
 public:
  absl::string_view name() const override { return "cluster file"; }
  bool is_whole() const override { return true; }
  bool Matches(absl::string_view text) const override {
    absl::ConsumePrefix(&text, "\xEF\xBB\xBF");
    const absl::string_view start = absl::StripLeadingAsciiWhitespace(text);
    if (absl::StartsWith(start, "<")) return false;
    if (absl::StartsWith(start, "{")) return absl::StrContains(start, "hosts");
    for (absl::string_view line : absl::StrSplit(text, '\n')) {
      for (absl::string_view key : {"hosts:", "description:", "network:", "links:"}) {
        if (absl::StartsWith(line, key)) return true;
      }
    }
    return false;
  }
  absl::StatusOr<Topology> Parse(const std::string& text, const std::string& path) const override {
    // A file that carries all its numbers needs no catalogue.
    absl::StatusOr<GpuCatalogue> catalogue = GpuCatalogue::ReadDefault();
    if (catalogue.status().code() == absl::StatusCode::kNotFound) catalogue = GpuCatalogue();
    if (!catalogue.ok()) return catalogue.status();
    return ParseClusterFile(text, path, *catalogue);
  }
};

}  // namespace

std::unique_ptr<TopologyFormat> MakeClusterYamlFormat() {
  return std::make_unique<ClusterYamlFormat>();
}

absl::StatusOr<Topology> ParseClusterFile(const std::string& text, const std::string& path,
                                          const GpuCatalogue& catalogue) {
  const std::optional<ListedHosts> listed = JoinListedHosts(text);
  if (listed.has_value() && CheckSize(listed->text, path).ok()) {
    absl::StatusOr<Topology> topology = ReadCluster(listed->text, path, catalogue, listed->names);
    if (topology.ok()) return topology;
    // The whole text has the right lines for what is wrong with it, if it can be read.
    if (!CheckSize(text, path).ok()) {
      return absl::Status(topology.status().code(),
                          absl::StrCat(topology.status().message(),
                                       " (lines are those of the file without the hosts that are "
                                       "like the one before)"));
    }
  }
  RETURN_IF_ERROR(CheckSize(text, path));
  return ReadCluster(text, path, catalogue, {});
}

absl::StatusOr<Topology> ReadClusterFile(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64 * kMiB));
  return ClusterYamlFormat().Parse(text, path);
}

}  // namespace tprun
