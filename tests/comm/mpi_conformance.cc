// Runs the conformance suite on the ranks of an mpirun:
//   mpi_conformance healthy        every check; exit code 0 when all pass on this rank
//   mpi_conformance NAME           one check of a failure; prints "passed NAME on rank R"
//   mpi_conformance computing      a rank aborts while the others compute for a minute
//   mpi_conformance held           the same, but the aborting rank never lets go of its session
//   mpi_conformance leaves         a rank ends its session while the others wait
#include <cstdio>
#include <cstring>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "comm/mpi_communicator.h"
#include "tests/comm/conformance_suite.h"

namespace tprun {
namespace {

int Report(Communicator& comm, const std::string& name, const absl::Status& status) {
  const std::string line =
      status.ok()
          ? absl::StrCat("passed ", name, " on rank ", comm.rank(), "\n")
          : absl::StrCat("FAILED ", name, " on rank ", comm.rank(), ": ", status.ToString(), "\n");
  std::cerr << line << std::flush;
  return status.ok() ? 0 : 1;
}

int RunHealthy(MpiSession& session) {
  Communicator& comm = session.world();
  if (session.local_size() != comm.size() || session.local_rank() != comm.rank()) return 1;
  int failures = 0;
  for (const ConformanceCheck& check : ConformanceChecks()) {
    const absl::Status status = check.run(comm);
    if (!status.ok()) failures += Report(comm, check.name, status);
    if (!comm.Barrier().ok()) return 1;
  }
  return failures == 0 ? 0 : 1;
}

int RunFailure(MpiSession& session, const std::string& name) {
  Communicator& comm = session.world();
  const bool last = comm.rank() == comm.size() - 1;
  if (name == "computing" || name == "held") {
    if (!comm.Barrier().ok()) return 1;
    if (last) comm.Abort("no disk");
    if (!last || name == "held") absl::SleepFor(absl::Minutes(1));
    return 0;
  }
  if (name == "leaves") return last ? 0 : Report(comm, name, comm.Barrier());
  std::vector<ConformanceCheck> checks = AbortChecks();
  checks.push_back(DeadlineCheck());
  for (const ConformanceCheck& check : checks) {
    if (check.name == name) return Report(comm, name, check.run(comm));
  }
  std::cerr << "unknown check " << name << "\n";
  return 2;
}

int Main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string name = argv[1];
  const bool short_wait = name == "Deadline" || name == "leaves";
  auto session = MpiSession::Start(short_wait ? absl::Seconds(1) : absl::Seconds(60));
  if (!session.ok()) {
    std::cerr << session.status() << "\n";
    return 1;
  }
  return name == "healthy" ? RunHealthy(**session) : RunFailure(**session, name);
}

}  // namespace
}  // namespace tprun

int main(int argc, char** argv) { return tprun::Main(argc, argv); }
