#pragma once

#include "comm/ipc_intrinsics.cuh"
#include "comm/ipc_protocol.h"
#include "comm/sum_and_norm.h"

// The kernels of the ipc back end; comm/ipc_protocol.h has the protocol. A block is a channel, of
// up to kMostIpcThreads threads.

namespace tprun {

struct Bf16Bits {
  uint16_t bits;
};
struct HalfBits {
  uint16_t bits;
};

__device__ __forceinline__ float Widen(float value) { return value; }
__device__ __forceinline__ float Widen(Bf16Bits value) {
  return __uint_as_float(static_cast<uint32_t>(value.bits) << 16);
}
__device__ __forceinline__ float Widen(HalfBits value) { return HalfToFloat(value.bits); }

__device__ __forceinline__ void Narrow(float value, float& out) { out = value; }
__device__ __forceinline__ void Narrow(float value, Bf16Bits& out) {
  const uint32_t bits = __float_as_uint(value);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  // To nearest even; a NaN stays one, quiet.
  out.bits = nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
__device__ __forceinline__ void Narrow(float value, HalfBits& out) {
  out.bits = FloatToHalf(value);
}

// 16 bytes of whatever elements.
struct alignas(16) Line16 {
  uint32_t words[4];
};

// Element k of a line of T; to set it, the line must have been zero.
template <typename T>
__device__ __forceinline__ float LaneOf(const Line16& line, int k) {
  if constexpr (sizeof(T) == 4) {
    return __uint_as_float(line.words[k]);
  } else {
    return Widen(T{static_cast<uint16_t>(line.words[k / 2] >> (k % 2 * 16))});
  }
}

template <typename T>
__device__ __forceinline__ void SetLane(Line16& line, int k, float value) {
  if constexpr (sizeof(T) == 4) {
    line.words[k] = __float_as_uint(value);
  } else {
    T element;
    Narrow(value, element);
    line.words[k / 2] |= static_cast<uint32_t>(element.bits) << (k % 2 * 16);
  }
}

__device__ __forceinline__ bool Aligned16(const void* a, const void* b) {
  return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) & 15) == 0;
}

// By all threads of the block.
__device__ __forceinline__ void CopyInBlock(char* to, const char* from, int64_t bytes) {
  int64_t done = 0;
  if (Aligned16(to, from)) {
    const int64_t lines = bytes / 16;
    for (int64_t i = threadIdx.x; i < lines; i += blockDim.x) {
      reinterpret_cast<Line16*>(to)[i] = reinterpret_cast<const Line16*>(from)[i];
    }
    done = lines * 16;
  }
  for (int64_t i = done + threadIdx.x; i < bytes; i += blockDim.x) to[i] = from[i];
}

__device__ __forceinline__ uint64_t* WordAt(char* slab, int64_t offset) {
  return reinterpret_cast<uint64_t*>(slab + offset);
}

// Waits until the word has come to `value`; false when it does not in time or the host says stop.
__device__ inline bool AwaitWord(const IpcView& view, const uint64_t* word, uint64_t value,
                                 int peer) {
  uint32_t* const dead = reinterpret_cast<uint32_t*>(view.slabs[view.rank] + view.layout.dead);
  if (LoadAcquire(word) >= value) return true;
  const uint64_t begin = Nanoseconds();
  while (true) {
    for (int look = 0; look < 64; ++look) {
      if (LoadAcquire(word) >= value) return true;
    }
    const bool late = Nanoseconds() - begin >= view.timeout_ns;
    if (late || LoadFresh(dead) != 0 || LoadFresh(&view.status->abort) != 0) break;
  }
  if (LoadFresh(&view.status->failed) == 0) StoreFresh(&view.status->failed, 1 + peer);
  StoreFresh(dead, 1);
  return false;
}

// The channel's piece of this rank to the others' slots.
__device__ inline void PushPiece(const IpcView& view, int channel, uint64_t epoch, const char* from,
                                 int64_t bytes) {
  const int64_t offset = view.layout.SlotOffset(channel, epoch, view.rank);
  for (int step = 1; step < view.layout.ranks; ++step) {  // each rank begins with its neighbour
    const int peer = (view.rank + step) % view.layout.ranks;
    CopyInBlock(view.slabs[peer] + offset, from, bytes);
  }
}

// Tells the others that this rank's piece of the epoch is there, and waits for theirs.
__device__ inline bool MeetPeers(const IpcView& view, int channel, uint64_t epoch) {
  __syncthreads();
  bool met = true;
  for (int peer = threadIdx.x; peer < view.layout.ranks; peer += blockDim.x) {
    if (peer == view.rank) continue;
    StoreRelease(WordAt(view.slabs[peer], view.layout.FlagOffset(channel, view.rank)), epoch);
  }
  for (int peer = threadIdx.x; peer < view.layout.ranks; peer += blockDim.x) {
    if (peer == view.rank) continue;
    const uint64_t* flag = WordAt(view.slabs[view.rank], view.layout.FlagOffset(channel, peer));
    met = AwaitWord(view, flag, epoch, peer) && met;
  }
  return __syncthreads_and(met) != 0;
}

// receive[i] = the sum over all ranks' pieces in the order of the ranks, in f32, rounded once.
template <typename T>
__device__ inline void SumPieces(const IpcView& view, int channel, uint64_t epoch, const char* send,
                                 char* receive, int64_t bytes) {
  constexpr int kLanes = 16 / sizeof(T);
  const char* own_slab = view.slabs[view.rank];
  const auto piece_of = [&](int rank) {
    return rank == view.rank ? send : own_slab + view.layout.SlotOffset(channel, epoch, rank);
  };
  int64_t done = 0;  // elements
  if (Aligned16(send, receive)) {
    const int64_t lines = bytes / 16;
    for (int64_t i = threadIdx.x; i < lines; i += blockDim.x) {
      float sum[kLanes] = {};
      for (int rank = 0; rank < view.layout.ranks; ++rank) {
        const Line16 line = reinterpret_cast<const Line16*>(piece_of(rank))[i];
        for (int k = 0; k < kLanes; ++k) {
          sum[k] = rank == 0 ? LaneOf<T>(line, k) : sum[k] + LaneOf<T>(line, k);
        }
      }
      Line16 out = {};
      for (int k = 0; k < kLanes; ++k) SetLane<T>(out, k, sum[k]);
      reinterpret_cast<Line16*>(receive)[i] = out;
    }
    done = lines * kLanes;
  }
  const int64_t count = bytes / static_cast<int64_t>(sizeof(T));
  for (int64_t i = done + threadIdx.x; i < count; i += blockDim.x) {
    float sum = Widen(reinterpret_cast<const T*>(piece_of(0))[i]);
    for (int rank = 1; rank < view.layout.ranks; ++rank) {
      sum += Widen(reinterpret_cast<const T*>(piece_of(rank))[i]);
    }
    Narrow(sum, reinterpret_cast<T*>(receive)[i]);
  }
}

// One step: every rank gets all parts and sums for itself. Grid: cut.channels.
// One block to a multiprocessor is asked for, here and below: to place four, the compiler spills.
template <typename T>
__global__ void __launch_bounds__(kMostIpcThreads, 1)
    IpcAllReduceKernel(IpcView view, const char* send, char* receive, int64_t bytes, IpcCut cut) {
  const int channel = blockIdx.x;
  uint64_t* const counter = WordAt(view.slabs[view.rank], view.layout.epochs) + channel;
  uint64_t epoch = *counter;
  for (int64_t round = 0; round < cut.rounds; ++round) {
    const int64_t begin = (round * cut.channels + channel) * cut.piece;
    const int64_t length = bytes - begin < cut.piece ? bytes - begin : cut.piece;
    if (length <= 0) break;
    ++epoch;
    PushPiece(view, channel, epoch, send + begin, length);
    if (!MeetPeers(view, channel, epoch)) return;
    SumPieces<T>(view, channel, epoch, send + begin, receive + begin, length);
  }
  __syncthreads();
  if (threadIdx.x == 0) *counter = epoch;
}

// The sum over the block's threads, on all of them.
__device__ inline float SumOfBlock(float value) {
  float* const floats = FloatsOfBlock();
  __syncthreads();
  floats[threadIdx.x] = value;
  for (unsigned half = kMostIpcThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half && threadIdx.x + half < blockDim.x) {
      floats[threadIdx.x] += floats[threadIdx.x + half];
    }
  }
  __syncthreads();
  return floats[0];
}

// residual[i] += the sum of all ranks' pieces, as in SumPieces; this thread's part of the sum of
// squares of what comes out.
__device__ inline float AddPieces(const IpcView& view, int channel, uint64_t epoch,
                                  const float* parts, float* residual, int64_t count) {
  const char* own_slab = view.slabs[view.rank];
  const auto piece_of = [&](int rank) {
    return rank == view.rank ? reinterpret_cast<const char*>(parts)
                             : own_slab + view.layout.SlotOffset(channel, epoch, rank);
  };
  float squares = 0;
  const int64_t lines = Aligned16(parts, residual) ? count / 4 : 0;
  for (int64_t i = threadIdx.x; i < lines; i += blockDim.x) {
    float sum[4] = {};
    for (int rank = 0; rank < view.layout.ranks; ++rank) {
      const Line16 line = reinterpret_cast<const Line16*>(piece_of(rank))[i];
      for (int k = 0; k < 4; ++k) {
        sum[k] = rank == 0 ? LaneOf<float>(line, k) : sum[k] + LaneOf<float>(line, k);
      }
    }
    Line16 line = reinterpret_cast<const Line16*>(residual)[i];
    for (int k = 0; k < 4; ++k) {
      const float value = LaneOf<float>(line, k) + sum[k];
      SetLane<float>(line, k, value);
      squares += value * value;
    }
    reinterpret_cast<Line16*>(residual)[i] = line;
  }
  for (int64_t i = lines * 4 + threadIdx.x; i < count; i += blockDim.x) {
    float sum = reinterpret_cast<const float*>(piece_of(0))[i];
    for (int rank = 1; rank < view.layout.ranks; ++rank) {
      sum += reinterpret_cast<const float*>(piece_of(rank))[i];
    }
    const float value = residual[i] + sum;
    residual[i] = value;
    squares += value * value;
  }
  return squares;
}

// The same sum in one step, into a residual and its norm: a channel has whole tokens, so that it
// knows their squares. Grid: channels, up to that of the layout.
__global__ void __launch_bounds__(kMostIpcThreads, 1)
    IpcAllReduceNormKernel(IpcView view, SumAndNorm what, int channels) {
  const int channel = blockIdx.x;
  uint64_t* const counter = WordAt(view.slabs[view.rank], view.layout.epochs) + channel;
  uint64_t epoch = *counter;
  const int64_t most = view.layout.chunk_bytes / static_cast<int64_t>(sizeof(float));
  for (int64_t token = channel; token < what.tokens; token += channels) {
    const int64_t at = token * what.dim;
    float squares = 0;
    for (int64_t begin = 0; begin < what.dim; begin += most) {
      const int64_t count = what.dim - begin < most ? what.dim - begin : most;
      const float* parts = what.parts + at + begin;
      ++epoch;
      PushPiece(view, channel, epoch, reinterpret_cast<const char*>(parts), count * 4);
      if (!MeetPeers(view, channel, epoch)) return;
      squares += AddPieces(view, channel, epoch, parts, what.residual + at + begin, count);
    }
    const float mean = SumOfBlock(squares) / static_cast<float>(what.dim);
    const float scale = 1.0f / sqrtf(mean + what.eps);
    for (int64_t i = threadIdx.x; i < what.dim; i += blockDim.x) {
      const float weight = what.weight[i] + (what.unit_offset ? 1.0f : 0.0f);
      what.out[at + i] = what.residual[at + i] * scale * weight;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) *counter = epoch;
}

// Parts of the ranks, of sizes[r] bytes, in the order of the ranks; also a broadcast, in which one
// rank alone has a part.
struct IpcParts {
  int64_t sizes[kMostIpcRanks];
  int64_t offsets[kMostIpcRanks];  // in `receive`
};

// Grid: cut.channels, for the largest part.
__global__ void __launch_bounds__(kMostIpcThreads, 1)
    IpcAllGatherKernel(IpcView view, const char* send, char* receive, IpcParts parts, IpcCut cut) {
  const int channel = blockIdx.x;
  uint64_t* const counter = WordAt(view.slabs[view.rank], view.layout.epochs) + channel;
  uint64_t epoch = *counter;
  for (int64_t round = 0; round < cut.rounds; ++round) {
    const int64_t begin = (round * cut.channels + channel) * cut.piece;
    const auto length_of = [&](int rank) {
      const int64_t left = parts.sizes[rank] - begin;
      return left < 0 ? 0 : left < cut.piece ? left : cut.piece;
    };
    ++epoch;
    PushPiece(view, channel, epoch, send + begin, length_of(view.rank));
    if (!MeetPeers(view, channel, epoch)) return;
    for (int rank = 0; rank < view.layout.ranks; ++rank) {
      char* to = receive + parts.offsets[rank] + begin;
      const char* from = rank == view.rank
                             ? send + begin
                             : view.slabs[view.rank] + view.layout.SlotOffset(channel, epoch, rank);
      if (to != from) CopyInBlock(to, from, length_of(rank));
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) *counter = epoch;
}

__device__ __forceinline__ int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }

// How much of a message goes through a ring at once: so that sender and receiver work in turn.
__device__ __forceinline__ int64_t RingStep(const IpcLayout& layout, uint64_t position,
                                            int64_t wanted) {
  const int64_t to_end = layout.ring_bytes - static_cast<int64_t>(position % layout.ring_bytes);
  const int64_t quarter = layout.ring_bytes >= 64 ? layout.ring_bytes / 64 * 16 : 16;
  return Least(Least(wanted, to_end), quarter);
}

__device__ __forceinline__ uint64_t RoundUp16(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

// One block.
__global__ void __launch_bounds__(kMostIpcThreads, 1)
    IpcSendKernel(IpcView view, const char* data, int64_t bytes, int to) {
  const IpcLayout& layout = view.layout;
  char* const own = view.slabs[view.rank];
  char* const ring = view.slabs[to] + layout.RingOffset(view.rank);
  uint64_t* const head = WordAt(view.slabs[to], layout.heads) + view.rank;
  const uint64_t* const tail = WordAt(own, layout.tails) + to;
  uint64_t* const counter = WordAt(own, layout.sent) + to;
  uint64_t sent = *counter;
  int64_t done = 0;
  while (done < bytes) {
    const int64_t length = RingStep(layout, sent, bytes - done);
    const uint64_t end = sent + RoundUp16(length);
    bool free = true;
    if (threadIdx.x == 0 && end > static_cast<uint64_t>(layout.ring_bytes)) {
      free = AwaitWord(view, tail, end - layout.ring_bytes, to);
    }
    if (__syncthreads_and(free) == 0) return;
    CopyInBlock(ring + sent % layout.ring_bytes, data + done, length);
    __syncthreads();
    if (threadIdx.x == 0) StoreRelease(head, end);
    sent = end;
    done += length;
  }
  __syncthreads();
  if (threadIdx.x == 0) *counter = sent;
}

// One block.
__global__ void __launch_bounds__(kMostIpcThreads, 1)
    IpcReceiveKernel(IpcView view, char* data, int64_t bytes, int from) {
  const IpcLayout& layout = view.layout;
  char* const own = view.slabs[view.rank];
  const char* const ring = own + layout.RingOffset(from);
  const uint64_t* const head = WordAt(own, layout.heads) + from;
  uint64_t* const tail = WordAt(view.slabs[from], layout.tails) + view.rank;
  uint64_t* const counter = WordAt(own, layout.received) + from;
  uint64_t received = *counter;
  int64_t done = 0;
  while (done < bytes) {
    const int64_t length = RingStep(layout, received, bytes - done);
    const uint64_t end = received + RoundUp16(length);
    bool there = true;
    if (threadIdx.x == 0) there = AwaitWord(view, head, end, from);
    if (__syncthreads_and(there) == 0) return;
    CopyInBlock(data + done, ring + received % layout.ring_bytes, length);
    __syncthreads();
    if (threadIdx.x == 0) StoreRelease(tail, end);
    received = end;
    done += length;
  }
  __syncthreads();
  if (threadIdx.x == 0) *counter = received;
}

// Word i of what rank `from` writes into the memory of rank `to`: differs in every word and pair.
__device__ __forceinline__ uint32_t PatternWord(int from, int to, int64_t i) {
  uint32_t word =
      static_cast<uint32_t>(i) * 2654435761u + static_cast<uint32_t>(from * 64 + to + 1);
  return (word ^ (word >> 15)) * 2246822519u;
}

// Writes `words` words of the pattern to `memory`.
__global__ void IpcWritePatternKernel(uint32_t* memory, int64_t words, int from, int to) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = first; i < words; i += step) memory[i] = PatternWord(from, to, i);
}

// Adds to *wrong how many words of `memory` are not the pattern's.
__global__ void IpcCheckPatternKernel(const uint32_t* memory, int64_t words, int from, int to,
                                      unsigned* wrong) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  unsigned mine = 0;
  for (int64_t i = first; i < words; i += step) mine += memory[i] != PatternWord(from, to, i);
  if (mine != 0) atomicAdd(wrong, mine);
}

}  // namespace tprun
