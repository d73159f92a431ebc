// How a few photons change the score, D(y + photons) - D(y), for many sets of photons and frames, one warp per set.
//
// The photons' change is carried from layer to layer through the units it reaches, and with G the gradient of the score with
// respect to a layer's pooled units (critic_passes.cu),
//
//     D(y') - D(y) = <dD/dy, y' - y> + sum over layers of <G, kink>,
//
// exactly: `kink` is a unit's true change minus its linearisation and is zero unless the winner of its cell or its sign
// changes.  So the last layer, by far the widest, is needed at its kinks alone: a pre-activation of it changes by at most the
// sum over taps of |weights| * |change of the cell below|, and a unit that the bound cannot exclude is a suspect: its winner (and
// the positions that might overtake it) are computed exactly, the warp's lanes sharing the input channels.  Where suspects are
// many, the layer is computed in full, 32 channels at a time.
//
// Oracle: kernels/cpu/critic_differences.py; D run on every perturbed frame in float64.
//
// Arguments of score_changes (U units per frame, order of units and gaps: critic.cuh)
//   layers (depth, 12) int32; first (C_0 / 32, k, k, 32) weights of the first layer; fans, filters: later layers
//   bounds (C / 32, k, k, 32) norms of the last layer's taps over the input channels; scale (M1, M2) 1 / deviation
//   peaks, gradients (S, U), gaps (S, U * POSITIONS), slopes (S, M1, M2) = dD/dy, float32
//   order, begin, end: sets order[begin .. end - 1]; frame (P,), starts (P + 1,), pixels: the sets, see the CPU twin;
//     first_frame: the frame that the caches begin with
//   step counts per photon; pruned, remainder, as the CPU twin's
//   image, changes, before: floats of each part of a warp's scratch, see the kernel; multiples of 4
//   room: scratch in device memory for all warps of the grid, where a block's shared memory cannot hold it (GLOBAL_SCRATCH)
//   out (P,) float32; counters (depth, 3) uint64, raised if counting: units touched, suspected, bent
//
// Macros: KERNEL_SIZE, POOL, GLOBAL_SCRATCH.
//
// Launch: blocks of 1 to 4 warps (as shared memory allows), one set per warp, lane = channel; warps never wait for each other.
// Sets come sorted by the size of their box (one launch per class of sizes, so that shared memory fits and warps of a block
// end together), then by frame and pixel, so that neighbours share cached gaps.  Each set's sum is formed in one fixed order
// by one warp, so results depend on nothing else.
//
// The heart is spread_cells (changes.cuh): a tile of 2 x 2 cells of the layer below spreads over its surroundings in
// registers.  Each weight is read once per tile (all sets read the same 74 kB for 32 -> 64 channels, which the first-level
// cache holds) and serves four products; inputs are broadcast from shared memory, four channels a read: 36 products for 9 + 1
// reads, so half of the peak rate by the reads.  Tiles of 2 x 4 would halve the reads of weights, but boxes are small (8 cells
// on average for two or more photons of b + C_i at kappa = 1, 17 at kappa = 20), and what stands out of them costs as much.
// cuBLAS was considered: as a product [cells, C_in] x [C_in, 9 C_out] and a scatter, the second layer alone would write and
// read back 1.9 GB for 200 frames of 32 x 32 pixels, and the last layer could not be skipped.
//
// Registers (k = 3, pool = 2, by the compiler for sm_80 and sm_90): 128 a thread, no spills; 16 warps to a multiprocessor.
// Scratch for 32-64-128 channels: 8 kB a warp for single photons (131 kB for 16 warps, the rest of 256 kB caches weights and
// gaps), 12 kB for boxes of 4 x 4 pixels (all 16 warps), 15 kB for 6 x 6 (12 warps), 26 kB for 11 x 11 (8 warps).
//
// Count for one photon, 32-64-128 channels, k = 3, pool = 2 (FMA: fused products; reads: a warp's, 128 bytes or broadcast)
//   first layer      4 cells x 36 taps x 32                   5 kFMA     100 reads
//   second           4 cells x 9 taps x 32 x 64              74 kFMA     640 reads, and 250 of caches and scratch
//   last, bounds     6.25 cells x 36 taps x 128              29 kFMA     580 reads
//   last, suspects   each 1.5 positions x 4 cells x 64      0.4 kFMA      30 reads, sums over lanes included
// and 4 + 10 + 20 kB of peaks, gaps and gradients.  Of the last layer's 690 units in reach, 14 to 79 are suspects (two trained
// critics, counted by the CPU twin; 0.4 to 1.5 bend), so a photon takes 2 000 to 3 900 reads; done in full, the last layer
// alone would take 5 800.  For all photons of 200 frames of 32 x 32 pixels (x 204 800): 46 to 58 GFLOP, 0.8 to 1.0 ms at 60
// TFLOP/s; 7 GB through the caches, 1.3 ms from the second level's 5.5 TB/s; by the reads, one a cycle on each of 132
// multiprocessors at 1.7 GHz, 1.8 to 3.6 ms.  The number of instructions is what bounds it, above all of these: docs/cuda.md has
// the times predicted from it (nothing was measured).
//
// For b + C_i at kappa = 1 (FWHM 318 nm, 100 nm pixels) the table of single photons answers 36 % of the sets; 24 % (0.79
// million of 200 x 16 384) hold more, with 7.9, 7.4 and 6.2 cells in the three layers and 160 suspects of 800 units: 0.25 MFMA
// with what stands out of tiles, some 8 000 reads, 28 ms by these, and a quarter of that on every second fine pixel.  At kappa = 20
// all sets hold many, with 17, 11 and 7 cells and two thirds of the last layer suspects, so that it is done in full: 13 000
// reads, 190 ms by these, 50 ms on every second pixel.

#include "changes.cuh"
#include "suspects.cuh"

// Blocks of four warps that a multiprocessor's registers must hold: 128 registers a thread, more for larger kernels and cells.
#define BLOCKS (KERNEL_SIZE > 3 ? 2 : POOL > 2 ? 3 : 4)

// The part of scratch that is one warp's.
struct Scratch {
    float *image;   // a box of single values with a margin of zeros: photons, or norms of changes
    float *before;  // changes of 32 channels' pre-activations, one lane each, (positions, 32)
};

// Sums over the sets that one warp has done.
struct Tally {
    int suspected, bent;
};

// The smallest box that holds a set's photons.
__device__ Box photon_box(const int *pixels, long long start, long long stop, int columns, int lane)
{
    int top = 0x7fffffff, left = 0x7fffffff, bottom = -1, right = -1;
    for (long long i = start + lane; i < stop; i += WARP) {
        const int row = pixels[i] / columns, column = pixels[i] % columns;
        top = min(top, row);
        left = min(left, column);
        bottom = max(bottom, row);
        right = max(right, column);
    }
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        top = min(top, __shfl_xor_sync(ALL, top, distance));
        left = min(left, __shfl_xor_sync(ALL, left, distance));
        bottom = max(bottom, __shfl_xor_sync(ALL, bottom, distance));
        right = max(right, __shfl_xor_sync(ALL, right, distance));
    }
    return {top, left, bottom - top + 1, right - left + 1};
}

// One layer done in full for 32 channels, each lane its own: what it adds to the score's change; the units' changes go to
// `above` unless it is null.
template <bool FROM_IMAGE>
__device__ void bend_cells(const Scratch &scratch, const Box &box, const Box &cells, const Layer &layer, const float *first,
                           const Caches &caches, float slope, bool pruned, bool last, int lane, float *above, float *total,
                           Tally *tally)
{
    float taps[TAPS];
    if (FROM_IMAGE) {
#pragma unroll
        for (int tap = 0; tap < TAPS; ++tap) taps[tap] = __ldg(first + tap * WARP);
    }
    for (int i = 0; i < cells.rows * cells.columns; ++i) {
        const int row = cells.top + i / cells.columns, column = cells.left + i % cells.columns;
        const int unit = (row * layer.columns + column) * layer.channels;
        float changes[POSITIONS];
        if (FROM_IMAGE)
            see_image(scratch.image, box, row, column, taps, changes);
        else
            read_cell(scratch.before, box, row, column, lane, changes);
        float change = 0.0f, top = -infinity();
#pragma unroll
        for (int place = POSITIONS - 1; place >= 0; --place) {  // backwards: among equal gaps the first position is the winner
            const float gap = caches.gaps[unit * POSITIONS + place * WARP];
            change = gap == 0.0f ? changes[place] : change;
            top = fmaxf(top, changes[place] - gap);
        }
        const float peak = caches.peaks[unit];
        const float kink = kink_of(peak, top, change, slope);
        const float after = (peak > 0.0f ? 1.0f : slope) * change + kink;
        if (above) above[i * layer.channels] = after;
        tally->bent += kink != 0.0f;
        if (pruned)
            *total += kink * caches.gradients[unit];
        else if (last)
            *total += after * caches.gradients[unit];  // the head
    }
}

extern "C" __global__ void __launch_bounds__(128, BLOCKS) score_changes(
    const int *__restrict__ layers, int depth, const float *__restrict__ first, const float *__restrict__ fans,
    const float *__restrict__ filters, const float *__restrict__ bounds, const float *__restrict__ scale, float slope,
    int units, const float *__restrict__ peaks, const float *__restrict__ gradients, const float *__restrict__ gaps,
    const float *__restrict__ slopes, const long long *__restrict__ order, long long begin, long long end,
    const long long *__restrict__ frame, int first_frame, const long long *__restrict__ starts, const int *__restrict__ pixels,
    float step, int pruned, int remainder, int image, int changes, int before, float *__restrict__ room,
    float *__restrict__ out, int counting, unsigned long long *__restrict__ counters)
{
    extern __shared__ __align__(16) float shared[];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    const long long number = (long long)blockIdx.x * warps + warp;
    const int size = image + 2 * changes + before;
#if GLOBAL_SCRATCH
    float *mine = room + number * size;
#else
    float *mine = shared + warp * size;
#endif
    const Scratch scratch = {mine, mine + image};
    float *const units_changed = mine + image + before;  // two parts: of the layer below and of the one in hand, in turn
    const Layer *layer_list = (const Layer *)layers;
    const int field_rows = layer_list[0].rows_in, field_columns = layer_list[0].columns_in;
    for (long long task = begin + number; task < end; task += (long long)gridDim.x * warps) {
        const long long set = order[task], start = starts[set], stop = starts[set + 1];
        const long long cache = frame[set] - first_frame;
        const float *pixel_slopes = slopes + cache * field_rows * field_columns;
        Box box = photon_box(pixels, start, stop, field_columns, lane);
        clear_image(scratch.image, box, lane);
        float linear = 0.0f, total = 0.0f;
        for (long long i = start + lane; i < stop; i += WARP) {
            const int pixel = pixels[i];
            linear += pixel_slopes[pixel];
            // photons of one pixel add equal values, so their order does not matter
            atomicAdd(scratch.image + image_place(box, pixel / field_columns, pixel % field_columns), step * scale[pixel]);
        }
        __syncwarp();
        for (int l = 0; l < depth; ++l) {
            const Layer &layer = layer_list[l];
            const bool last = l == depth - 1;
            const Box cells = reached(box, layer);
            if (cells.rows <= 0 || cells.columns <= 0) break;  // only where poolings cut the border off
            const float *below = units_changed + (l + 1) % 2 * changes;  // (rows, columns, channels) of the box
            float *above = last ? nullptr : units_changed + l % 2 * changes;
            const int touched = cells.rows * cells.columns * layer.channels_used;
            bool prune = pruned && last && l > 0;
            if (prune) norms_of(below, box, layer.inputs, scratch.image, lane);
            Tally tally = {0, 0};
            for (int start_channel = 0; start_channel < layer.channels_used; start_channel += WARP) {
                const int channel = start_channel + lane;
                const long long unit = cache * units + layer.cells + channel;
                const Caches caches = {peaks + unit, gradients + unit, gaps + gap_of(unit)};
                const int tile = start_channel * TAPS + lane;  // of the first layer's weights, or of the last one's bounds
                float *to = above ? above + channel : nullptr;
                if (l == 0) {
                    tally.suspected = touched;
                    bend_cells<true>(scratch, box, cells, layer, first + tile, caches, slope, pruned, last, lane, to, &total,
                                     &tally);
                    continue;
                }
                if (prune) {
                    const float *filter = filters + layer.filters + channel * TAPS * layer.inputs;
                    prune = bend_suspects(below, box, cells, layer, bounds + tile, filter, scratch.image, caches, slope, lane,
                                          &total, &tally.suspected, &tally.bent);
                    if (prune) continue;  // else too many of the other channels will be suspects as well
                }
                tally.suspected += cells.rows * cells.columns * min(layer.channels_used - start_channel, WARP);
                const float *weights = fans + layer.fans + start_channel * layer.inputs * TAPS + lane;
                spread_cells(below, box, layer, weights, scratch.before, lane);
                bend_cells<false>(scratch, box, cells, layer, nullptr, caches, slope, pruned, last, lane, to, &total, &tally);
            }
            if (counting) {
                const int bent = (int)warp_sum((double)tally.bent);
                if (lane == 0) {
                    atomicAdd(counters + l * 3, (unsigned long long)touched);
                    atomicAdd(counters + l * 3 + 1, (unsigned long long)tally.suspected);
                    atomicAdd(counters + l * 3 + 2, (unsigned long long)bent);
                }
            }
            box = cells;
            __syncwarp();
        }
        total = warp_sum(total);
        linear = step * warp_sum(linear);
        if (lane == 0) out[set] = total + (pruned && !remainder ? linear : !pruned && remainder ? -linear : 0.0f);
        __syncwarp();
    }
}
