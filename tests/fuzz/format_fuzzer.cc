// Feeds one format (FUZZED_FORMAT, a function of topology/source.h) whatever comes.

#include <cstddef>
#include <cstdint>

#include "tests/fuzz/sound_topology.h"
#include "topology/source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  static const std::unique_ptr<tprun::TopologyFormat> format = tprun::FUZZED_FORMAT();
  format->Matches(text);
  tprun::CheckSound(format->Parse(text, "input"));
  return 0;
}
