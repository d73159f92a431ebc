// The smooth background that is not negative, of a small field, in one launch: nothing is asked of the host in between.
//
// target (rows, columns) -> out: what argmin over b >= 0 of w / 2 ||b - target||^2 + 1/2 (penalty of b) is after `turns` turns.
//
// The penalty is diagonal in cosines, but for some polynomials that are free: the filter of a weight w multiplies the spectrum s by its
// gains and adds, for each polynomial p, <seen[p], s> added[p].  Where the filtered target is 0 or more everywhere, it is the answer.
// Else bound and penalty are met in turn from start on (alternating directions, over-relaxed), with the filter of 2 w.  `gains`, `seen` and `added`
// hold the filter of w and then that of 2 w.  along is the cosine transform of a column (rows, rows), across and its transpose
// across_back that of a row (columns, columns); dual is room to work in.
//
// Launch      one block of THREADS, 2 * rows * columns floats of dynamic shared memory.
// Thread      every THREADS-th number of each product, whose terms it adds in order; a transform and its inverse are four products.
//             bound and dual are read and written by one thread each.
// Bound       4 * rows * columns * (rows + columns) multiplications a turn on one multiprocessor, and eight barriers.
// Oracle      fluogan_core.objective.terms.Objective.background_step in array code, to 1e-5 of the largest number.
constexpr int THREADS = 512;
constexpr int LANES = 32;
constexpr int POLYNOMIALS = 8;

// Add over the block; every thread has the result.
__device__ float sum_of_block(float mine, float *room) {
    for (int half = LANES / 2; half > 0; half /= 2) mine += __shfl_down_sync(0xffffffffu, mine, half);
    __syncthreads();  // the room may still be read
    if (threadIdx.x % LANES == 0) room[threadIdx.x / LANES] = mine;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < THREADS / LANES; ++warp) sum += room[warp];
    return sum;
}

// to[k, j] = sum_n matrix[k, n] from[n, j]; a row of the matrix is by_row from the last one, a column by_column.
__device__ void down(float *to, const float *from, const float *__restrict__ matrix, int by_row, int by_column, int rows, int columns) {
    for (int at = threadIdx.x; at < rows * columns; at += THREADS) {
        const int k = at / columns, j = at % columns;
        float sum = 0.0f;
        for (int n = 0; n < rows; ++n) sum += matrix[k * by_row + n * by_column] * from[n * columns + j];
        to[at] = sum;
    }
}

// to[k, l] = sum_j from[k, j] matrix[j, l]
__device__ void right(float *to, const float *from, const float *__restrict__ matrix, int rows, int columns) {
    for (int at = threadIdx.x; at < rows * columns; at += THREADS) {
        const int k = at / columns, l = at % columns;
        float sum = 0.0f;
        for (int j = 0; j < columns; ++j) sum += from[k * columns + j] * matrix[j * columns + l];
        to[at] = sum;
    }
}

// image := its filtered version; other is room of the same size.
__device__ void filter(float *image, float *other, float *room, int rows, int columns, const float *__restrict__ along,
                       const float *__restrict__ across, const float *__restrict__ across_back, const float *__restrict__ gains,
                       int polynomials, const float *__restrict__ seen, const float *__restrict__ added) {
    const int size = rows * columns;
    __syncthreads();
    down(other, image, along, rows, 1, rows, columns);
    __syncthreads();
    right(image, other, across_back, rows, columns);
    // a thread's own numbers of the spectrum: no barrier
    float parts[POLYNOMIALS];
#pragma unroll
    for (int p = 0; p < POLYNOMIALS; ++p) {
        if (p >= polynomials) break;
        float sum = 0.0f;
        for (int at = threadIdx.x; at < size; at += THREADS) sum += seen[p * size + at] * image[at];
        parts[p] = sum_of_block(sum, room);
    }
    for (int at = threadIdx.x; at < size; at += THREADS) {
        float sum = image[at] * gains[at];
#pragma unroll
        for (int p = 0; p < POLYNOMIALS; ++p)
            if (p < polynomials) sum += parts[p] * added[p * size + at];
        image[at] = sum;
    }
    __syncthreads();
    down(other, image, along, 1, rows, rows, columns);
    __syncthreads();
    right(image, other, across, rows, columns);
}

extern "C" __global__ void __launch_bounds__(THREADS)
bounded_background(const float *__restrict__ target, const float *start, int rows, int columns, int turns, float relaxation,
                   const float *__restrict__ along, const float *__restrict__ across, const float *__restrict__ across_back,
                   const float *__restrict__ gains, int polynomials, const float *__restrict__ seen,
                   const float *__restrict__ added, float *__restrict__ dual, float *out) {
    extern __shared__ float images[];
    __shared__ float room[THREADS / LANES];
    const int size = rows * columns;
    float *image = images, *other = images + size;
    for (int at = threadIdx.x; at < size; at += THREADS) image[at] = target[at];
    filter(image, other, room, rows, columns, along, across, across_back, gains, polynomials, seen, added);
    bool fine = true;
    for (int at = threadIdx.x; at < size; at += THREADS) fine = fine && image[at] >= 0.0f;  // a NaN is not
    if (__syncthreads_and(fine)) {
        for (int at = threadIdx.x; at < size; at += THREADS) out[at] = image[at];
        return;
    }
    for (int at = threadIdx.x; at < size; at += THREADS) {
        const float first = start[at];
        out[at] = first < 0.0f ? 0.0f : first;
        dual[at] = 0.0f;
    }
    gains += size;
    seen += polynomials * size;
    added += polynomials * size;
    for (int turn = 0; turn < turns; ++turn) {
        for (int at = threadIdx.x; at < size; at += THREADS) image[at] = 0.5f * (target[at] + out[at] - dual[at]);
        filter(image, other, room, rows, columns, along, across, across_back, gains, polynomials, seen, added);
        for (int at = threadIdx.x; at < size; at += THREADS) {
            const float b = out[at] + relaxation * (image[at] - out[at]), moved = b + dual[at], bounded = moved < 0.0f ? 0.0f : moved;
            dual[at] = moved - bounded;
            out[at] = bounded;
        }
    }
}
