// Every dump of the shared index gives exactly the facts that the index expects of it.

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/test_data.h"
#include "tests/topology/dump_facts.h"
#include "tests/topology/dump_index.h"
#include "topology/source.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

using nlohmann::json;

// The index writes out the first rows of a long table and then "... all 8 rows".
void ShortenRows(json& expected, json& actual) {
  if (!expected.contains("rows") || !expected["rows"].back().is_string()) return;
  EXPECT_EQ(expected["rows"].back(), "... all " + std::to_string(actual["rows"].size()) + " rows");
  expected["rows"].erase(expected["rows"].size() - 1);
  while (actual["rows"].size() > expected["rows"].size()) {
    actual["rows"].erase(actual["rows"].size() - 1);
  }
}

TEST(Dumps, EachGivesItsExpectedFacts) {
  TPRUN_NEEDS_TEST_DATA();
  const std::vector<DumpRow> index = DumpIndex();
  EXPECT_GE(index.size(), 57u);
  for (DumpRow& row : DumpIndex()) {
    auto facts = DumpFacts(row.kind, row.Text(), row.file);
    ASSERT_TRUE(facts.ok()) << facts.status();
    ShortenRows(row.expected, *facts);
    EXPECT_EQ(*facts, row.expected)
        << row.file << ": from expected to found: " << json::diff(row.expected, *facts).dump();
  }
}

TEST(Dumps, EachIsReadByItsContent) {
  TPRUN_NEEDS_TEST_DATA();
  for (const DumpRow& row : DumpIndex()) {
    const auto topology = ReadTopologyFile(row.path());
    ASSERT_TRUE(topology.ok()) << topology.status();
    size_t gpus = 0;
    for (const DeviceInfo& device : topology->devices) gpus += device.kind == DeviceKind::kGpu;
    const char* count = row.expected.contains("listed_gpus") ? "listed_gpus" : "gpu_count";
    EXPECT_EQ(gpus, row.expected[count].get<size_t>()) << row.file;
    EXPECT_EQ(topology->source, row.path());
  }
}

// Of each text exactly one kind says that it can read it.
TEST(Dumps, OneKindMatchesEach) {
  TPRUN_NEEDS_TEST_DATA();
  for (const DumpRow& row : DumpIndex()) {
    std::vector<std::string> names;
    for (const TopologyFormat* format : TopologyFormats()) {
      if (format->Matches(row.Text())) names.emplace_back(format->name());
    }
    EXPECT_EQ(names.size(), 1u) << row.file << ": " << testing::PrintToString(names);
  }
}

TEST(Dumps, EveryFactOfADeviceHasASource) {
  TPRUN_NEEDS_TEST_DATA();
  for (const DumpRow& row : DumpIndex()) {
    const auto topology = ParseTopologyText(row.Text(), row.file);
    ASSERT_TRUE(topology.ok()) << topology.status();
    for (const DeviceInfo& device : topology->devices) {
      const auto has = [&](const char* name) { return device.sources.count(name) > 0; };
      EXPECT_EQ(device.memory_bytes > 0, has("memory_bytes")) << row.file;
      EXPECT_EQ(device.numa_node >= 0, has("numa_node")) << row.file;
      EXPECT_EQ(!device.name.empty(), has("name")) << row.file;
      EXPECT_EQ(!device.pci_bus_id.empty(), has("pci_bus_id")) << row.file;
      EXPECT_EQ(device.pcie_generation > 0, has("pcie_generation")) << row.file;
    }
    for (const Link& link : topology->links) EXPECT_NE(link.source, "") << row.file;
  }
}

}  // namespace
}  // namespace tprun
