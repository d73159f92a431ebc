// What lies between the operators in an accelerated iteration, in one launch each; the host waits for nothing.
//
// descend      z, slope, steps (n), price (n) or one for all -> point (n): z - step * (slope + price); weight (n): step * edge.
// mean_slope   weight, start, light, mean, of_light, more (n) -> out (n): weight * (start + light - mean) + of_light + more.
// extrapolate  new, last (n), momentum -> ahead (n): new + momentum * (new - last).
//
// Launch      blocks of THREADS in x with a stride, up to BLOCKS; each thread takes pixels of its own.
// Bound       memory; below some 10^5 pixels the launch itself.
// Oracle      fluogan_core.objective.fista.Acceleration, objective.prior.SparseEdges and critics.quadratic in array code, to the
//             rounding of float32.
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

extern "C" __global__ void __launch_bounds__(THREADS)
extrapolate(const float *__restrict__ made, const float *__restrict__ last, long long n, float momentum,
            float *__restrict__ ahead) {
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long i = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += stride)
        ahead[i] = made[i] + momentum * (made[i] - last[i]);
}
