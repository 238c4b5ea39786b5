#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace tprun {

// A CUDA runtime in host memory, for the host side of the CUDA module where there is no GPU: as
// much of it as CudaDevice needs. Each thread has a GPU of its own; a stream is a thread that
// carries out its work in order.

// Work that takes as long as it takes, as a kernel that waits for another rank does.
void GiveToStream(cudaStream_t stream, std::function<void()> work);

// Memory between processes: opening another's fails, or closing it takes so long, in this process;
// and whether any memory was freed that another process had open.
void FailToOpenMemory();
void CloseMemoryLate(int milliseconds);
bool FreedWhileOpen();

// Copies within devices that were given to streams so far, of all threads.
int CopiesWithinDevices();

}  // namespace tprun
