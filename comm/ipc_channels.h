#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "absl/types/span.h"
#include "comm/peer_options.h"

namespace tprun {

// Where a rank of the ipc back end is, to compare among ranks, which exchange it as the bytes that
// it is.
struct IpcPlace {
  PeerIdentity peer;
  int64_t resident_blocks = 0;  // of the back end's kernels, on its GPU at once
};

// How many of `channels` channels the ranks can use. The blocks of ranks that are threads on one
// GPU wait for one another, so that the GPU must have room for all of them at once; half of it is
// left for kernels that it still runs. Processes take turns on a GPU and need no such room.
inline int ChannelsThatFit(absl::Span<const IpcPlace> places, int channels) {
  int64_t most = channels;
  for (const IpcPlace& place : places) {
    const int64_t ranks = std::count_if(places.begin(), places.end(), [&](const IpcPlace& other) {
      return other.peer.host == place.peer.host && other.peer.process == place.peer.process &&
             std::memcmp(other.peer.gpu, place.peer.gpu, sizeof(place.peer.gpu)) == 0;
    });
    if (ranks > 1) most = std::min(most, place.resident_blocks / ranks / 2);
  }
  return static_cast<int>(std::max<int64_t>(most, 1));
}

}  // namespace tprun
