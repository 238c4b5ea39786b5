#pragma once

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace tprun {

// The folder of shared test data (models, topology dumps), from the environment; "" if not given.
inline std::string TestDataDirectory() {
  const char* directory = std::getenv("TPRUN_TEST_DATA");
  return directory == nullptr ? "" : directory;
}

// First line of a test that needs it: says aloud that it did not run.
#define TPRUN_NEEDS_TEST_DATA()                                                    \
  if (::tprun::TestDataDirectory().empty()) {                                      \
    GTEST_SKIP() << "TPRUN_TEST_DATA is not set: the shared test data is missing"; \
  }

// A file of this repository: SourcePath("tests/golden/x").
inline std::string SourcePath(const std::string& relative) {
  return std::string(TPRUN_SOURCE_DIR) + "/" + relative;
}

}  // namespace tprun
