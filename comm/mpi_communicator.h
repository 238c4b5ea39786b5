#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace tprun {

// True when the program was built with MPI (mpi_communicator.cc rather than its _absent twin).
bool MpiBuilt();

// "Open MPI 4.1.4" or "MPICH 4.0.2"; "none" without MPI.
std::string MpiVersion();

// True when this process was started by mpirun, mpiexec or srun as one of several ranks (or of
// one), judged by the environment, so before MPI_Init.
bool StartedByMpi();

// MPI for the life of the process: the first call initialises it, the destructor finalises it. One
// per process. MPI runs at level MPI_THREAD_SERIALIZED: a rank calls from one thread at a time, and
// Abort alone from any thread.
//
// After an Abort, or any error of a communicator, the destructor does not finalise and does not
// return: it tells the other ranks why, gives all 0.4 s to report, and ends the job by MPI_Abort
// with exit code 1. So report the error before the session ends. A rank that called Abort and keeps
// its session ends the job after 1.5 s, also when the other ranks compute and do not listen.
class MpiSession {
 public:
  // Unimplemented when built without MPI.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start(absl::Duration timeout);
  virtual ~MpiSession() = default;
  virtual Communicator& world() = 0;
  // Ranks of this host: how many there are, and which of them this one is.
  virtual int local_size() const = 0;
  virtual int local_rank() const = 0;
};

}  // namespace tprun
