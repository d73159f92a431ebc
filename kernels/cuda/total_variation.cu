// The proximal operator of the total variation over non-negative images, by projected gradient steps on its dual.
//
// A dual p has four numbers for each cell between four pixels: of its upper, lower, left and right side.
//
// sweep   v, weight, edges (rows, columns) REAL, before (4, rows, columns) REAL -> after, likewise:
//         p + rate * grad max(v + weight div p, 0), every vector of four shortened to length edges / sqrt(2) where it is longer;
//         numbers below ``least``, which is above 0 in the last sweep, become 0; the rate is 1/8 over the largest sum of two
//         neighbours' weights in the cell.
// primal  v, weight, dual -> out (rows, columns): max(v + weight div p, 0), the image that belongs to a dual.
//
// Launch      one thread per pixel, blocks of 32 x 8, rows in y.  A sweep depends on its neighbours' last one, so each is a
//             launch of its own, from one dual to another; the stream keeps the order and the host waits for nothing.
// Thread      a sweep recomputes the four pixels of the image that its cell lies between, from numbers of the dual that
//             neighbours share through the first cache, against a second launch per sweep and an image in memory.
// Bound       memory: eleven REAL per pixel and sweep; below some 10^5 pixels the launch itself.
// Oracle      fluogan_core.objective.prox.prox_total_variation in array code, bit for bit: the same additions in the same order.
constexpr int TILE_X = 32;
constexpr int TILE_Y = 8;

__device__ REAL larger(REAL a, REAL b) { return a > b ? a : b; }

// The dual's numbers that belong to the difference to the next pixel in the row; 0 beyond the border.
__device__ REAL across_at(const REAL *__restrict__ dual, long long plane, int columns, int i, long long at) {
    return i > 0 ? dual[at] + dual[plane + at - columns] : dual[at];
}

// The same in the column.
__device__ REAL down_at(const REAL *__restrict__ dual, long long plane, int j, long long at) {
    return j > 0 ? dual[2 * plane + at] + dual[3 * plane + at - 1] : dual[2 * plane + at];
}

// max(v + weight div p, 0) at one pixel.
__device__ REAL image_at(const REAL *__restrict__ v, const REAL *__restrict__ weight, const REAL *__restrict__ dual,
                         long long plane, int columns, int i, int j) {
    const long long at = static_cast<long long>(i) * columns + j;
    REAL divergence = across_at(dual, plane, columns, i, at) + down_at(dual, plane, j, at);
    if (j > 0) divergence -= across_at(dual, plane, columns, i, at - 1);
    if (i > 0) divergence -= down_at(dual, plane, j, at - columns);
    const REAL value = v[at] + weight[at] * divergence;
    return value < REAL(0) ? REAL(0) : value;  // a NaN stays one
}

// 0 for what is smaller than ``least``, far below rounding; a NaN stays one.
__device__ REAL without_dust(REAL value, REAL least) { return value < least && value > -least ? REAL(0) : value; }

extern "C" __global__ void __launch_bounds__(TILE_X *TILE_Y)
sweep(const REAL *__restrict__ v, const REAL *__restrict__ weight, const REAL *__restrict__ edges, int rows, int columns,
      const REAL *__restrict__ before, REAL *__restrict__ after, REAL least) {
    const int i = blockIdx.y * TILE_Y + threadIdx.y, j = blockIdx.x * TILE_X + threadIdx.x;
    if (i >= rows || j >= columns) return;
    const long long at = static_cast<long long>(i) * columns + j, plane = static_cast<long long>(rows) * columns;
    if (i == rows - 1 || j == columns - 1) {  // no cell
        for (int side = 0; side < 4; ++side) after[side * plane + at] = before[side * plane + at];
        return;
    }
    const REAL w = weight[at], w_next = weight[at + 1], w_below = weight[at + columns], w_beyond = weight[at + columns + 1];
    const REAL rate = REAL(0.225) / larger(larger(w_below + w_beyond, w + w_next), larger(w_next + w_beyond, w + w_below));
    const REAL here = image_at(v, weight, before, plane, columns, i, j);
    const REAL next = image_at(v, weight, before, plane, columns, i, j + 1);
    const REAL below = image_at(v, weight, before, plane, columns, i + 1, j);
    const REAL beyond = image_at(v, weight, before, plane, columns, i + 1, j + 1);
    const REAL a = before[at] + rate * (next - here), b = before[plane + at] + rate * (beyond - below);
    const REAL c = before[2 * plane + at] + rate * (below - here), d = before[3 * plane + at] + rate * (beyond - next);
    const REAL square = REAL(2) * ((a * a + b * b) + (c * c + d * d));
    const REAL root = sizeof(REAL) == 4 ? static_cast<REAL>(sqrtf(static_cast<float>(square))) : static_cast<REAL>(sqrt(square));
    const REAL shrink = edges[at] / larger(root, edges[at]);
    after[at] = without_dust(shrink * a, least);
    after[plane + at] = without_dust(shrink * b, least);
    after[2 * plane + at] = without_dust(shrink * c, least);
    after[3 * plane + at] = without_dust(shrink * d, least);
}

extern "C" __global__ void __launch_bounds__(TILE_X *TILE_Y)
primal(const REAL *__restrict__ v, const REAL *__restrict__ weight, int rows, int columns, const REAL *__restrict__ dual,
       REAL *__restrict__ out) {
    const int i = blockIdx.y * TILE_Y + threadIdx.y, j = blockIdx.x * TILE_X + threadIdx.x;
    if (i >= rows || j >= columns) return;
    const long long plane = static_cast<long long>(rows) * columns;
    out[static_cast<long long>(i) * columns + j] = image_at(v, weight, dual, plane, columns, i, j);
}
