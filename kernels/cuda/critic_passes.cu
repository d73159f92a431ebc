// One ordinary forward and backward pass per frame, and what it leaves for the difference kernels.
//
// Per pooled unit: the peak (largest pre-activation of its cell), the gap from it to each position of the cell (0 at the
// winner), and the gradient of the score with respect to the unit; per pixel the gradient dD/dy; per frame the score.
// Max-pooling and a monotone LeakyReLU exchange, so a pooled unit is LeakyReLU(peak).
//
// Oracle: kernels/cpu/passes.py, and torch's own backward pass.
//
// Arguments that the kernels share (S frames, U units of all layers together, see critic.cuh for the order):
//   y (S, M1, M2) float32; mean, deviation, scale (M1, M2) float32, scale = 1 / deviation
//   layers (depth, 12) int32, number: the layer in hand; first, fans, filters, biases, head: see network.py
//   hidden (S, U) float64; peaks, gradients (S, U) float32; gaps (S, U * POSITIONS) float32
//
// Launch: blocks of 4 warps along x, one frame after the other along y.  The warps of a frame take its units 32 channels at a
// time; registers only, no shared memory, so that blocks fill a multiprocessor as far as registers go.  Results depend on no
// other warp.
//
// The forward pass sums in float64: where the input is badly normalised, gaps and peaks are small differences of large
// numbers, and a kink must lie where it says.  Cost for 32-64-128 channels on 32 x 32 pixels: 9.7 million products a frame,
// 0.12 ms for 200 frames at the 34 TFLOP/s of float64 of an H100 SXM (half of its float32 rate; 1/64 on consumer cards, where
// this pass would take longer than the rest).  Each input channel costs a lane 36 products, 9 weights from the first-level
// cache and 16 broadcast inputs, so 0.3 ms is what to expect (prediction, not measured).  The backward pass goes through
// winners only, a quarter of the products, in float32: 0.1 ms (prediction).

#include "critic.cuh"

#define THREADS 128                       // of a block
#define BLOCKS (KERNEL_SIZE > 3 ? 4 : 8)  // that a multiprocessor's registers must hold: 128 or 64 registers a thread

// The warp's task within its frame: a pooled unit's cell and 32 of its channels; false if there is none left.
__device__ __forceinline__ bool next_cell(int cells, int groups, int *cell, int *group)
{
    int task = (int)(blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP);
    *cell = task / groups;
    *group = task % groups;
    return *cell < cells;
}

// Keep the largest of a cell's pre-activations, the gaps to it, and the pooled unit.
__device__ __forceinline__ void pool_cell(const double *before, double bias, float slope, double *hidden, float *peak,
                                          float *gaps)
{
    double top = before[0];
#pragma unroll
    for (int place = 1; place < POSITIONS; ++place) top = before[place] > top ? before[place] : top;
#pragma unroll
    for (int place = 0; place < POSITIONS; ++place) gaps[place * WARP] = (float)(top - before[place]);
    *peak = (float)(top + bias);
    *hidden = leaky(top + bias, slope);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) forward_first(
    const float *__restrict__ y, const float *__restrict__ mean, const float *__restrict__ deviation,
    const int *__restrict__ layers, const float *__restrict__ first, const float *__restrict__ biases, float slope, int units,
    double *__restrict__ hidden, float *__restrict__ peaks, float *__restrict__ gaps)
{
    const Layer layer = *(const Layer *)layers;
    int cell, group;
    if (!next_cell(layer.rows * layer.columns, layer.channels / WARP, &cell, &group)) return;
    const int channel = group * WARP + (int)threadIdx.x % WARP;
    const long long frame = blockIdx.y;
    const int top = cell / layer.columns * POOL - HALF, left = cell % layer.columns * POOL - HALF;
    const float *image = y + frame * layer.rows_in * layer.columns_in;
    const float *weights = first + group * TAPS * WARP + (int)threadIdx.x % WARP;
    double before[POSITIONS] = {};
    for (int row = 0; row < WINDOW; ++row)
        for (int column = 0; column < WINDOW; ++column) {
            const int r = top + row, c = left + column;
            if (r < 0 || r >= layer.rows_in || c < 0 || c >= layer.columns_in) continue;
            const int pixel = r * layer.columns_in + c;
            const double value = ((double)image[pixel] - mean[pixel]) / deviation[pixel];
#pragma unroll
            for (int place = 0; place < POSITIONS; ++place) {
                const int down = row - place / POOL, right = column - place % POOL;
                if (down < 0 || down >= KERNEL_SIZE || right < 0 || right >= KERNEL_SIZE) continue;
                before[place] += value * __ldg(weights + (down * KERNEL_SIZE + right) * WARP);
            }
        }
    const long long unit = frame * units + cell * layer.channels + channel;
    pool_cell(before, biases[channel], slope, hidden + unit, peaks + unit, gaps + gap_of(unit));
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) forward_layer(
    const int *__restrict__ layers, int number, const float *__restrict__ fans, const float *__restrict__ biases, float slope,
    int units, double *__restrict__ hidden, float *__restrict__ peaks, float *__restrict__ gaps)
{
    const Layer layer = ((const Layer *)layers)[number], under = ((const Layer *)layers)[number - 1];
    int cell, group;
    if (!next_cell(layer.rows * layer.columns, layer.channels / WARP, &cell, &group)) return;
    const int channel = group * WARP + (int)threadIdx.x % WARP;
    const long long frame = blockIdx.y;
    const int top = cell / layer.columns * POOL - HALF, left = cell % layer.columns * POOL - HALF;
    const double *below = hidden + frame * units + under.cells;
    const float *weights = fans + layer.fans + group * layer.inputs * TAPS * WARP + (int)threadIdx.x % WARP;
    double before[POSITIONS] = {};
    for (int input = 0; input < layer.inputs_used; ++input, weights += TAPS * WARP) {
#pragma unroll
        for (int row = 0; row < WINDOW; ++row) {
            const int r = top + row;
            if (r < 0 || r >= layer.rows_in) continue;
            double line[WINDOW];
#pragma unroll
            for (int column = 0; column < WINDOW; ++column) {
                const int c = left + column;
                const bool inside = c >= 0 && c < layer.columns_in;
                line[column] = inside ? below[(r * layer.columns_in + c) * layer.inputs + input] : 0.0;
            }
#pragma unroll
            for (int down = 0; down < KERNEL_SIZE; ++down) {
                if (row - down < 0 || row - down >= POOL) continue;
#pragma unroll
                for (int right = 0; right < KERNEL_SIZE; ++right) {
                    const int tap = TAPS - 1 - (down * KERNEL_SIZE + right);  // fans are mirrored
                    const double weight = __ldg(weights + tap * WARP);
#pragma unroll
                    for (int column = 0; column < POOL; ++column)
                        before[(row - down) * POOL + column] += weight * line[column + right];
                }
            }
        }
    }
    const long long unit = frame * units + layer.cells + cell * layer.channels + channel;
    pool_cell(before, biases[layer.biases + channel], slope, hidden + unit, peaks + unit, gaps + gap_of(unit));
}

// The score, by one warp per frame; and the gradient at the last layer, which is the head.
extern "C" __global__ void __launch_bounds__(WARP) score(
    const int *__restrict__ layers, int depth, const float *__restrict__ head,
    const float *__restrict__ head_bias, int units,
    const double *__restrict__ hidden, float *__restrict__ gradients, float *__restrict__ values)
{
    const Layer layer = ((const Layer *)layers)[depth - 1];
    const int lane = (int)threadIdx.x;
    const long long first = (long long)blockIdx.x * units + layer.cells;
    double total = 0.0;
    for (int i = lane; i < layer.rows * layer.columns * layer.channels; i += WARP) {
        total += head[i] * hidden[first + i];
        gradients[first + i] = head[i];
    }
    total = warp_sum(total);
    if (lane == 0) values[blockIdx.x] = (float)(total + *head_bias);
}

// The gradient at a position's pre-activation: a unit's goes to its cell's first position without a gap.
__device__ __forceinline__ float sent_down(long long unit, int place, float slope, const float *gradients, const float *peaks,
                                           const float *gaps)
{
    const float gradient = gradients[unit], *gap = gaps + gap_of(unit);
    if (gradient == 0.0f || gap[place * WARP] != 0.0f) return 0.0f;
    for (int earlier = 0; earlier < place; ++earlier)
        if (gap[earlier * WARP] == 0.0f) return 0.0f;
    return peaks[unit] > 0.0f ? gradient : slope * gradient;
}

// Gradient at the units of layer number - 1: each warp gathers for 32 of a cell's channels what the winners around it send
// down, reading 32 senders at once and skipping those that send nothing.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) backward_layer(
    const int *__restrict__ layers, int number, const float *__restrict__ filters, float slope, int units,
    const float *__restrict__ peaks, const float *__restrict__ gaps, float *__restrict__ gradients)
{
    const Layer layer = ((const Layer *)layers)[number], under = ((const Layer *)layers)[number - 1];
    int cell, group;
    if (!next_cell(under.rows * under.columns, under.channels / WARP, &cell, &group)) return;
    const int lane = (int)threadIdx.x % WARP, input = group * WARP + lane;
    const long long frame = blockIdx.y, base = frame * units;
    const int row = cell / under.columns, column = cell % under.columns;
    const float *weights = filters + layer.filters + input;
    float total = 0.0f;
    for (int tap = 0; tap < TAPS; ++tap) {
        // the position that sees this cell through the tap
        const int r = row - tap / KERNEL_SIZE + HALF, c = column - tap % KERNEL_SIZE + HALF;
        if (r < 0 || r >= layer.rows * POOL || c < 0 || c >= layer.columns * POOL) continue;
        const int place = r % POOL * POOL + c % POOL;
        const long long first = base + layer.cells + (r / POOL * layer.columns + c / POOL) * layer.channels;
        for (int start = 0; start < layer.channels_used; start += WARP) {
            const float mine = sent_down(first + start + lane, place, slope, gradients, peaks, gaps);
            unsigned senders = __ballot_sync(ALL, mine != 0.0f);
            while (senders) {
                const int sender = __ffs((int)senders) - 1;
                senders &= senders - 1;
                const float gradient = __shfl_sync(ALL, mine, sender);
                total += gradient * __ldg(weights + ((start + sender) * TAPS + tap) * layer.inputs);
            }
        }
    }
    gradients[base + under.cells + cell * under.channels + input] = total;
}

// Gradient at the pixels: one warp per pixel, lanes over the senders' channels.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) backward_first(
    const int *__restrict__ layers, const float *__restrict__ first, const float *__restrict__ scale, float slope, int units,
    const float *__restrict__ peaks, const float *__restrict__ gaps, const float *__restrict__ gradients,
    float *__restrict__ input_gradient)
{
    const Layer layer = *(const Layer *)layers;
    int pixel, none;
    if (!next_cell(layer.rows_in * layer.columns_in, 1, &pixel, &none)) return;
    const int lane = (int)threadIdx.x % WARP;
    const long long frame = blockIdx.y;
    const int row = pixel / layer.columns_in, column = pixel % layer.columns_in;
    float total = 0.0f;
    for (int tap = 0; tap < TAPS; ++tap) {
        const int r = row - tap / KERNEL_SIZE + HALF, c = column - tap % KERNEL_SIZE + HALF;
        if (r < 0 || r >= layer.rows * POOL || c < 0 || c >= layer.columns * POOL) continue;
        const int place = r % POOL * POOL + c % POOL;
        const long long unit = frame * units + (r / POOL * layer.columns + c / POOL) * layer.channels;
        for (int channel = lane; channel < layer.channels_used; channel += WARP)
            total += sent_down(unit + channel, place, slope, gradients, peaks, gaps) *
                     __ldg(first + ((channel - lane) * TAPS + tap * WARP) + lane);
    }
    total = warp_sum(total);
    if (lane == 0) input_gradient[frame * layer.rows_in * layer.columns_in + pixel] = scale[pixel] * total;
}
