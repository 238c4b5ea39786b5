#include "topology/source.h"

namespace tprun {

// The structured kinds first: each text of theirs is of one kind only. Of nvidia-smi's outputs a
// paste may have several, and then those in front go before the others: what states a fact exactly
// before what rounds or cuts it.
const std::vector<const TopologyFormat*>& TopologyFormats() {
  static const std::vector<std::unique_ptr<TopologyFormat>> owned = [] {
    std::vector<std::unique_ptr<TopologyFormat>> formats;
    formats.push_back(MakeTopologyJsonFormat());
    formats.push_back(MakeClusterYamlFormat());
    formats.push_back(MakeNcclXmlFormat());
    formats.push_back(MakeHwlocXmlFormat());
    formats.push_back(MakeNvidiaSmiQueryFormat());
    formats.push_back(MakeNvidiaSmiCsvFormat());
    formats.push_back(MakeNvidiaSmiListFormat());
    formats.push_back(MakeNvidiaSmiMigFormat());
    formats.push_back(MakeNvidiaSmiNvlinkFormat());
    formats.push_back(MakeNvidiaSmiTableFormat());
    formats.push_back(MakeNvidiaSmiMatrixFormat());
    formats.push_back(MakeNvidiaSmiP2pFormat());
    formats.push_back(MakeSyntheticFormat());
    return formats;
  }();
  static const std::vector<const TopologyFormat*> formats = [] {
    std::vector<const TopologyFormat*> pointers;
    for (const auto& format : owned) pointers.push_back(format.get());
    return pointers;
  }();
  return formats;
}

}  // namespace tprun
