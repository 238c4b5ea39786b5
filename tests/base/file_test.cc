#include "base/file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "base/temporary_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tprun {
namespace {

using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<TemporaryFolder> folder = TemporaryFolder::Make("tprun file test");
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
  }
  void TearDown() override {
    for (const char* name : {"a", "b", "link", "pipe"}) unlink(Path(name).c_str());
    EXPECT_TRUE(std::filesystem::is_empty(folder_->path())) << "files were left";
  }
  std::string Path(const std::string& name) const { return folder_->File(name); }

  std::optional<TemporaryFolder> folder_;
};

TEST_F(FileTest, ReadsByteRanges) {
  ASSERT_TRUE(WriteFile(Path("a"), "0123456789").ok());
  auto file = RandomAccessFile::Open(Path("a"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 10);
  EXPECT_EQ((*file)->path(), Path("a"));
  std::string out(4, ' ');
  ASSERT_TRUE((*file)->Read(6, absl::MakeSpan(&out[0], 4)).ok());
  EXPECT_EQ(out, "6789");
  EXPECT_TRUE((*file)->Read(10, {}).ok());
}

TEST_F(FileTest, ReadPastTheEndIsDataLoss) {
  ASSERT_TRUE(WriteFile(Path("a"), "0123456789").ok());
  auto file = RandomAccessFile::Open(Path("a"));
  ASSERT_TRUE(file.ok());
  std::vector<char> out(4);
  for (int64_t offset : {int64_t{7}, int64_t{10}, int64_t{11}, int64_t{1} << 40,
                         std::numeric_limits<int64_t>::max()}) {
    const absl::Status status = (*file)->Read(offset, absl::MakeSpan(out));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << offset;
    EXPECT_THAT(std::string(status.message()), HasSubstr("ends at 10"));
  }
  EXPECT_EQ((*file)->Read(-1, absl::MakeSpan(out)).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, SeveralThreadsReadOneFile) {
  std::string contents(1 << 16, ' ');
  for (size_t i = 0; i < contents.size(); ++i) contents[i] = static_cast<char>(i * 131 >> 3);
  ASSERT_TRUE(WriteFile(Path("a"), contents).ok());
  auto file = RandomAccessFile::Open(Path("a"));
  ASSERT_TRUE(file.ok());
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::string out(100, ' ');
      for (int i = 0; i < 200; ++i) {
        const int64_t offset = (i * 317 + t * 7919) % 65000;
        const bool ok = (*file)->Read(offset, absl::MakeSpan(&out[0], out.size())).ok();
        wrong[t] += !ok || out != contents.substr(offset, out.size());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(wrong, ::testing::Each(0));
}

TEST_F(FileTest, OpenNamesThePath) {
  const auto missing = RandomAccessFile::Open(Path("none"));
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(Path("none")));
  EXPECT_EQ(RandomAccessFile::Open("").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(RandomAccessFile::Open(folder_->path()).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RandomAccessFile::Open("/dev/zero").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RandomAccessFile::Open(std::string("/dev/null\0.gguf", 15)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, APipeDoesNotHang) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadFile(Path("pipe")).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, NoPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  ASSERT_TRUE(WriteFile(Path("a"), "x").ok());
  ASSERT_EQ(chmod(Path("a").c_str(), 0), 0);
  EXPECT_EQ(ReadFile(Path("a")).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(FileTest, ReadFileKeepsEveryByteUpToItsLimit) {
  const std::string contents("a\0b\n\xff", 5);
  ASSERT_TRUE(WriteFile(Path("a"), contents).ok());
  EXPECT_EQ(*ReadFile(Path("a")), contents);
  EXPECT_EQ(*ReadFile(Path("a"), 5), contents);
  EXPECT_EQ(ReadFile(Path("a"), 4).status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(WriteFile(Path("a"), "").ok());
  EXPECT_EQ(*ReadFile(Path("a")), "");
}

TEST_F(FileTest, ReadsFilesThatDoNotKnowTheirSize) {
  const auto contents = ReadFile("/proc/self/status");
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_THAT(*contents, HasSubstr("Pid:"));
  EXPECT_EQ(ReadFile("/proc/self/status", 10).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, WriteReplacesTheFileAndKeepsItsMode) {
  ASSERT_TRUE(WriteFile(Path("a"), "a longer first text").ok());
  ASSERT_EQ(chmod(Path("a").c_str(), 0640), 0);
  ASSERT_TRUE(WriteFile(Path("a"), "second").ok());
  EXPECT_EQ(*ReadFile(Path("a")), "second");
  struct stat info;
  ASSERT_EQ(stat(Path("a").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0640u);
}

TEST_F(FileTest, WriteFollowsALink) {
  ASSERT_TRUE(WriteFile(Path("a"), "first").ok());
  ASSERT_EQ(symlink(Path("a").c_str(), Path("link").c_str()), 0);
  ASSERT_TRUE(WriteFile(Path("link"), "second").ok());
  EXPECT_EQ(*ReadFile(Path("a")), "second");
}

// As /dev/null or /dev/stdout must: a rename would put a file in their place.
TEST_F(FileTest, WriteGoesIntoAPipe) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  const int reader = open(Path("pipe").c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  EXPECT_TRUE(WriteFile(Path("pipe"), "text").ok());
  char got[8];
  EXPECT_EQ(read(reader, got, sizeof(got)), 4);
  close(reader);
  struct stat info;
  ASSERT_EQ(stat(Path("pipe").c_str(), &info), 0);
  EXPECT_TRUE(S_ISFIFO(info.st_mode));
}

TEST_F(FileTest, WriteFailsWithoutTraces) {
  EXPECT_EQ(WriteFile(Path("none/a"), "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(WriteFile(folder_->path(), "x").code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(WriteFile(Path("a"), "first").ok());
  // A full disk, as far as this process is concerned.
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {10, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = WriteFile(Path("a"), "more than ten bytes");
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
  EXPECT_EQ(*ReadFile(Path("a")), "first");
}

TEST_F(FileTest, TellsFilesFromFolders) {
  ASSERT_TRUE(WriteFile(Path("a"), "x").ok());
  EXPECT_TRUE(FileExists(Path("a")));
  EXPECT_TRUE(FileExists(folder_->path()));
  EXPECT_FALSE(FileExists(Path("b")));
  EXPECT_TRUE(IsDirectory(folder_->path()));
  EXPECT_FALSE(IsDirectory(Path("a")));
  EXPECT_FALSE(IsDirectory(Path("b")));
}

TEST(PathTest, Join) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("a//", "/b"), "a/b");
  EXPECT_EQ(JoinPath("/", "b"), "/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
}

TEST(PathTest, BaseName) {
  EXPECT_EQ(BaseName("/a/b/model.gguf"), "model.gguf");
  EXPECT_EQ(BaseName("model.gguf"), "model.gguf");
  EXPECT_EQ(BaseName("/a/b/"), "b");
  EXPECT_EQ(BaseName("/"), "/");
  EXPECT_EQ(BaseName(""), "");
}

}  // namespace
}  // namespace tprun
