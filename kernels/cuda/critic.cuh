// The layers of a slim critic, as its kernels read them: convolution, LeakyReLU and max-pooling, channel last.
//
// Macros: KERNEL_SIZE (odd), POOL.
// A warp works on 32 channels of a unit, one per lane; channels are padded with zero weights to a multiple of 32.
// Units lie in the order row, column, channel, layer after layer; gaps in the order row, column, 32 channels, position, channel
// of the 32: what a lane reads for one cell then lies at fixed distances, which cost no registers.

#define HALF (KERNEL_SIZE / 2)
#define TAPS (KERNEL_SIZE * KERNEL_SIZE)
#define POSITIONS (POOL * POOL)
#define WINDOW (KERNEL_SIZE + POOL - 1)  // inputs along one side that a pooled unit sees
#define WARP 32
#define ALL 0xffffffffu

// Twin of LAYER in network.py: offsets are into the arrays of the network and of a frame's caches.
struct Layer {
    int rows_in, columns_in;
    int rows, columns;  // after pooling
    int inputs;         // channels, padded (1 for the first layer)
    int inputs_used;    // without the padding, up to a multiple of 4
    int channels;       // padded
    int channels_used;
    int fans;     // of (channels / 32, inputs, k, k, 32) mirrored weights: what each input channel spreads
    int filters;  // of (channels, k, k, inputs) weights: what each output channel sees
    int biases;
    int cells;  // of the layer's pooled units in a frame's caches
};

// Index of the gap at a cell's first position, from the index of the unit of this lane; the next position is WARP further on.
__device__ __forceinline__ long long gap_of(long long unit)
{
    const int lane = (int)threadIdx.x % WARP;
    return (unit - lane) * POSITIONS + lane;
}

__device__ __forceinline__ float warp_sum(float value)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

__device__ __forceinline__ double warp_sum(double value)
{
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL, value, distance);
    return value;
}

__device__ __forceinline__ float leaky(float value, float slope) { return value > 0.0f ? value : slope * value; }

__device__ __forceinline__ double leaky(double value, float slope) { return value > 0.0 ? value : slope * value; }
