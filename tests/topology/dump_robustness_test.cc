// Damaged dumps and garbage: every reader gives a Topology or a reason, in bounded time.

#include <ctime>
#include <filesystem>
#include <functional>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fuzz/sound_topology.h"
#include "tests/test_data.h"
#include "tests/topology/dump_index.h"
#include "topology/cluster_file.h"
#include "topology/gpu_catalogue.h"
#include "topology/source.h"
#include "topology/topology_file.h"

namespace tprun {
namespace {

// "Well under a second"; sanitizers take their time.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kMaxSeconds = 20;
#else
constexpr double kMaxSeconds = 1;
#endif

// Of one core; a busy machine does not count.
double SecondsOf(const std::function<void()>& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

void FeedAllReaders(const std::string& text, const std::string& what) {
  EXPECT_EQ(FindUnsound(ParseTopologyText(text, what)), "") << what;
  for (const TopologyFormat* format : TopologyFormats()) {
    // That of synthetic lines looks up the catalogue first, which takes much longer.
    if (format->name() == "synthetic line" && !format->Matches(text)) continue;
    EXPECT_EQ(FindUnsound(format->Parse(text, what)), "") << what << " as " << format->name();
  }
}

TEST(DumpRobustness, TruncatedDumps) {
  TPRUN_NEEDS_TEST_DATA();
  std::mt19937 random(1);
  for (const DumpRow& row : DumpIndex()) {
    const std::string text = row.Text();
    for (int i = 0; i < 16; ++i) {
      FeedAllReaders(text.substr(0, random() % (text.size() + 1)), row.file);
      FeedAllReaders(text.substr(random() % (text.size() + 1)), row.file);
    }
  }
}

TEST(DumpRobustness, DumpsWithFlippedBytes) {
  TPRUN_NEEDS_TEST_DATA();
  std::mt19937 random(2);
  for (const DumpRow& row : DumpIndex()) {
    for (int i = 0; i < 24; ++i) {
      std::string text = row.Text();
      for (int flips = 0; flips <= i; ++flips) {
        text[random() % text.size()] = static_cast<char>(random());
      }
      FeedAllReaders(text, row.file);
    }
  }
}

// Lines of one dump among those of another.
TEST(DumpRobustness, ShuffledLines) {
  TPRUN_NEEDS_TEST_DATA();
  std::mt19937 random(3);
  for (const DumpRow& row : DumpIndex()) {
    std::vector<std::string> lines = absl::StrSplit(row.Text(), '\n');
    for (int i = 0; i < 8; ++i) {
      std::swap(lines[random() % lines.size()], lines[random() % lines.size()]);
      std::string text;
      for (const std::string& line : lines) text += line + "\n";
      FeedAllReaders(text, row.file);
    }
  }
}

TEST(DumpRobustness, InputsThatOnceBrokeAReader) {
  for (const auto& entry :
       std::filesystem::directory_iterator(SourcePath("tests/fuzz/regressions"))) {
    const auto text = ReadFile(entry.path().string());
    ASSERT_TRUE(text.ok()) << text.status();
    FeedAllReaders(*text, entry.path().filename().string());
    EXPECT_EQ(FindUnsound(ParseClusterFile(*text, "box.yaml", GpuCatalogue())), "");
  }
}

std::string Repeated(const std::string& part, size_t bytes) {
  std::string text;
  text.reserve(bytes + part.size());
  while (text.size() < bytes) text += part;
  return text;
}

// Whatever ten megabytes are full of, they are refused in well under a second.
TEST(DumpRobustness, TenMegabytesOfGarbage) {
  std::mt19937 random(4);
  std::string noise(10 << 20, ' ');
  for (char& c : noise) c = static_cast<char>(random());
  std::vector<std::string> texts = {noise, "<" + noise, "{" + noise};
  const std::vector<std::string> parts = {"\n",
                                          " ",
                                          "\t",
                                          "\x1b[",
                                          "[4m",
                                          "a",
                                          "x\n",
                                          "GPU0\tX\n",
                                          "GPU",
                                          "GPU0\tGPU1\n",
                                          "GPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tOK\tX\n\n",
                                          "NIC0: mlx5_0\n",
                                          "0, NVIDIA L4, 1 MiB\n",
                                          "GPU 0: NVIDIA L4 (UUID: GPU-1)\n\t Link 0: 25 GB/s\n",
                                          "GPU 00000000:17:00.0\n",
                                          "a\n b\n  c\n",
                                          "| 0  NVIDIA L4  Off | 00000000:01:00.0 Off |\n",
                                          "NVNVNV",
                                          "X",
                                          "(UUID: ",
                                          ": ",
                                          ",",
                                          "1,"};
  for (const std::string& part : parts) texts.push_back(Repeated(part, 10 << 20));
  for (const char* head : {"==NVSMI LOG==\n", "| NVIDIA-SMI 5\n", "index, name\n", "{", "[",
                           "\tGPU0\tGPU1\n", "<system><cpu>", "<topology><object>"}) {
    for (const char* part : {"a", "\n", "GPU0 X\n", "<pci/>", "[", "{", "1,", "\"", "a: \n"}) {
      texts.push_back(head + Repeated(part, 10 << 20));
    }
  }
  for (const std::string& text : texts) {
    absl::StatusOr<Topology> topology;
    const double seconds = SecondsOf([&] { topology = ParseTopologyText(text, "garbage"); });
    EXPECT_FALSE(topology.ok()) << text.substr(0, 40);
    EXPECT_LT(seconds, kMaxSeconds) << text.substr(0, 40);
  }
}

// The largest text that is looked at, full of what each reader works hardest on.
TEST(DumpRobustness, ReadersAreNotQuadratic) {
  const size_t bytes = (2 << 20) - (200 << 10);
  std::string wide = "\t";
  for (int i = 0; i < 250; ++i) wide += "GPU" + std::to_string(i) + "\t";
  std::string rows = wide + "\n";
  for (int i = 0; i < 250; ++i) {
    rows += "GPU" + std::to_string(i);
    for (int j = 0; j < 250; ++j) rows += i == j ? "\tX" : "\tNV4";
    rows += "\n";
  }
  std::vector<std::string> texts = {Repeated(rows, bytes)};
  for (const char* part :
       {"GPU0\tX\n", "GPU0\tGPU1\nGPU0\tX\tOK\nGPU1\tOK\tX\n\n", "\tGPU0\nGPU0\tX\nNIC0: a b\n",
        "index, name\n0, NVIDIA L4\n", "GPU 00000000:17:00.0\n", "pid, name\n",
        "GPU 0: NVIDIA L4 (UUID: GPU-1)\n", "  MIG 1g.5gb Device 0: (UUID: MIG-1)\n"}) {
    texts.push_back(Repeated(part, bytes));
  }
  texts.push_back("GPU 0: NVIDIA L4 (UUID: G)\n" +
                  Repeated("  MIG 1g.5gb Device 0: (UUID: MIG-1)\n", bytes));
  for (const std::string& text : texts) {
    const double seconds = SecondsOf([&] { (void)ParseTopologyText(text, "large"); });
    EXPECT_LT(seconds, kMaxSeconds) << text.substr(0, 40);
  }
}

}  // namespace
}  // namespace tprun
