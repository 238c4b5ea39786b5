#include "comm/nccl_api.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace tprun {
namespace {

class Symbols {
 public:
  explicit Symbols(void* library) : library_(library) {}

  template <typename Function>
  void Take(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr && missing_ == nullptr) missing_ = name;
  }
  template <typename Function>
  void TakeIfThere(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
  }
  const char* missing() const { return missing_; }

 private:
  void* const library_;
  const char* missing_ = nullptr;
};

}  // namespace

std::string NcclVersionText(int version) {
  return absl::StrCat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

absl::StatusOr<NcclApi> LoadNccl() {
  void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return absl::UnimplementedError(absl::StrCat("NCCL does not load: ", dlerror()));
  }
  NcclApi api;
  Symbols symbols(library);
  symbols.Take("ncclGetVersion", api.GetVersion);
  symbols.Take("ncclGetUniqueId", api.GetUniqueId);
  symbols.Take("ncclCommInitRankConfig", api.CommInitRankConfig);
  symbols.Take("ncclCommFinalize", api.CommFinalize);
  symbols.Take("ncclCommDestroy", api.CommDestroy);
  symbols.Take("ncclCommAbort", api.CommAbort);
  symbols.Take("ncclCommGetAsyncError", api.CommGetAsyncError);
  symbols.Take("ncclGetErrorString", api.GetErrorString);
  symbols.Take("ncclGetLastError", api.GetLastError);
  symbols.Take("ncclAllReduce", api.AllReduce);
  symbols.Take("ncclBroadcast", api.Broadcast);
  symbols.Take("ncclSend", api.Send);
  symbols.Take("ncclRecv", api.Recv);
  symbols.Take("ncclGroupStart", api.GroupStart);
  symbols.Take("ncclGroupEnd", api.GroupEnd);
  symbols.TakeIfThere("ncclMemAlloc", api.MemAlloc);
  symbols.TakeIfThere("ncclMemFree", api.MemFree);
  symbols.TakeIfThere("ncclCommWindowRegister", api.CommWindowRegister);
  symbols.TakeIfThere("ncclCommWindowDeregister", api.CommWindowDeregister);
  int version = 0;
  if (api.GetVersion != nullptr) api.GetVersion(&version);
  // An older library would read past the end of its own ncclConfig_t.
  if (symbols.missing() != nullptr || version < NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, 0)) {
    return absl::UnimplementedError(
        absl::StrCat("the NCCL library is version ", NcclVersionText(version), ", wanted ",
                     NCCL_MAJOR, ".", NCCL_MINOR, " or newer, which this tprun was built with"));
  }
  return api;
}

}  // namespace tprun
