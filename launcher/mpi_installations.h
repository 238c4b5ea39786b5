#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "topology/doctor.h"

namespace tprun {

// The MPI launchers in the PATH, each once however many names it has, with what they say of
// themselves (they are run with --version).
std::vector<MpiInstallation> FindMpiInstallations();

// "Open MPI 4.1.4" of what `mpirun --version` prints; "" if it is none we know.
std::string MpiVersionOf(absl::string_view output);

// With all symbolic links followed; the path itself where that fails.
std::string ResolvePath(const std::string& path);

}  // namespace tprun
