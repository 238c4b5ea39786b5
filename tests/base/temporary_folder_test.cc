#include "base/temporary_folder.h"

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

TEST(TemporaryFolder, IsItsUsersAloneAndGoneAtTheEnd) {
  std::string path;
  {
    const auto folder = TemporaryFolder::Make("tprun-test");
    ASSERT_TRUE(folder.ok()) << folder.status();
    path = folder->path();
    struct stat facts = {};
    ASSERT_EQ(stat(path.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0700);
    std::filesystem::create_directory(folder->File("inner"));
    EXPECT_TRUE(WriteFile(folder->File("inner/file"), "text").ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, MovesWithItsOwner) {
  std::optional<TemporaryFolder> owner;
  std::string path;
  {
    auto folder = TemporaryFolder::Make("tprun-test");
    ASSERT_TRUE(folder.ok()) << folder.status();
    path = folder->path();
    owner = *std::move(folder);
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  owner.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(TemporaryFolder, TellsWhatToDoWhereNoneCanBe) {
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TMPDIR", "/proc/none", 1);
  const auto folder = TemporaryFolder::Make("tprun-test");
  if (before == nullptr) {
    unsetenv("TMPDIR");
  } else {
    setenv("TMPDIR", kept.c_str(), 1);
  }
  ASSERT_FALSE(folder.ok());
  EXPECT_THAT(std::string(folder.status().message()), ::testing::HasSubstr("/proc/none"));
  EXPECT_THAT(std::string(folder.status().message()), ::testing::HasSubstr("set TMPDIR"));
}

}  // namespace
}  // namespace tprun
