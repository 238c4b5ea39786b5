#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Runs a kernel without a GPU: the blocks of a grid one after another, the threads of a block as
// fibers that leave the processor at barriers and warp operations only. It finds what a GPU hides:
// threads of a block that wait for one another in vain, warp operations that not all lanes reach,
// and, since every other block runs its threads in reverse order and a warp goes as far as it can
// before the next one, most missing barriers. Which block is first, and how it runs its threads,
// changes from grid to grid. Built with AddressSanitizer it finds accesses beyond static, dynamic
// and global memory too. Shared memory starts as NaN in every block. Not thread-safe, like all of
// this library.
//
// Returns "" or what went wrong; the rest of the grid is then left out.
using ThreadBody = void (*)(void* argument);
std::string RunGrid(Dim3 grid, Dim3 block, size_t shared_bytes, ThreadBody body, void* argument);

// What the emulated CUDA functions are made of; to be called by the threads of RunGrid.
inline constexpr int kWarpSize = 32;
inline constexpr size_t kMostExchanged = 64;  // bytes per lane

void SyncBlock();
// Every lane of the warp gives `bytes` bytes and gets those of all lanes, kMostExchanged apart;
// valid until the lane's next warp operation. `operation` names it, the same for all lanes.
const unsigned char* ExchangeInWarp(const char* operation, unsigned mask, const void* value,
                                    size_t bytes);
int LaneOfThread();
unsigned char* DynamicSharedMemory();

// Set for the running thread.
extern Dim3 g_thread_index, g_block_index, g_block_dim, g_grid_dim;

}  // namespace cuda_emulation
