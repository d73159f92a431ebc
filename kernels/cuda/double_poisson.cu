// The two stages of eq. (1), Y = gain * P(Psi P(x) + b) + N: emissions draws P(x), detect the rest, given the blurred frames.
//
// emissions   x (pixels) REAL -> out (frames, pixels) float32.  A block owns TILE pixels and some frames.  It sorts its lit
//             pixels into two lists in shared memory, means below 32 from the front and the others from the back, with exp(-mean)
//             taken once for all frames; then its threads go through (frame, entry of a list) with no idle lane between.  An
//             image of emitters is mostly dark: a thread per pixel would leave most lanes of most warps waiting for the few.
//             Zeros are written first, in rows, counts over them where they are not zero.
// detect      blurred (frames, pixels), background (pixels) REAL -> out (frames, pixels) float32.  One thread per camera pixel
//             and frame; the read noise is drawn in the same pass.
// words_of    counters (n) uint4 -> words (n) uint4, for the test against the vectors of Random123.
//
// REAL        float or double: the dtype of x, or of blurred and background, in which a rate is added up.
// Launch      THREADS threads in x.  emissions: x counts tiles, y groups of frames, as many as fill the card.  detect: x covers
//             the pixels, y the frames, both with a stride where the grid is smaller.
// Occupancy   some 55 registers let four blocks share a multiprocessor, half of the threads that it can hold; the 18 KiB of shared
//             memory of emissions would let eight.  Arithmetic takes the time (Philox, float64), not memory: half is enough.
// Oracle      ForwardModel.emissions and ForwardModel.detect in array code; counts are equal whatever the launch shape.
#include "poisson.cuh"

constexpr int THREADS = 256;
constexpr int TILE = 1024;

extern "C" __global__ void __launch_bounds__(THREADS)
emissions(const REAL *__restrict__ x, unsigned pixels, const unsigned *__restrict__ numbers, unsigned frames,
          unsigned frames_per_block, unsigned k0, unsigned k1, unsigned stage, unsigned step, float *__restrict__ out) {
    __shared__ double mean[TILE];
    __shared__ double zero[TILE];
    __shared__ unsigned short pixel[TILE];
    __shared__ unsigned listed[2];  // entries with means below 32, and of 32 or more

    const unsigned first = blockIdx.x * TILE;
    const unsigned own = min(static_cast<unsigned>(TILE), pixels - first);
    const unsigned first_frame = blockIdx.y * frames_per_block;
    const unsigned last_frame = min(first_frame + frames_per_block, frames);
    const uint2 key = make_uint2(k0, k1);

    if (threadIdx.x < 2) listed[threadIdx.x] = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < own; i += THREADS) {
        double rate = x[first + i];
        if (!(rate > 0.0)) continue;
        bool large = rate >= POISSON_INVERSION_BELOW;
        unsigned place = atomicAdd(&listed[large], 1u);
        if (large) place = TILE - 1 - place;
        mean[place] = rate;
        zero[place] = large ? 0.0 : exp(-rate);
        pixel[place] = static_cast<unsigned short>(i);
    }
    for (unsigned f = first_frame; f < last_frame; ++f)
        for (unsigned i = threadIdx.x; i < own; i += THREADS) out[static_cast<size_t>(f) * pixels + first + i] = 0.0f;
    __syncthreads();

    const unsigned small = listed[0], large = listed[1], group = last_frame - first_frame;
    for (unsigned task = threadIdx.x; task < small * group; task += THREADS) {
        unsigned f = first_frame + task / small, place = task % small;
        unsigned i = first + pixel[place];
        double u = uniforms(make_uint4(i, numbers[f], stage, step), key).u;
        if (u > zero[place]) out[static_cast<size_t>(f) * pixels + i] = static_cast<float>(inverted(mean[place], zero[place], u));
    }
    for (unsigned task = threadIdx.x; task < large * group; task += THREADS) {
        unsigned f = first_frame + task / large, place = TILE - 1 - task % large;
        unsigned i = first + pixel[place];
        double count = poisson_large(mean[place], make_uint4(i, numbers[f], stage, step), key);
        out[static_cast<size_t>(f) * pixels + i] = static_cast<float>(count);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
detect(const REAL *__restrict__ blurred, const REAL *__restrict__ background, REAL epsilon, unsigned pixels,
       const unsigned *__restrict__ numbers, unsigned frames, unsigned k0, unsigned k1, unsigned detection_stage,
       unsigned noise_stage, unsigned step, float gain, double noise_std, float *__restrict__ out) {
    const uint2 key = make_uint2(k0, k1);
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < pixels; i += gridDim.x * THREADS) {
        for (unsigned f = blockIdx.y; f < frames; f += gridDim.y) {
            size_t at = static_cast<size_t>(f) * pixels + i;
            REAL light = blurred[at];  // below zero by the rounding of an FFT
            REAL rate = (light > REAL(0) ? light : REAL(0)) + background[i] + epsilon;
            double count = poisson(static_cast<double>(rate), make_uint4(i, numbers[f], detection_stage, step), key);
            float y = gain * static_cast<float>(count);
            if (noise_std > 0.0) {
                Uniforms w = uniforms(make_uint4(i, numbers[f], noise_stage, step), key);
                y += static_cast<float>(noise_std * box_muller(w));
            }
            out[at] = y;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
words_of(const uint4 *__restrict__ counters, unsigned n, unsigned k0, unsigned k1, uint4 *__restrict__ words) {
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS)
        words[i] = philox4x32(counters[i], make_uint2(k0, k1));
}
