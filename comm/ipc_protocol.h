#pragma once

#include <cstdint>

// How the ranks of an ipc group use the slabs of device memory that each gives and all map. Plain
// arithmetic, the same on the host and in kernels.
//
// A slab has, for its owner:
//   dead     one word                 not 0 once a wait has failed: nothing waits any more
//   epochs   [channels]               what the owner's channels have come to
//   flags    [channels, ranks]        the epoch up to which that rank has written for that channel
//   slots    [channels, 2, ranks, chunk_bytes]   what that rank wrote in an even and an odd epoch
//   rings    [ranks, ring_bytes]      messages from that rank, as a stream of bytes, each message
//                                     filled up to a multiple of 16
//   heads    [ranks]                  bytes ever put in that ring, told by the sender
//   tails    [ranks]                  bytes ever taken from this rank's messages, told by the
//   receiver sent, received [ranks]            the owner's own counts of the same
//
// A channel is one thread block. In each epoch every rank pushes its part into the slots of all
// others, tells them by their flags (release), waits for all of its own flags (acquire) and then
// reads. Two slots are enough: a rank writes in epoch e + 2 only after its wait in epoch e + 1,
// which another rank's flag ends only when that rank has finished epoch e. So no barrier follows.
// Channels are independent of each other, and keep step over operations of any size because every
// rank uses the same number of them in each.

namespace tprun {

inline constexpr int kMostIpcRanks = 16;
inline constexpr int64_t kIpcLine = 128;  // flags of different owners lie in different lines

struct IpcLayout {
  int ranks = 0;
  int channels = 0;
  int64_t chunk_bytes = 0;
  int64_t ring_bytes = 0;

  // Offsets in bytes from the slab's beginning.
  int64_t dead = 0, epochs = 0, flags = 0, sent = 0, received = 0, heads = 0, tails = 0, slots = 0,
          rings = 0;
  int64_t total = 0;

  constexpr int64_t FlagOffset(int channel, int from) const {
    return flags + channel * FlagStride() + from * 8;
  }
  constexpr int64_t FlagStride() const { return (ranks * 8 + kIpcLine - 1) / kIpcLine * kIpcLine; }
  constexpr int64_t SlotOffset(int channel, uint64_t epoch, int from) const {
    return slots + ((channel * 2 + static_cast<int64_t>(epoch & 1)) * ranks + from) * chunk_bytes;
  }
  constexpr int64_t RingOffset(int from) const { return rings + from * ring_bytes; }
};

// chunk_bytes and ring_bytes are multiples of 16 and above 0.
constexpr IpcLayout LayOutIpc(int ranks, int channels, int64_t chunk_bytes, int64_t ring_bytes) {
  IpcLayout layout = {ranks, channels, chunk_bytes, ring_bytes};
  int64_t at = 0;
  const auto take = [&at](int64_t bytes) {
    const int64_t begin = at;
    at += (bytes + kIpcLine - 1) / kIpcLine * kIpcLine;
    return begin;
  };
  layout.dead = take(8);
  layout.epochs = take(channels * int64_t{8});
  layout.flags = take(channels * layout.FlagStride());
  layout.sent = take(ranks * int64_t{8});
  layout.received = take(ranks * int64_t{8});
  layout.heads = take(ranks * int64_t{8});
  layout.tails = take(ranks * int64_t{8});
  layout.slots = take(channels * 2 * ranks * chunk_bytes);
  layout.rings = take(ranks * ring_bytes);
  layout.total = at;
  return layout;
}

// In pinned host memory: what the host tells the kernels of a rank, and they it.
struct IpcStatus {
  uint32_t abort = 0;   // by the host: waits end
  uint32_t failed = 0;  // by a kernel: 1 + the rank it waited for in vain
};

// What a kernel knows of its group; passed by value.
struct IpcView {
  IpcLayout layout;
  int rank = 0;
  char* slabs[kMostIpcRanks] = {};
  IpcStatus* status = nullptr;
  uint64_t timeout_ns = 0;  // of one wait
};

// How an operation whose largest part has `bytes` bytes is cut: in each round channel c passes the
// bytes [(round * channels + c) * piece, + piece) of every part that has them. Small operations use
// few channels, but no channel moves less than 1 KiB if another could.
struct IpcCut {
  int channels = 1;
  int64_t piece = 16;
  int64_t rounds = 1;
};

constexpr IpcCut CutForIpc(int64_t bytes, int channels, int64_t chunk_bytes) {
  constexpr int64_t kUnit = 1024;
  IpcCut cut;
  const int64_t even = (bytes + channels - 1) / channels;
  cut.piece = (even + kUnit - 1) / kUnit * kUnit;
  if (cut.piece > chunk_bytes) cut.piece = chunk_bytes;
  if (cut.piece < 16) cut.piece = 16;
  const int64_t pieces = (bytes + cut.piece - 1) / cut.piece;
  cut.channels = static_cast<int>(pieces < channels ? (pieces < 1 ? 1 : pieces) : channels);
  const int64_t per_round = cut.piece * cut.channels;
  cut.rounds = bytes <= 0 ? 1 : (bytes + per_round - 1) / per_round;
  return cut;
}

// What may still lie in the rings to one rank or from it, as sender and receiver both count it: by
// it they know, without a word, when the sender has to hear that all has been taken, so that its
// kernel finds room and never waits. Parts are at most half a ring.
class IpcRingCount {
 public:
  explicit constexpr IpcRingCount(int64_t ring_bytes = 0) : ring_bytes_(ring_bytes) {}
  constexpr int64_t most_part() const { return ring_bytes_ / 32 * 16; }
  // Counts a part; true if what was there before must be taken first.
  constexpr bool Add(int64_t bytes) {
    const int64_t rounded = (bytes + 15) / 16 * 16;
    const bool full = waiting_ + rounded > ring_bytes_;
    waiting_ = full ? rounded : waiting_ + rounded;
    return full;
  }

 private:
  int64_t ring_bytes_;
  int64_t waiting_ = 0;
};

}  // namespace tprun
