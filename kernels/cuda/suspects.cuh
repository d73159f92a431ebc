// The last layer, evaluated by one warp only at the units that may bend, 32 channels at a time, lane = channel.

#include "changes.cuh"

#define SAFETY 1.0001f  // raises a bound far beyond what the rounding of its own sum can take away
#define TINY 1e-37f     // a normal number above the square of every number whose square is not

// Change of one pre-activation: the warp's lanes share the input channels.  `filter` is its channel's (k, k, inputs).
// Of the taps only the rectangle that lies in the box is read.  In a row of it cells and taps follow one another in memory, so
// that the row is one product of two lines.
__device__ float change_at(const float *below, const Box &box, int inputs, const float *filter, int row, int column, int lane)
{
    const int up = row - HALF - box.top, left = column - HALF - box.left;  // of the first tap in the box
    const int first = max(-left, 0), most = (min(box.columns - left, KERNEL_SIZE) - first) * inputs;
    float sum = 0.0f;
    for (int tap = max(-up, 0); tap < KERNEL_SIZE && up + tap < box.rows; ++tap) {
        const float *cells = below + ((up + tap) * box.columns + left + first) * inputs;
        const float *taps = filter + (tap * KERNEL_SIZE + first) * inputs;
#pragma unroll 2  // more takes registers that the kernel does not have
        for (int i = lane; i < most; i += WARP) sum += cells[i] * __ldg(taps + i);
    }
    return warp_sum(sum);
}

// The norm of each cell's change, as an image.
__device__ void norms_of(const float *below, const Box &box, int inputs, float *image, int lane)
{
    clear_image(image, box, lane);
    for (int i = 0; i < box.rows * box.columns; ++i) {
        float square = 0.0f;
        for (int j = lane; j < inputs; j += WARP) {
            const float change = below[i * inputs + j];
            square += change != 0.0f ? fmaxf(change * change, TINY) : 0.0f;  // a square that underflows must not clear a unit
        }
        square = warp_sum(square);
        if (lane == 0) image[image_place(box, box.top + i / box.columns, box.left + i % box.columns)] = SAFETY * sqrtf(square);
    }
    __syncwarp();
}

// So many suspects among 32 channels of a box of cells cost as much as these channels done in full, by a count of instructions in
// the machine code for sm_90.  A tile takes TAPS weights, TAPS * TILE * TILE multiply-adds and some eight more per channel below.
// A suspect is on average one and a half positions with a third of their window in the box, each of them 46 instructions, 35 for
// each row of taps and 7 for each tap and 32 channels of a cell, and some 60 of its own.
__device__ __forceinline__ int suspects_worth(const Box &box, const Layer &layer)
{
    const int tiles = ((box.rows + TILE - 1) / TILE) * ((box.columns + TILE - 1) / TILE);
    const int full = tiles * layer.inputs_used * (TAPS * (TILE * TILE + 1) + 8);
    const int rows = min(box.rows, KERNEL_SIZE), window = rows * min(box.columns, KERNEL_SIZE);
    return full / (130 + 32 * rows + 7 * window * layer.inputs / (2 * WARP));
}

// The last layer's <G, kink> for 32 channels, each lane its own, evaluated at suspects alone; false if they are too many.
__device__ bool bend_suspects(const float *below, const Box &box, const Box &cells, const Layer &layer, const float *bounds,
                              const float *filters, const float *norms, const Caches &caches, float slope, int lane,
                              float *total, int *suspected, int *bent)
{
    float taps[TAPS];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) taps[tap] = __ldg(bounds + tap * WARP);
    const int most = suspects_worth(box, layer);
    float sum = 0.0f;
    int found = 0, kinked = 0;
    for (int i = 0; i < cells.rows * cells.columns; ++i) {
        const int row = cells.top + i / cells.columns, column = cells.left + i % cells.columns;
        const int unit = (row * layer.columns + column) * layer.channels;
        const float peak = caches.peaks[unit];
        float bound[POSITIONS], gap[POSITIONS];
#pragma unroll
        for (int place = 0; place < POSITIONS; ++place)
            gap[place] = caches.gaps[unit * POSITIONS + place * WARP];
        see_image(norms, box, row, column, taps, bound);
        int winner = -1;
        float own = 0.0f, slack = infinity();
#pragma unroll
        for (int place = 0; place < POSITIONS; ++place) {
            const bool wins = winner < 0 && gap[place] == 0.0f;  // the first position without a gap
            slack = wins ? slack : fminf(slack, gap[place] - bound[place]);
            own = wins ? bound[place] : own;
            winner = wins ? place : winner;
        }
        unsigned suspects = __ballot_sync(ALL, own > fabsf(peak) || own > slack);
        found += __popc(suspects);
        if (found > most) return false;
        while (suspects) {
            const int suspect = __ffs((int)suspects) - 1;
            suspects &= suspects - 1;
            const float *filter = filters + (suspect - lane) * TAPS * layer.inputs;
            const int place = __shfl_sync(ALL, winner, suspect);
            const float change =
                change_at(below, box, layer.inputs, filter, row * POOL + place / POOL, column * POOL + place % POOL, lane);
            int rivals = 0;
#pragma unroll
            for (int other = 0; other < POSITIONS; ++other)
                rivals |= (other != winner && bound[other] > change + gap[other]) << other;
            rivals = __shfl_sync(ALL, rivals, suspect);
            float top = change;  // what follows is the suspect's own lane's; the others only share in its sums
            while (rivals) {
                const int other = __ffs(rivals) - 1;
                rivals &= rivals - 1;
                const float rival =
                    change_at(below, box, layer.inputs, filter, row * POOL + other / POOL, column * POOL + other % POOL, lane);
                top = fmaxf(top, rival - caches.gaps[unit * POSITIONS + other * WARP]);
            }
            if (lane == suspect) {
                const float kink = kink_of(peak, top, change, slope);
                kinked += kink != 0.0f;
                sum += kink * caches.gradients[unit];
            }
        }
    }
    *total += sum;
    *bent += kinked;
    *suspected += found;
    return true;
}
