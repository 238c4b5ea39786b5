#include "topology/cluster_listed.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "topology/cluster_file.h"
#include "topology/format_topology.h"
#include "topology/gpu_catalogue.h"

namespace tprun {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kHost[] =
    "  - name: NAME\n"
    "    cpu: {cores: 8, memory: 64GiB, bandwidth: 50GB/s}\n"
    "    gpus:\n"
    "      - {name: A, memory: 24GiB, bandwidth: 900GB/s, pcie: 4x16}\n"
    "      - {name: A, memory: 24GiB, bandwidth: 900GB/s, pcie: 4x16}\n";

std::string Listed(const std::vector<std::string>& names, absl::string_view host = kHost) {
  std::string text = "hosts:\n";
  for (const std::string& name : names) {
    absl::StrAppend(&text, absl::StrReplaceAll(host, {{"NAME", name}}));
  }
  return text + "network: {bandwidth: 100Gbit/s}\n";
}

Topology Read(const std::string& text) {
  const auto topology = ParseClusterFile(text, "box.yaml", GpuCatalogue());
  EXPECT_TRUE(topology.ok()) << topology.status() << "\n" << text;
  return topology.value_or(Topology());
}

TEST(JoinListedHosts, LeavesOutThoseThatDifferInTheNameAlone) {
  const std::string more = absl::StrReplaceAll(kHost, {{"NAME", "c1"}, {"64GiB", "32GiB"}});
  const std::string text =
      absl::StrReplaceAll(Listed({"a1", "b2", "a3", "d4", "e5"}),
                          {{absl::StrReplaceAll(kHost, {{"NAME", "d4"}}), more}});
  const auto joined = JoinListedHosts(text);
  ASSERT_TRUE(joined.has_value());
  EXPECT_THAT(joined->names, ElementsAre(ElementsAre("a1", "b2", "a3"), IsEmpty(), IsEmpty()));
  EXPECT_EQ(joined->text,
            absl::StrReplaceAll(Listed({"a1", "d4", "e5"}),
                                {{absl::StrReplaceAll(kHost, {{"NAME", "d4"}}), more}}));
}

TEST(JoinListedHosts, LinesThatSayNothingKeepNoHostApart) {
  const std::string all = Listed({"n0", "n1", "n2"});
  const size_t end = all.find("network:");
  const std::string first = all.substr(end) + all.substr(0, end);  // the hosts come last
  for (const std::string& text :
       {all, all.substr(0, end) + "\n# the network\n" + all.substr(end),
        absl::StrReplaceAll(all, {{"  - name: n1", "  # another\n\n  - name: n1"}}), first,
        first + "\n", first.substr(0, first.size() - 1)}) {
    const auto joined = JoinListedHosts(text);
    ASSERT_TRUE(joined.has_value()) << text;
    EXPECT_THAT(joined->names, ElementsAre(ElementsAre("n0", "n1", "n2"))) << text;
    EXPECT_EQ(Read(text).hosts.size(), 1) << text;
  }
}

// Each as the hosts were before and after reading them together.
TEST(JoinListedHosts, GivesWhatTheWholeFileGives) {
  const std::string braces = "  - {name: NAME, cpu: {cores: 8, memory: 64GiB}}\n";
  const std::string unindented =
      absl::StrReplaceAll(kHost, {{"\n  ", "\n"}, {"  - name", "- name"}});
  for (const std::string& text :
       {Listed({"n7", "n3", "x1"}), Listed({"n1", "n2", "n3"}), Listed({"a0", "b1"}, braces),
        Listed({"a01", "b02"}, unindented), Listed({"n0", "n1", "n3"}),
        "# ours\n" + Listed({"a1", "b2"}) +
            "links:\n  - {a: \"a1/cuda:0\", b: \"b2/cuda:0\", kind: "
            "network, bandwidth: 10GB/s}\n"}) {
    ASSERT_TRUE(JoinListedHosts(text).has_value()) << text;
    // A tab in a comment: read as it is.
    const std::string plain = text + "#\t\n";
    ASSERT_FALSE(JoinListedHosts(plain).has_value());
    EXPECT_EQ(TopologyYaml(Read(text)), TopologyYaml(Read(plain))) << text;
  }
}

TEST(JoinListedHosts, NumberedOnesAreWhatACountMakes) {
  const Topology listed = Read(Listed({"n0", "n1", "n2"}));
  const std::string counted =
      absl::StrReplaceAll(Listed({"n"}), {{"name: n\n", "name: n\n    count: 3\n"}});
  EXPECT_EQ(TopologyYaml(listed), TopologyYaml(Read(counted)));
  ASSERT_EQ(listed.hosts.size(), 1);
  EXPECT_EQ(listed.hosts[0].count, 3);
  EXPECT_TRUE(LocateDevice(listed, "n2/cuda:1").ok());
  // A link or a network of one of them takes them apart.
  const Topology linked =
      Read(Listed({"n0", "n1", "n2"}) +
           "links:\n  - {a: \"n0/cuda:0\", b: \"n1/cuda:0\", kind: network, bandwidth: 10GB/s}\n");
  EXPECT_EQ(linked.hosts.size(), 3);
  const Topology networks =
      Read(Listed({"n0", "n1", "n2"}) +
           "fabrics:\n  - {name: ib, bandwidth: 50GB/s, hosts: [\"n0\", \"n2\"]}\n");
  EXPECT_EQ(networks.hosts.size(), 3);
}

TEST(JoinListedHosts, StaysAwayFromWhatLinesDoNotTell) {
  const std::string usual = Listed({"a1", "b2"});
  ASSERT_TRUE(JoinListedHosts(usual).has_value());
  for (const std::string& text :
       {std::string(), std::string("hosts:\n"), Listed({"a1"}), Listed({"yes", "no"}),
        Listed({"1", "2"}), Listed({"\"a1\"", "\"b2\""}), Listed({"a1 # x", "b2 # x"}),
        absl::StrReplaceAll(usual, {{"hosts:", "hosts: # ours"}}), "---\n" + usual + "\n---\n",
        absl::StrReplaceAll(usual, {{"name: A", "name: &x A"}}),
        absl::StrReplaceAll(usual, {{"name: A", "name: [A"}}),
        absl::StrReplaceAll(usual, {{"gpus:", "gpus: \""}}),
        absl::StrReplaceAll(usual, {{"name: A", "name: |"}}), usual + "hosts:\n  - name: c\n"}) {
    EXPECT_FALSE(JoinListedHosts(text).has_value()) << text;
  }
}

TEST(JoinListedHosts, ErrorsHaveTheLinesOfTheFile) {
  std::string text = Listed({"n0", "n1", "n2"});
  absl::StrAppend(&text, "netwrok: 3\n");
  const auto wrong = ParseClusterFile(text, "box.yaml", GpuCatalogue());
  EXPECT_THAT(std::string(wrong.status().message()), HasSubstr("box.yaml:18: "));
  const auto twice = ParseClusterFile(Listed({"a1", "b2", "a1"}), "box.yaml", GpuCatalogue());
  EXPECT_THAT(std::string(twice.status().message()),
              HasSubstr("box.yaml:12: hosts: the name \"a1\" is there twice"));
}

// Three megabytes, which are more than are read of other files.
TEST(JoinListedHosts, AnErrorInAFileTooLargeToReadWholeIsStillTold) {
  std::vector<std::string> names;
  for (int i = 0; i < 10000; ++i) names.push_back(absl::StrCat("n", i));
  const auto topology = ParseClusterFile(
      absl::StrReplaceAll(Listed(names), {{"100Gbit/s", "100Gbit"}}), "box.yaml", GpuCatalogue());
  EXPECT_THAT(topology.status().message(), HasSubstr("bandwidth"));
  EXPECT_THAT(topology.status().message(), HasSubstr("without the hosts"));
}

TEST(JoinListedHosts, TenThousandHostsAreReadInWellUnderASecond) {
  for (const std::string prefix : {"n", "n0"}) {
    std::vector<std::string> names;
    for (int i = 0; i < 10000; ++i) names.push_back(absl::StrCat(prefix, i));
    std::string host = kHost;
    for (int i = 0; i < 6; ++i)
      host += "      - {name: A, memory: 24GiB, bandwidth: 900GB/s, pcie: 4x16}\n";
    const std::string text = Listed(names, host);
    EXPECT_GT(text.size(), 3'000'000u);
    absl::Duration best = absl::InfiniteDuration();
    for (int i = 0; i < 3; ++i) {
      const absl::Time start = absl::Now();
      EXPECT_EQ(CountHosts(Read(text)), 10000);
      best = std::min(best, absl::Now() - start);
    }
    EXPECT_LT(best, absl::Seconds(2)) << "0.4 s where nothing else runs";
  }
}

}  // namespace
}  // namespace tprun
