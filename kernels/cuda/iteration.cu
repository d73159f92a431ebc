// What lies between the operators in an accelerated iteration on two images, in one launch each; the host waits for nothing.
//
// descend      z, slope, steps (n), price (n) or one for all -> point (n): z - step * (slope + price); weight (n): step * edge.
// mean_slope   weight, start, light, mean, of_light, more (n) -> out (n): weight * (start + light - mean) + of_light + more.
// uphill       of two images the point ahead, the new one and the last one -> the momentum (2) float64: t and the factor of
//              t' = (1 + sqrt(1 + 4 t^2)) / 2, (t - 1) / t'; 1 and 0 where the step turned against the last move, that is where
//              the sum of (ahead - new) (new - last) / step is above 0.
// extrapolate  new, last of two images, momentum -> ahead: new + factor * (new - last).
//
// Launch      blocks of THREADS in x with a stride, up to BLOCKS.  In uphill each thread adds its own pixels in order, blocks add their
//             threads as a tree, and the block that ends last adds the blocks in order and takes the decision: the same on every card.
// Bound       memory; below some 10^5 pixels the launch itself.
// Oracle      fluogan_core.objective.fista.Acceleration, objective.prior.SparseEdges and critics.quadratic in array code, to the
//             rounding of float32; the sum of uphill is in float64.
constexpr int THREADS = 256;

extern "C" __global__ void __launch_bounds__(THREADS)
descend(const float *__restrict__ z, const float *__restrict__ slope, const float *__restrict__ steps, long long n,
        const float *__restrict__ prices, int priced, float price, float edge, float *__restrict__ point,
        float *__restrict__ weight) {
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += stride) {
        const float step = steps[i];
        point[i] = z[i] - step * (slope[i] + (priced ? prices[i] : price));
        weight[i] = step * edge;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mean_slope(const float *__restrict__ weight, const float *__restrict__ start, const float *__restrict__ light,
           const float *__restrict__ mean, const float *__restrict__ of_light, const float *__restrict__ more, long long n,
           float *__restrict__ out) {
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += stride)
        out[i] = weight[i] * (start[i] + light[i] - mean[i]) + of_light[i] + more[i];
}

// Add over the threads of the block; the result is in thread 0.
__device__ double block_sum(double mine, double *room) {
    room[threadIdx.x] = mine;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
    }
    __syncthreads();
    return room[0];
}

extern "C" __global__ void __launch_bounds__(THREADS)
uphill(const float *__restrict__ ahead, const float *__restrict__ made, const float *__restrict__ last,
       const float *__restrict__ steps, long long n, const float *__restrict__ other_ahead, const float *__restrict__ other_made,
       const float *__restrict__ other_last, double other_step, long long m, double *partial, unsigned *done, double *momentum) {
    __shared__ double room[THREADS];
    __shared__ bool ends;
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    const long long from = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    double mine = 0.0, others = 0.0;
    for (long long i = from; i < n; i += stride) mine += (ahead[i] - made[i]) * (made[i] - last[i]) / steps[i];
    for (long long i = from; i < m; i += stride) others += (other_ahead[i] - other_made[i]) * (other_made[i] - other_last[i]);
    const double block = block_sum(mine + others / other_step, room);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = block;
        __threadfence();  // the sum is seen before the block counts as done
        ends = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!ends) return;
    // others' sums come from global memory, not from a cache that may be older
    const volatile double *sums = partial;
    const double whole = block_sum(threadIdx.x < gridDim.x ? sums[threadIdx.x] : 0.0, room);
    if (threadIdx.x == 0) {
        const double t = momentum[0], next = 0.5 * (1.0 + sqrt(1.0 + 4.0 * t * t));
        momentum[0] = whole > 0.0 ? 1.0 : next;
        momentum[1] = whole > 0.0 ? 0.0 : (t - 1.0) / next;
        *done = 0;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
extrapolate(const float *__restrict__ made, const float *__restrict__ last, long long n, const float *__restrict__ other_made,
            const float *__restrict__ other_last, long long m, const double *__restrict__ momentum, float *__restrict__ ahead,
            float *__restrict__ other_ahead) {
    const float factor = static_cast<float>(momentum[1]);
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < n + m; i += stride) {
        if (i < n) ahead[i] = made[i] + factor * (made[i] - last[i]);
        else other_ahead[i - n] = other_made[i - n] + factor * (other_made[i - n] - other_last[i - n]);
    }
}
