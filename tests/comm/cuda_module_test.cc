#include "comm/cuda_module.h"

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "comm/device.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

// Why the module `path` does not load, as a user sees it.
std::string ReasonFor(const std::string& path) {
  setenv("TPRUN_CUDA_MODULE", path.c_str(), /*overwrite=*/1);
  const absl::Status status = LoadCudaModule().status();
  const absl::Status device = OpenDevice("cuda:0").status();
  unsetenv("TPRUN_CUDA_MODULE");
  EXPECT_TRUE(absl::IsUnimplemented(status)) << status;
  EXPECT_TRUE(absl::StrContains(device.message(), status.message())) << device;
  EXPECT_FALSE(absl::StrContains(status.message(), "\n")) << status;
  return std::string(status.message());
}

TEST(CudaModuleTest, WhatDoesNotLoadIsToldApart) {
  EXPECT_TRUE(absl::StrContains(ReasonFor("/nowhere/x.so"), "wanted /nowhere/x.so"));
  const std::string text_file = absl::StrCat(testing::TempDir(), "/not_a_module_", getpid(), ".so");
  std::ofstream(text_file) << "this is not a library";
  EXPECT_TRUE(absl::StrContains(ReasonFor(text_file), "does not load")) << ReasonFor(text_file);
  unlink(text_file.c_str());
  EXPECT_TRUE(absl::StrContains(ReasonFor("libm.so.6"), "wanted libm.so.6"))
      << "looked for as a file";
}

// Every library but our own lacks the entry.
TEST(CudaModuleTest, ALibraryOfAnotherBuildIsRefused) {
  const std::string reason = ReasonFor(TPRUN_SOME_LIBRARY);
  EXPECT_TRUE(absl::StrContains(reason, "another build")) << reason;
}

TEST(CudaModuleTest, TheOwnModuleLoadsWithoutAGpu) {
  const absl::StatusOr<const CudaModule*> module = LoadCudaModule();
  ASSERT_TRUE(module.ok()) << module.status();
  EXPECT_TRUE(absl::StrContains((*module)->description, "compute capability"));
  EXPECT_EQ(LoadCudaModule().value(), *module) << "loaded once";
  const absl::Status far = (*module)->open_device(4711).status();
  EXPECT_TRUE(absl::IsUnavailable(far) || absl::IsInvalidArgument(far)) << far;
}

}  // namespace
}  // namespace tprun
