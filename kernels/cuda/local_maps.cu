// Linear maps of images whose entries lie near a diagonal: along one axis, and in the plane.
//
// banded           firsts (P) int64, taps (P, width), image (rows, columns) -> out (columns, P): the transpose of B image, row p of B
//                  holding taps[p] from column firsts[p] on.  Places outside the image do not count.
// stencil          values (high, down, across, wide), rows (high) and columns (wide) int64, source (rows, columns) -> out (high, wide):
//                  the sum over a, b of values[i, a, b, j] * source[rows[i] + a, columns[j] + b]; places outside do not count.
// stencil_adjoint  the same from an image (high, wide) to out (source_rows, source_columns); rows and columns do not decrease.
//
// Launch      banded: blocks of 32 x 8 threads, each for 32 columns of the image and 32 results of each.  stencil, stencil_adjoint: a
//             thread per result, blocks of 32 x 8, rows in y.
// Thread      banded: four results; a warp reads along a row of the image, and writes along a row of the result by way of shared memory.
//             stencil_adjoint gathers: it finds the first row and column that reach its pixel by bisection, and adds in their order, so
//             that no two threads write to one place.
// Bound       stencil and its adjoint: reads of the values, 4 * down * across bytes per result; below some 10^5 results the launch itself.
// Oracle      fluogan_core.physics.local_maps in array code, to 1e-6 of the largest result.
constexpr int LANES = 32;
constexpr int LINES = 8;

extern "C" __global__ void __launch_bounds__(LANES *LINES)
banded(const long long *__restrict__ firsts, const float *__restrict__ taps, int count, int width,
       const float *__restrict__ image, int rows, int columns, float *__restrict__ out) {
    __shared__ float tile[LANES][LANES + 1];
    const int column = blockIdx.x * LANES + threadIdx.x;
    for (int line = threadIdx.y; line < LANES; line += LINES) {
        const int p = blockIdx.y * LANES + line;
        float sum = 0.0f;
        if (p < count && column < columns) {
            const long long first = firsts[p];
            const int from = first < 0 ? static_cast<int>(-first) : 0;
            const int to = first + width > rows ? static_cast<int>(rows - first) : width;
            for (int k = from; k < to; ++k) sum += taps[p * width + k] * image[(first + k) * columns + column];
        }
        tile[line][threadIdx.x] = sum;
    }
    __syncthreads();
    for (int line = threadIdx.y; line < LANES; line += LINES) {
        const int row = blockIdx.x * LANES + line, p = blockIdx.y * LANES + threadIdx.x;
        if (row < columns && p < count) out[static_cast<long long>(row) * count + p] = tile[threadIdx.x][line];
    }
}

extern "C" __global__ void __launch_bounds__(LANES *LINES)
stencil(const float *__restrict__ values, int high, int down, int across, int wide, const long long *__restrict__ rows,
        const long long *__restrict__ columns, const float *__restrict__ source, int source_rows, int source_columns,
        float *__restrict__ out) {
    const int i = blockIdx.y * LINES + threadIdx.y, j = blockIdx.x * LANES + threadIdx.x;
    if (i >= high || j >= wide) return;
    const long long top = rows[i], left = columns[j];
    float sum = 0.0f;
    for (int a = 0; a < down; ++a) {
        const long long s = top + a;
        if (s < 0 || s >= source_rows) continue;
        const float *value = values + (static_cast<long long>(i) * down + a) * across * wide + j;
        for (int b = 0; b < across; ++b) {
            const long long t = left + b;
            if (t >= 0 && t < source_columns) sum += value[static_cast<long long>(b) * wide] * source[s * source_columns + t];
        }
    }
    out[static_cast<long long>(i) * wide + j] = sum;
}

// The first of n numbers that do not decrease which is at least `least`; n if there is none.
__device__ int first_from(const long long *__restrict__ numbers, int n, long long least) {
    int low = 0, high = n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (numbers[middle] < least) low = middle + 1;
        else high = middle;
    }
    return low;
}

extern "C" __global__ void __launch_bounds__(LANES *LINES)
stencil_adjoint(const float *__restrict__ values, int high, int down, int across, int wide, const long long *__restrict__ rows,
                const long long *__restrict__ columns, const float *__restrict__ image, int source_rows, int source_columns,
                float *__restrict__ out) {
    const int s = blockIdx.y * LINES + threadIdx.y, t = blockIdx.x * LANES + threadIdx.x;
    if (s >= source_rows || t >= source_columns) return;
    const int left = first_from(columns, wide, t - across + 1LL);
    float sum = 0.0f;
    for (int i = first_from(rows, high, s - down + 1LL); i < high && rows[i] <= s; ++i) {
        const float *value = values + (static_cast<long long>(i) * down + (s - rows[i])) * across * wide;
        for (int j = left; j < wide && columns[j] <= t; ++j)
            sum += value[(t - columns[j]) * wide + j] * image[static_cast<long long>(i) * wide + j];
    }
    out[static_cast<long long>(s) * source_columns + t] = sum;
}
