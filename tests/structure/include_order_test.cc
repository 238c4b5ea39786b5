// The folders stand in one line, base < topology < comm < engine < partition < launcher: a file
// includes from its own folder and from those before it. Absent features are other files, not
// #ifdefs. And what CUDA kernels must not do to be launched early.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::array<const char*, 6> kFolders = {"base",   "topology",  "comm",
                                                 "engine", "partition", "launcher"};
// Below engine/, these describe a model and its files; `tprun plan` needs nothing else of it, and
// so they know neither kernels nor ranks.
constexpr std::array<const char*, 4> kDataHalf = {"model", "format", "checkpoint", "arch"};
constexpr std::array<const char*, 4> kRunningHalf = {"kernels", "layers", "runtime", "tokenizer"};

template <size_t n>
std::optional<size_t> PlaceOf(const std::array<const char*, n>& names, const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<size_t>(found - names.begin());
}

// The `index`th part of "engine/model/placement.h"; "" where there is none.
std::string PathPart(const std::string& path, int index) {
  std::istringstream parts(path);
  std::string part;
  for (int i = 0; i <= index; ++i) {
    if (!std::getline(parts, part, '/')) return "";
  }
  return part;
}

// What is wrong with `included` in `file` (both from the root of the repository); "" if nothing.
std::string IncludeBreach(const std::string& file, const std::string& included) {
  // A neighbour under its short name; other short names are libraries' ("hwloc.h").
  const auto neighbour = std::filesystem::path(TPRUN_SOURCE_DIR) / file;
  if (std::filesystem::exists(neighbour.parent_path() / included)) {
    return "name it from the root, as \"folder/file.h\"";
  }
  const auto from = PlaceOf(kFolders, PathPart(file, 0));
  const auto to = PlaceOf(kFolders, PathPart(included, 0));
  if (PathPart(included, 0) == "tests") return "only tests include from tests/";
  if (!from || !to) return "";
  if (*to > *from) {
    return std::string(kFolders[*from]) + " stands before " + kFolders[*to];
  }
  if (PathPart(file, 0) == "engine" && PlaceOf(kDataHalf, PathPart(file, 1))) {
    if (PlaceOf(kRunningHalf, PathPart(included, 1)) || PathPart(included, 0) == "comm") {
      return "the data half of engine/ knows neither kernels nor ranks";
    }
  }
  return "";
}

bool InFolder(const std::string& file, const std::string& folder) {
  return file.compare(0, folder.size(), folder) == 0;
}

// "file:line: text: why" for every breach in `text`.
std::vector<std::string> FindBreaches(const std::string& file, const std::string& text) {
  static const std::regex include(R"re(^\s*#\s*include\s*"([^"]*)")re");
  // Not the MPI in COMPILER.
  static const std::regex feature(
      R"re(^\s*#\s*(if|ifdef|ifndef|elif)\b.*(CUDA|NCCL|[^A-Z](O|OPEN)?MPI))re");
  // See WaitForPreviousKernel; the compiler makes such loads itself where a pointer is restricted.
  static const std::regex unordered(R"re(__ldg\(|"ld\.global\.nc|__restrict__)re");
  std::vector<std::string> breaches;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::smatch match;
    std::string why;
    if (std::regex_search(line, match, include)) why = IncludeBreach(file, match[1]);
    // Device code may ask for the GPU that it is compiled for.
    if (std::regex_search(line, feature) && line.find("__CUDA_ARCH__") == std::string::npos) {
      why = "let CMake choose between x.cc and x_absent.cc";
    }
    if (InFolder(file, "engine/kernels/cuda/") && file != "engine/kernels/cuda/intrinsics.cuh" &&
        std::regex_search(line, unordered)) {
      why = "a load that WaitForPreviousKernel does not order";
    }
    if (why.empty()) continue;
    breaches.push_back(file + ":" + std::to_string(number) + ": " + line + ": " + why);
  }
  return breaches;
}

std::vector<std::filesystem::path> SourceFiles() {
  std::vector<std::filesystem::path> files;
  for (const char* folder : kFolders) {
    const std::filesystem::path path = std::filesystem::path(TPRUN_SOURCE_DIR) / folder;
    if (!std::filesystem::is_directory(path)) continue;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      const std::string extension = entry.path().extension();
      if (extension == ".h" || extension == ".cc" || extension == ".cu" || extension == ".cuh") {
        files.push_back(entry.path());
      }
    }
  }
  return files;
}

TEST(IncludeOrderTest, TheRepositoryKeepsTheOrder) {
  const auto files = SourceFiles();
  ASSERT_GT(files.size(), 20u) << "are the sources in " << TPRUN_SOURCE_DIR << "?";
  for (const auto& path : files) {
    std::ifstream stream(path);
    const std::string text((std::istreambuf_iterator<char>(stream)), {});
    const std::string file = std::filesystem::relative(path, TPRUN_SOURCE_DIR).generic_string();
    EXPECT_THAT(FindBreaches(file, text), IsEmpty());
  }
}

TEST(IncludeOrderTest, FindsIncludesThatLeanBack) {
  const auto breaches = FindBreaches("base/json.cc",
                                     "#include \"base/json.h\"\n"
                                     "#include <vector>\n"
                                     "  #  include \"engine/model/placement.h\"  // why\n");
  ASSERT_THAT(breaches, SizeIs(1));
  EXPECT_THAT(breaches[0], HasSubstr("base/json.cc:3:"));
  EXPECT_THAT(breaches[0], HasSubstr("base stands before engine"));
  for (size_t from = 0; from < kFolders.size(); ++from) {
    for (size_t to = 0; to < kFolders.size(); ++to) {
      const std::string line = std::string("#include \"") + kFolders[to] + "/x.h\"\n";
      EXPECT_THAT(FindBreaches(std::string(kFolders[from]) + "/x.cc", line),
                  SizeIs(to > from ? 1 : 0));
    }
  }
}

TEST(IncludeOrderTest, FindsIncludesThatAreNotNamedFromTheRoot) {
  EXPECT_THAT(FindBreaches("base/json.cc", "#include \"json.h\"\n"), SizeIs(1));
  EXPECT_THAT(FindBreaches("comm/device.cc", "#include \"../base/json.h\"\n"), SizeIs(1));
  EXPECT_THAT(FindBreaches("comm/device.cc", "#include \"tests/test_data.h\"\n"), SizeIs(1));
  EXPECT_THAT(FindBreaches("comm/device.cc", "#include \"absl/status/status.h\"\n"), IsEmpty());
}

TEST(IncludeOrderTest, KeepsTheDataHalfOfTheEngineApart) {
  EXPECT_THAT(FindBreaches("engine/arch/llama.cc", "#include \"engine/kernels/kernels.h\"\n"),
              SizeIs(1));
  EXPECT_THAT(FindBreaches("engine/model/model_spec.h", "#include \"comm/device.h\"\n"), SizeIs(1));
  EXPECT_THAT(FindBreaches("engine/layers/mlp.cc", "#include \"engine/kernels/kernels.h\"\n"),
              IsEmpty());
}

TEST(IncludeOrderTest, FindsFeatureConditions) {
  for (const char* line : {"#ifdef TPRUN_HAVE_CUDA", "#if defined(USE_MPI) && 1", "#ifndef NO_NCCL",
                           "# elif TPRUN_MPI", "  #if OPEN_MPI", "#if OMPI_MAJOR_VERSION < 5"}) {
    EXPECT_THAT(FindBreaches("comm/device.cc", line), SizeIs(1)) << line;
  }
  for (const char* line : {"#if __CUDA_ARCH__ >= 900", "#ifdef NDEBUG", "// #ifdef CUDA",
                           "#include <mpi.h>", "#endif  // CUDA", "#if HWY_COMPILER_GCC"}) {
    EXPECT_THAT(FindBreaches("comm/device.cc", line), IsEmpty()) << line;
  }
}

TEST(IncludeOrderTest, FindsLoadsThatAreNotOrderedAfterTheKernelBefore) {
  const std::string kernels = "engine/kernels/cuda/k_formats.cuh";
  for (const char* line : {"c.scales = __ldg(at);", "asm(\"ld.global.nc.u32 %0, [%1];\")",
                           "void Kernel(const float* __restrict__ x)"}) {
    EXPECT_THAT(FindBreaches(kernels, line), SizeIs(1)) << line;
    EXPECT_THAT(FindBreaches("comm/cuda_probe.cu", line), IsEmpty()) << line;
  }
  for (const char* line : {"total += __ldcg(at);", "// never by __ldg", "\"ld.global.u32 %0\""}) {
    EXPECT_THAT(FindBreaches(kernels, line), IsEmpty()) << line;
  }
}

}  // namespace
}  // namespace tprun
