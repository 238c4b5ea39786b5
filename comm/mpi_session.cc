#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "comm/mpi_communicator.h"
#include "comm/mpi_communicator_impl.h"
#include "comm/mpi_environment.h"
#include "comm/mpi_state.h"

namespace tprun {
namespace {

std::string LibraryVersion() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown MPI";
  return std::string(text, length);
}

// Sandboxes may forbid reading another process's memory, which Open MPI 4 finds out too late.
bool CanReadProcessMemory() {
  char from = 0;
  char to = 0;
  const iovec local = {&to, 1};
  const iovec remote = {&from, 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

void ChooseTransports() {
  const auto environment = [](const char* name) { return std::getenv(name); };
  for (const auto& [name, value] : SingleHostTransports(LibraryVersion(), environment)) {
    setenv(name.c_str(), value.c_str(), /*overwrite=*/0);
  }
  if (!CanReadProcessMemory()) {
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", /*overwrite=*/0);
  }
}

class MpiSessionImpl final : public MpiSession {
 public:
  MpiSessionImpl(std::shared_ptr<MpiState> state, std::unique_ptr<Communicator> world)
      : state_(std::move(state)), world_(std::move(world)) {}
  ~MpiSessionImpl() override { state_->Finish(); }
  Communicator& world() override { return *world_; }
  int local_size() const override { return state_->local_size(); }
  int local_rank() const override { return state_->local_rank(); }

 private:
  const std::shared_ptr<MpiState> state_;
  const std::unique_ptr<Communicator> world_;
};

absl::Status InitializeMpi() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized) {
    return absl::FailedPreconditionError("MPI can be started once in a process, and was before");
  }
  ChooseTransports();
  int provided = MPI_THREAD_SINGLE;
  const int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
  if (code != MPI_SUCCESS) {
    return absl::UnavailableError(absl::StrCat("MPI_Init_thread failed: ", MpiErrorText(code)));
  }
  if (provided < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    return absl::FailedPreconditionError(
        absl::StrCat(MpiVersion(), " gives thread level ", provided,
                     ", wanted MPI_THREAD_SERIALIZED; use an MPI built with threads"));
  }
  return absl::OkStatus();
}

}  // namespace

bool MpiBuilt() { return true; }

// "Open MPI v4.1.4, package: ..." or "MPICH Version:\t4.0.2\nMPICH Release date: ...".
std::string MpiVersion() {
  const std::string version = LibraryVersion();
  const std::vector<std::string> words =
      absl::StrSplit(version, absl::ByAnyChar(" \t\n,:"), absl::SkipEmpty());
  if (words.size() >= 3 && words[0] == "Open" && words[2][0] == 'v') {
    return absl::StrCat("Open MPI ", words[2].substr(1));
  }
  if (words.size() >= 3 && words[1] == "Version") return absl::StrCat(words[0], " ", words[2]);
  return version.substr(0, version.find('\n'));
}

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start(absl::Duration timeout) {
  RETURN_IF_ERROR(InitializeMpi());
  // Short sleeps of a waiting rank end on time (the system's default slack is 50 us).
  prctl(PR_SET_TIMERSLACK, 1000);
  ASSIGN_OR_RETURN(std::shared_ptr<MpiState> state, MpiState::Create(timeout));
  ASSIGN_OR_RETURN(std::unique_ptr<MpiCommunicator> world, MpiCommunicator::MakeWorld(state));
  return std::make_unique<MpiSessionImpl>(std::move(state), std::move(world));
}

}  // namespace tprun
