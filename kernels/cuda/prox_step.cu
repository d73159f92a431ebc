// One pass for the proximal step of an image, max(x - step * (grad + threshold), 0), with the sums of a stopping rule.
//
// x, grad (n) REAL -> out (n) REAL, sums (3) float64: ||new - old||^2, ||new||^2 and the sum of the new image.
// partial (BLOCKS, 3) float64 and done (one unsigned, 0 before and after) are room to work in.
//
// Launch      Up to BLOCKS blocks of THREADS threads in x, with a stride.  The grid follows from n alone, each thread adds its own
//             pixels in order, blocks add their threads as a tree, and the block that ends last adds the blocks in order: sums are
//             the same on every card and in every run, although which block is last is not.
// Bound       memory: 3 * sizeof(REAL) bytes per pixel; below some 10^5 pixels the launch itself.
// Aliasing    out may be x or grad: a pixel is read and written by one thread.  Hence no __restrict__ on the three.
// Oracle      fluogan_core.objective.prox.prox_step in array code: the image bit for bit, the sums to n * 2^-52.
constexpr int THREADS = 256;
constexpr int BLOCKS = 256;

struct Sums {
    double change, size, total;
};

// Add over the threads of the block; the result is in thread 0.
__device__ Sums block_sum(Sums mine, Sums *room) {
    room[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            Sums &a = room[threadIdx.x], &b = room[threadIdx.x + half];
            a = {a.change + b.change, a.size + b.size, a.total + b.total};
        }
    }
    __syncthreads();
    return room[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
prox_step(const REAL *x, const REAL *grad, long long n, REAL step, REAL threshold, REAL *out, double *partial, unsigned *done,
          double *__restrict__ sums) {
    __shared__ Sums room[THREADS];
    __shared__ bool last;
    Sums mine = {0.0, 0.0, 0.0};
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += stride) {
        REAL before = x[i];
        REAL moved = before - step * (grad[i] + threshold);
        REAL after = moved < REAL(0) ? REAL(0) : moved;  // a NaN stays one
        out[i] = after;
        double change = static_cast<double>(after - before), value = static_cast<double>(after);
        mine.change += change * change;
        mine.size += value * value;
        mine.total += value;
    }
    Sums block = block_sum(mine, room);
    if (threadIdx.x == 0) {
        double *row = partial + 3 * blockIdx.x;
        row[0] = block.change;
        row[1] = block.size;
        row[2] = block.total;
        __threadfence();  // the row is seen before the block counts as done
        last = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    // others' rows come from global memory, not from a cache that may be older
    const volatile double *rows = partial;
    mine = {0.0, 0.0, 0.0};
    if (threadIdx.x < gridDim.x)
        mine = {rows[3 * threadIdx.x], rows[3 * threadIdx.x + 1], rows[3 * threadIdx.x + 2]};
    Sums all = block_sum(mine, room);
    if (threadIdx.x == 0) {
        sums[0] = all.change;
        sums[1] = all.size;
        sums[2] = all.total;
        *done = 0;
    }
}
