#include "comm/cuda_module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tprun {
namespace {

constexpr char kFileName[] = "libtprun_cuda.so";

std::string ProgramFolder() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0 || length == sizeof(path)) return ".";
  const std::string program(path, length);
  return program.substr(0, program.rfind('/'));
}

std::vector<std::string> Candidates() {
  if (const char* given = getenv("TPRUN_CUDA_MODULE"); given != nullptr && *given != '\0') {
    return {given};
  }
  const std::string folder = ProgramFolder();
  return {absl::StrCat(folder, "/", kFileName), absl::StrCat(folder, "/../lib/", kFileName),
          absl::StrCat(folder, "/../", kFileName)};
}

absl::StatusOr<std::string> FindFile() {
  const std::vector<std::string> candidates = Candidates();
  for (const std::string& path : candidates) {
    if (access(path.c_str(), R_OK) == 0) return path;
  }
  return absl::UnimplementedError(absl::StrCat(
      "the CUDA part of tprun is not there: wanted ", absl::StrJoin(candidates, " or "),
      "; build it with `make` on a machine with the CUDA toolkit"));
}

// Before CUDA starts, unless the user has chosen. Streams of several ranks on one GPU that share a
// hardware queue would wait for each other: 32 queues, the most there are, instead of 8. And
// "cuda:1" of a plan is the second GPU by PCI bus, as NVML and nvidia-smi count; CUDA would count
// unlike cards by speed.
void PrepareEnvironment() {
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
  setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", /*overwrite=*/0);
}

absl::StatusOr<const CudaModule*> Load() {
  const absl::StatusOr<std::string> path = FindFile();
  if (!path.ok()) return path.status();
  PrepareEnvironment();
  void* library = dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("the CUDA part of tprun does not load: ", dlerror(),
                     " (install that library, or add its folder to "
                     "LD_LIBRARY_PATH)"));
  }
  using Entry = const CudaModule*();
  auto* entry = reinterpret_cast<Entry*>(dlsym(library, "TprunCudaModule"));
  // The digest is the first member in every version, so that it can be read before it is trusted.
  const CudaModule* module = entry == nullptr ? nullptr : entry();
  if (module == nullptr || absl::string_view(module->interface_digest) != TPRUN_CUDA_INTERFACE) {
    return absl::UnimplementedError(
        absl::StrCat(*path, " is of another build than this program (interface ",
                     module == nullptr ? "unknown" : module->interface_digest, ", wanted ",
                     TPRUN_CUDA_INTERFACE, "): build both again, from the same sources"));
  }
  return module;
}

}  // namespace

// One at a time: ranks that are threads come here together, and the first one sets variables of the
// environment that the driver reads afterwards.
absl::StatusOr<const CudaModule*> LoadCudaModule() {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  return Load();
}

}  // namespace tprun
