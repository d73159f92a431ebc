// The proximal operator of the total variation over non-negative images, by projected gradient steps on its dual.
//
// sweep   v (rows, columns) REAL, before (2, rows, columns) REAL -> after, likewise: p + rate * grad max(v + weight div p, 0),
//         every vector shortened to length 1 where it is longer.
// primal  v, dual -> out (rows, columns): max(v + weight div p, 0), the image that belongs to a dual.
//
// Launch      one thread per pixel, blocks of 32 x 8, rows in y.  A sweep depends on its neighbours' last one, so each is a
//             launch of its own, from one dual to another; the stream keeps the order and the host waits for nothing.
// Thread      a sweep recomputes three pixels of the image, its own and the two that its differences reach: nine numbers of the
//             dual, which neighbours share through the first cache, against a second launch per sweep and an image in memory.
// Bound       memory: five REAL per pixel and sweep; below some 10^5 pixels the launch itself.
// Oracle      fluogan_core.objective.prox.prox_total_variation in array code, bit for bit: the same additions in the same order.
constexpr int TILE_X = 32;
constexpr int TILE_Y = 8;

// max(v + weight div p, 0) at one pixel; p = (down, across) is zero beyond the border.
__device__ REAL image_at(const REAL *__restrict__ v, const REAL *__restrict__ down, const REAL *__restrict__ across, REAL weight,
                         int columns, int i, int j) {
    const long long at = static_cast<long long>(i) * columns + j;
    REAL divergence = down[at] + across[at];
    if (i > 0) divergence -= down[at - columns];
    if (j > 0) divergence -= across[at - 1];
    const REAL value = v[at] + weight * divergence;
    return value < REAL(0) ? REAL(0) : value;  // a NaN stays one
}

extern "C" __global__ void __launch_bounds__(TILE_X *TILE_Y)
sweep(const REAL *__restrict__ v, REAL weight, REAL rate, int rows, int columns, const REAL *__restrict__ before,
      REAL *__restrict__ after) {
    const int i = blockIdx.y * TILE_Y + threadIdx.y, j = blockIdx.x * TILE_X + threadIdx.x;
    if (i >= rows || j >= columns) return;
    const long long at = static_cast<long long>(i) * columns + j, plane = static_cast<long long>(rows) * columns;
    const REAL *across = before + plane;
    const REAL here = image_at(v, before, across, weight, columns, i, j);
    REAL a = before[at], b = across[at];
    if (i < rows - 1) a += rate * (image_at(v, before, across, weight, columns, i + 1, j) - here);
    if (j < columns - 1) b += rate * (image_at(v, before, across, weight, columns, i, j + 1) - here);
    const REAL square = a * a + b * b;
    const REAL root = sizeof(REAL) == 4 ? static_cast<REAL>(sqrtf(static_cast<float>(square))) : static_cast<REAL>(sqrt(square));
    const REAL length = root > REAL(1) ? root : REAL(1);
    after[at] = a / length;
    after[plane + at] = b / length;
}

extern "C" __global__ void __launch_bounds__(TILE_X *TILE_Y)
primal(const REAL *__restrict__ v, REAL weight, int rows, int columns, const REAL *__restrict__ dual, REAL *__restrict__ out) {
    const int i = blockIdx.y * TILE_Y + threadIdx.y, j = blockIdx.x * TILE_X + threadIdx.x;
    if (i >= rows || j >= columns) return;
    const long long plane = static_cast<long long>(rows) * columns;
    out[static_cast<long long>(i) * columns + j] = image_at(v, dual, dual + plane, weight, columns, i, j);
}
