// The functions of the emulated CUDA runtime.

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "cuda_runtime_api.h"

namespace {

// Limits of compute capability 9.0: CUDA C++ Programming Guide, "Technical Specifications".
constexpr size_t kSharedBytes = 227 << 10;
constexpr size_t kSharedBytesUnasked = 48 << 10;
// Static and dynamic memory share these; the emulation does not know what is a kernel's of the
// former, and takes the most that it may be.
constexpr size_t kMostStaticBytes = 1 << 10;
constexpr unsigned kMostBlocksYz = 65535;

std::map<const void*, size_t>& SharedLimits() {
  static std::map<const void*, size_t> limits;
  return limits;
}

bool& LastStartedEarly() {
  static bool early = false;
  return early;
}

std::string& LastFailure() {
  static std::string failure;
  return failure;
}

size_t SharedLimit(const void* kernel) {
  const auto found = SharedLimits().find(kernel);
  return found == SharedLimits().end() ? kSharedBytesUnasked - kMostStaticBytes : found->second;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return LastFailure().c_str();
  }
  return "unknown error";
}

const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaSuccess ? "cudaSuccess" : "cudaError";
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t) {
  std::memset(to, byte, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

namespace cuda_emulation {

cudaError_t SetFunctionAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > kSharedBytes) return cudaErrorInvalidValue;
  SharedLimits()[kernel] = value;
  return cudaSuccess;
}

bool LastLaunchStartedEarly() { return LastStartedEarly(); }

cudaError_t LaunchBody(const cudaLaunchConfig_t& config, const void* kernel, ThreadBody body,
                       void* argument) {
  const Dim3& grid = config.gridDim;
  const Dim3& block = config.blockDim;
  if (config.dynamicSmemBytes > SharedLimit(kernel)) return cudaErrorInvalidValue;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > kMostBlocksYz ||
      grid.z > kMostBlocksYz || block.x == 0 || block.y == 0 || block.z == 0) {
    return cudaErrorInvalidConfiguration;
  }
  LastStartedEarly() = std::any_of(config.attrs, config.attrs + config.numAttrs, [](const auto& a) {
    return a.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
           a.val.programmaticStreamSerializationAllowed != 0;
  });
  LastFailure() = RunGrid(grid, block, config.dynamicSmemBytes, body, argument);
  return LastFailure().empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace cuda_emulation
