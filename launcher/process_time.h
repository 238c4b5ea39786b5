#pragma once

namespace tprun {

// Since this process began, also what it did before main(); as exact as the system counts (10 ms).
double SecondsSinceStart();

}  // namespace tprun
