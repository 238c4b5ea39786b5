#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "base/file.h"
#include "gtest/gtest.h"

namespace tprun {

// A made-up /proc and /sys in a folder of its own, to be put in front of the real paths.
class FakeRoot {
 public:
  FakeRoot() {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = testing::TempDir() + "/fake_root_" + test->test_suite_name() + "_" + test->name() +
            "_" + std::to_string(getpid());
    mkdir(root_.c_str(), 0755);
  }

  const std::string& path() const { return root_; }

  void Folder(const std::string& path) {
    std::string made = root_;
    for (const std::string& part :
         std::vector<std::string>(absl::StrSplit(path, '/', absl::SkipEmpty()))) {
      made += "/" + part;
      mkdir(made.c_str(), 0755);
    }
  }

  void Write(const std::string& path, const std::string& contents) {
    Folder(path.substr(0, path.rfind('/')));
    ASSERT_TRUE(WriteFile(root_ + path, contents).ok()) << path;
  }

  // `target` is a path below the root.
  void Link(const std::string& path, const std::string& target) {
    Folder(path.substr(0, path.rfind('/')));
    Folder(target);
    if (symlink((root_ + target).c_str(), (root_ + path).c_str()) != 0) FAIL() << path;
  }

  // A PCI function below its bridges: "pci0000:00/0000:00:01.0/0000:01:00.0".
  void Pci(const std::string& place, const std::string& pci_class, const std::string& vendor = "",
           const std::string& device = "", int numa_node = -1) {
    const std::string folder = "/sys/devices/" + place;
    Folder(folder);
    Write(folder + "/class", pci_class + "\n");
    if (!vendor.empty()) Write(folder + "/vendor", vendor + "\n");
    if (!device.empty()) Write(folder + "/device", device + "\n");
    Write(folder + "/numa_node", std::to_string(numa_node) + "\n");
    Link("/sys/bus/pci/devices/" + place.substr(place.rfind('/') + 1), folder);
  }

 private:
  std::string root_;
};

}  // namespace tprun
