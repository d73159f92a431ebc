// One CUDA block at a time on one thread of the host: what cuda_cpu.h asks of scheduler.cpp.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace cuda_cpu {

struct Index {
    unsigned x, y, z;
};

// In which order threads (and blocks) run between two points where they wait for each other.
enum Order { FORWARD, REVERSE, RANDOM };

struct Launch {
    Index grid, block;
    uint64_t shared_bytes;  // dynamic shared memory
    int32_t order;
    uint32_t seed;  // of the random order
};

enum class WarpOp { SHUFFLE, BALLOT, SYNC, SUM, MIN, MAX, MATCH };

extern Index thread_index, block_index, block_size, grid_size;
extern void *dynamic_shared;

// Wait for all threads of the block that have not ended; return for how many of them the predicate holds.
int block_barrier(bool predicate, int line);

// Wait for all lanes of the mask that have not ended; return what the operation gives this lane.
uint64_t warp_exchange(WarpOp op, unsigned mask, uint64_t value, int source_lane, int line);

// Give up the launch from inside a kernel.
[[noreturn]] void fail(const std::string &message);

// Run a kernel over the whole grid; return nullptr, or what went wrong (valid until the next launch).
const char *run(const Launch &launch, void (*kernel)(void **), void **arguments);

}  // namespace cuda_cpu
