// Stands in for the MPI back end in a build without MPI.
#include "comm/mpi_communicator.h"

namespace tprun {

bool MpiBuilt() { return false; }

std::string MpiVersion() { return "none"; }

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start(absl::Duration) {
  return absl::UnimplementedError(
      "this tprun was built without MPI: its ranks can only be threads of one process; install "
      "Open MPI or MPICH with its headers and build again to run several processes");
}

}  // namespace tprun
