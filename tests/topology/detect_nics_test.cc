#include "topology/detect_nics.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/topology/detect_fixture.h"

namespace tprun {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(DetectNics, AnRdmaCardAndItsInterfaceAreOne) {
  FakeRoot root;
  const std::string card = "pci0000:16/0000:16:02.0/0000:17:00.0";
  root.Pci(card, "0x020700", "0x15b3", "0x1021", 1);
  root.Link("/sys/class/infiniband/mlx5_0/device", "/sys/devices/" + card);
  root.Write("/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n");
  root.Write("/sys/class/infiniband/mlx5_0/ports/1/rate", "400 Gb/sec (4X NDR)\n");
  root.Write("/sys/class/infiniband/mlx5_0/ports/2/state", "1: DOWN\n");
  root.Write("/sys/class/infiniband/mlx5_0/ports/2/rate", "10 Gb/sec (4X SDR)\n");
  root.Link("/sys/class/net/ib0/device", "/sys/devices/" + card);
  root.Write("/sys/class/net/ib0/speed", "400000\n");
  const std::vector<Nic> nics = DetectNics(root.path());
  ASSERT_EQ(nics.size(), 1);
  const Nic& nic = nics[0];
  EXPECT_EQ(nic.name, "mlx5_0");
  EXPECT_THAT(nic.interfaces, ElementsAre("mlx5_0", "ib0"));
  EXPECT_EQ(nic.bandwidth_bytes_per_s, 50e9);
  EXPECT_EQ(nic.pci_bus_id, "0000:17:00.0");
  EXPECT_EQ(nic.pci_id, "15b3:1021");
  EXPECT_EQ(nic.numa_node, 1);
  EXPECT_THAT(nic.pci_bridges, ElementsAre("0000:16:02.0"));
  EXPECT_EQ(nic.sources.at("bandwidth_bytes_per_s"), "sysfs");
}

TEST(DetectNics, PlainAndVirtualOnes) {
  FakeRoot root;
  root.Pci("pci0000:00/0000:00:03.0", "0x020000", "0x1af4", "0x1041");
  // virtio stands between the card and its interface.
  root.Link("/sys/class/net/eth0/device", "/sys/devices/pci0000:00/0000:00:03.0/virtio2");
  root.Write("/sys/class/net/eth0/speed", "-1\n");
  root.Pci("pci0000:00/0000:00:04.0", "0x020000", "0x8086", "0x1592");
  root.Link("/sys/class/net/eth1/device", "/sys/devices/pci0000:00/0000:00:04.0");
  root.Write("/sys/class/net/eth1/speed", "100000\n");
  root.Folder("/sys/class/net/lo");
  const std::vector<Nic> nics = DetectNics(root.path());
  ASSERT_EQ(nics.size(), 2);
  EXPECT_EQ(nics[0].name, "eth0");
  EXPECT_EQ(nics[0].pci_bus_id, "0000:00:03.0");
  EXPECT_EQ(nics[0].bandwidth_bytes_per_s, 0);
  EXPECT_EQ(nics[1].bandwidth_bytes_per_s, 12.5e9);
}

TEST(DetectNics, NoneWithoutSysfs) {
  FakeRoot root;
  EXPECT_THAT(DetectNics(root.path()), IsEmpty());
}

}  // namespace
}  // namespace tprun
