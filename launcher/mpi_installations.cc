#include "launcher/mpi_installations.h"

#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/file.h"

namespace tprun {
namespace {

// What `path --version` writes within five seconds.
std::string VersionOutput(const std::string& path) {
  if (absl::StrContains(path, "'")) return "";
  const std::string command =
      absl::StrCat("timeout 5 '", path, "' --version 2>/dev/null </dev/null");
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "";
  std::string output;
  std::array<char, 4096> chunk;
  size_t count;
  while (output.size() < 65536 && (count = fread(chunk.data(), 1, chunk.size(), pipe)) > 0) {
    output.append(chunk.data(), count);
  }
  pclose(pipe);
  return output;
}

// The first word behind `key` in `text`.
std::string WordBehind(absl::string_view text, absl::string_view key) {
  const size_t at = text.find(key);
  if (at == absl::string_view::npos) return "";
  const absl::string_view rest = absl::StripLeadingAsciiWhitespace(text.substr(at + key.size()));
  return std::string(rest.substr(0, rest.find_first_of(" \t\r\n")));
}

}  // namespace

std::string ResolvePath(const std::string& path) {
  std::array<char, PATH_MAX> resolved;
  return realpath(path.c_str(), resolved.data()) != nullptr ? resolved.data() : path;
}

std::string MpiVersionOf(absl::string_view output) {
  if (absl::StrContains(output, "Open MPI")) {
    return absl::StrCat("Open MPI ", WordBehind(output, "Open MPI)"));
  }
  if (absl::StrContains(output, "OpenRTE")) {  // under any name but mpirun
    return absl::StrCat("Open MPI ", WordBehind(output, "OpenRTE)"));
  }
  if (absl::StrContains(output, "Intel(R) MPI")) {
    return absl::StrCat("Intel MPI ", WordBehind(output, "Version"));
  }
  if (absl::StrContains(output, "HYDRA")) {
    return absl::StrCat("MPICH ", WordBehind(output, "Version:"));
  }
  return "";
}

std::vector<MpiInstallation> FindMpiInstallations() {
  std::vector<MpiInstallation> found;
  std::set<std::string> seen;
  const char* path = std::getenv("PATH");
  for (absl::string_view folder :
       absl::StrSplit(path != nullptr ? path : "", ':', absl::SkipEmpty())) {
    for (absl::string_view name :
         {"mpirun", "mpirun.openmpi", "mpirun.mpich", "mpiexec", "mpiexec.hydra"}) {
      const std::string candidate = JoinPath(folder, name);
      if (access(candidate.c_str(), X_OK) != 0) continue;
      const std::string resolved = ResolvePath(candidate);
      if (!seen.insert(resolved).second) continue;
      found.push_back({resolved, MpiVersionOf(VersionOutput(candidate))});
    }
  }
  return found;
}

}  // namespace tprun
