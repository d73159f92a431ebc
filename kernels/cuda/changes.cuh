// Changes of a box of units, carried by one warp through a convolution and its pooling, 32 channels at a time, lane = channel.
//
#include "critic.cuh"

#define MARGIN (2 * HALF + POOL - 1)  // of an image: the window of every cell that a box reaches lies within it
#define TILE 2  // rows and columns of cells that are spread at once: a single photon's reach for k = 3, pool = 2

// A box of pixels, or of pooled units.
struct Box {
    int top, left, rows, columns;
};

// A layer's caches of one frame, for the channel of this lane.
struct Caches {
    const float *peaks, *gradients, *gaps;
};

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// The pooled units that a box of the layer's inputs reaches; rows or columns are not positive if it reaches none.
__device__ __forceinline__ Box reached(const Box &box, const Layer &layer)
{
    Box cells;
    cells.top = max(box.top - HALF, 0) / POOL;
    cells.left = max(box.left - HALF, 0) / POOL;
    cells.rows = min((box.top + box.rows - 1 + HALF) / POOL, layer.rows - 1) - cells.top + 1;
    cells.columns = min((box.left + box.columns - 1 + HALF) / POOL, layer.columns - 1) - cells.left + 1;
    return cells;
}

// Set an image of a box to 0, its margin included.
__device__ void clear_image(float *image, const Box &box, int lane)
{
    const int size = (box.rows + 2 * MARGIN) * (box.columns + 2 * MARGIN);
    for (int i = lane; i < size; i += WARP) image[i] = 0.0f;
    __syncwarp();
}

// Where a row and column of the field lie in the image of a box.
__device__ __forceinline__ int image_place(const Box &box, int row, int column)
{
    return (row - box.top + MARGIN) * (box.columns + 2 * MARGIN) + column - box.left + MARGIN;
}

// What a pooled cell's positions see of an image through a lane's k x k taps (not mirrored).
__device__ __forceinline__ void see_image(const float *image, const Box &box, int cell_row, int cell_column, const float *taps,
                                          float *seen)
{
    const float *window = image + image_place(box, cell_row * POOL - HALF, cell_column * POOL - HALF);
    const int width = box.columns + 2 * MARGIN;
#pragma unroll
    for (int place = 0; place < POSITIONS; ++place) seen[place] = 0.0f;
#pragma unroll
    for (int row = 0; row < WINDOW; ++row)
#pragma unroll
        for (int column = 0; column < WINDOW; ++column) {
            const float value = window[row * width + column];
#pragma unroll
            for (int place = 0; place < POSITIONS; ++place) {
                const int down = row - place / POOL, right = column - place % POOL;
                if (down >= 0 && down < KERNEL_SIZE && right >= 0 && right < KERNEL_SIZE)
                    seen[place] += value * taps[down * KERNEL_SIZE + right];
            }
        }
}

// Put into `before` what a box of changed cells makes of 32 channels' pre-activations: position (i, j) of it is the layer's
// input position (box.top - HALF + i, box.left - HALF + j).  Each lane reads and writes its own channel of it alone.
__device__ void spread_cells(const float *below, const Box &box, const Layer &layer, const float *weights, float *before,
                             int lane)
{
    const int rows = box.rows + KERNEL_SIZE - 1, columns = box.columns + KERNEL_SIZE - 1;
    for (int i = 0; i < rows * columns; ++i) before[i * WARP + lane] = 0.0f;
    for (int top = 0; top < box.rows; top += TILE)
        for (int left = 0; left < box.columns; left += TILE) {
            float sums[TILE + KERNEL_SIZE - 1][TILE + KERNEL_SIZE - 1] = {};
            const float *weight = weights;
            for (int input = 0; input < layer.inputs_used; input += 4) {
                float values[TILE][TILE][4];
#pragma unroll
                for (int r = 0; r < TILE; ++r)
#pragma unroll
                    for (int c = 0; c < TILE; ++c) {
                        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
                        if (top + r < box.rows && left + c < box.columns)
                            four = *(const float4 *)(below + ((top + r) * box.columns + left + c) * layer.inputs + input);
                        values[r][c][0] = four.x;
                        values[r][c][1] = four.y;
                        values[r][c][2] = four.z;
                        values[r][c][3] = four.w;
                    }
#pragma unroll
                for (int i = 0; i < 4; ++i, weight += TAPS * WARP)
#pragma unroll
                    for (int tap = 0; tap < TAPS; ++tap) {
                        const float w = __ldg(weight + tap * WARP);
#pragma unroll
                        for (int r = 0; r < TILE; ++r)
#pragma unroll
                            for (int c = 0; c < TILE; ++c)
                                sums[r + tap / KERNEL_SIZE][c + tap % KERNEL_SIZE] += w * values[r][c][i];
                    }
            }
#pragma unroll
            for (int r = 0; r < TILE + KERNEL_SIZE - 1; ++r)
#pragma unroll
                for (int c = 0; c < TILE + KERNEL_SIZE - 1; ++c)
                    if (top + r < rows && left + c < columns)  // a tile may stand out beyond the box
                        before[((top + r) * columns + left + c) * WARP + lane] += sums[r][c];
        }
}

// The changes of a pooled cell's positions, from `before`; a position that was not reached has not changed.
__device__ __forceinline__ void read_cell(const float *before, const Box &box, int cell_row, int cell_column, int lane,
                                          float *changes)
{
    const int rows = box.rows + KERNEL_SIZE - 1, columns = box.columns + KERNEL_SIZE - 1;
    const int top = cell_row * POOL + HALF - box.top, left = cell_column * POOL + HALF - box.left;
#pragma unroll
    for (int place = 0; place < POSITIONS; ++place) {
        const int row = top + place / POOL, column = left + place % POOL;
        const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
        changes[place] = inside ? before[(row * columns + column) * WARP + lane] : 0.0f;
    }
}

// How far a pooled unit's true change is from the linear one: `top` and `change` are those of its peak and of its winner.
__device__ __forceinline__ float kink_of(float peak, float top, float change, float slope)
{
    // LeakyReLU is a line through its side of 0, plus a bend where the sum changes sign
    const float beyond = peak > 0.0f ? -(peak + top) : peak + top;
    return (peak > 0.0f ? 1.0f : slope) * (top - change) + (1.0f - slope) * fmaxf(beyond, 0.0f);
}
