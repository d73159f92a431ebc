// Chains of emissions: a list of emissions per frame, which visits what eq. (1) allows as often as it is likely.
//
// cumulate         x (pixels) float64 -> cumulated (pixels) float64, its sums up to each pixel.  One block, a run of pixels for each
//                  thread; the first thread adds the runs in order, so that sums never fall and never grow where x is 0.
// move_emissions   The chains of `frames` frames in place, by proposals[t] proposals each; log likelihood of every frame in the
//                  end; y / rate (frames, rows, cols), to be added up over the frames; proposals and acceptances by kind (2, 8).
// emission_sums    place, bright, count -> brightness per fine pixel (pixels) uint64, in units of 2^-32, added to what is there; and
//                  per frame the emissions and the sums of the brightness and of its logarithm, (frames, 3) float64.
//
// counts (frames, rows, cols) float32; base (rows, cols), the rate without emissions; columns (factor^2, k1, k2), the light of one
// emission by the phase of its fine pixel; place int32, bright float64 (frames, room), count (frames) int32.
//
// Launch      One warp per frame, which is a block of its own: frames end when they end, and a multiprocessor takes the next.  A
//             chain is sequential, so that nothing but the pixels of a proposal, its neighbours and its random words can be
//             shared: lanes share those.  The words of TURNS proposals are drawn at once, a counter for each lane.
// Shared      GLOBAL_RATE 0: the rate of the frame, rows * cols float64, dynamic.  GLOBAL_RATE 1: it lies where y / rate goes in
//             the end; for fields that do not fit, and where a multiprocessor would hold too few frames.
// Order       Every sum is over lanes that take their terms in order, then a tree over the lanes.  The only atomics add whole
//             numbers.  Results are the same bytes in every run, whatever frames are beside.
// Bound       float64: a logarithm and a division for every camera pixel of a proposal.  Without fused multiply-adds, so that
//             terms are those of the CPU.
// Oracle      fluogan_core.physics.emission_moves: the same proposals are accepted; brightness and sums to 1e-9.
#include "emission_moves.cuh"

constexpr int THREADS = 256;             // of cumulate
constexpr double UNITS = 4294967296.0;  // of brightness 1: the sum of whole numbers is the same in any order
constexpr int TURNS = 10;     // proposals whose words are drawn at once, three counters each

// The camera's pixels, and the table of columns.
struct Grid {
    int rows, cols, top, left, factor, k1, k2;
};

// The camera pixels that a change touches: a box, and where in it each part lies.
struct Footprint {
    int row[PARTS], col[PARTS], column[PARTS];  // first row and column of a part in the frame, and its column in the table
    int top, bottom, left, right;

    __device__ __forceinline__ Footprint(const Change &c, const Grid &g, int width) : top(g.rows), bottom(0), left(g.cols), right(0) {
#pragma unroll
        for (int k = 0; k < PARTS; ++k) {
            if (k >= c.parts) break;
            place(k, c.spot[k], g, width);
        }
    }
    __device__ __forceinline__ void place(int k, int spot, const Grid &g, int width) {
        const int i = spot / width, j = spot % width;
        column[k] = (i % g.factor * g.factor + j % g.factor) * g.k1 * g.k2;
        row[k] = i / g.factor + g.top;
        col[k] = j / g.factor + g.left;
        top = min(top, max(row[k], 0));
        bottom = max(bottom, min(row[k] + g.k1, g.rows));
        left = min(left, max(col[k], 0));
        right = max(right, min(col[k] + g.k2, g.cols));
    }
    __device__ __forceinline__ int width() const { return max(right - left, 0); }
    __device__ __forceinline__ int size() const { return max(bottom - top, 0) * width(); }

    // What the change adds to the rate of a camera pixel.
    __device__ __forceinline__ double of(int r, int s, const Change &c, const Grid &g, const double *__restrict__ columns) const {
        double sum = 0.0;
#pragma unroll
        for (int k = 0; k < PARTS; ++k) {
            if (k >= c.parts) break;
            const int i = r - row[k], j = s - col[k];
            if (i >= 0 && i < g.k1 && j >= 0 && j < g.k2) sum += c.amount[k] * columns[column[k] + i * g.k2 + j];
        }
        return sum;
    }
};

// One lane's way through the pixels of a footprint, row by row, every LANES-th of them: a division at its start, none on the way.
struct Walk {
    int row, col, down, across, left, right;

    __device__ __forceinline__ Walk(const Footprint &f, int lane) : left(f.left), right(f.right) {
        const int width = max(f.width(), 1);
        row = f.top + lane / width;
        col = left + lane % width;
        down = LANES / width;
        across = LANES % width;
    }
    __device__ __forceinline__ void step() {
        row += down;
        col += across;
        if (col >= right) {
            col -= right - left;
            ++row;
        }
    }
};

// The sum over the lanes, the same in each of them.
__device__ __forceinline__ double over_lanes(double mine) {
#pragma unroll
    for (int apart = LANES / 2; apart > 0; apart /= 2) mine += __shfl_xor_sync(ALL, mine, apart);
    return mine;
}

extern "C" __global__ void __launch_bounds__(THREADS)
cumulate(const double *__restrict__ x, int pixels, double *__restrict__ cumulated) {
    __shared__ double before[THREADS + 1];
    const int run = (pixels + THREADS - 1) / THREADS;
    const int first = min(static_cast<int>(threadIdx.x) * run, pixels), last = min(first + run, pixels);
    double sum = 0.0;
    for (int k = first; k < last; ++k) sum += x[k];
    before[threadIdx.x + 1] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        before[0] = 0.0;
        for (int k = 0; k < THREADS; ++k) before[k + 1] += before[k];
    }
    __syncthreads();
    const double start = before[threadIdx.x];
    sum = 0.0;
    for (int k = first; k < last; ++k) {
        sum += x[k];
        cumulated[k] = start + sum;
    }
}

extern "C" __global__ void __launch_bounds__(LANES)
move_emissions(const double *__restrict__ columns, int k1, int k2, int rows, int cols, int top, int left, int factor,
               const float *__restrict__ counts, double scale, double shift, const double *__restrict__ base,
               const double *__restrict__ x, const double *__restrict__ cumulated, int fine_rows, int fine_columns,
               double mean, double power, double decay, double spread, double constant, int fixed,
               double births, double deaths, double places, double turns, double splits, double mergers,
               int near, int middle, int far, int reach, double small, double medium, double large,
               const long long *__restrict__ proposals, const unsigned *__restrict__ numbers,
               unsigned stage, unsigned step, unsigned k0, unsigned key1,
               int *place, double *bright, int *count, int room, double *__restrict__ likelihood, double *ratio,
               unsigned long long *__restrict__ made) {
    __shared__ double drawn[6 * TURNS];
#if !GLOBAL_RATE
    extern __shared__ double rate[];
#endif
    const int lane = static_cast<int>(threadIdx.x), pixels = rows * cols;
    const size_t t = blockIdx.x, own = t * pixels;
#if GLOBAL_RATE
    double *rate = ratio + own;
#endif
    const float *seen = counts + own;
    const Grid grid = {rows, cols, top, left, factor, k1, k2};
    const Law law = {mean, power, decay, spread, constant, fixed != 0};
    const Steps steps = {near, middle, far, reach, small, medium, large};
    const Intensity intensity = {x, cumulated, fine_rows, fine_columns, cumulated[fine_rows * fine_columns - 1]};
    List list = {place + t * room, bright + t * room, count[t], fine_columns};
    const uint2 key = make_uint2(k0, key1);

    double least = base[0];
#pragma unroll 1
    for (int at = lane; at < pixels; at += LANES) {
        const double dark = base[at];
        least = min(least, dark);
        rate[at] = dark;
    }
    for (int apart = LANES / 2; apart > 0; apart /= 2) least = min(least, __shfl_xor_sync(ALL, least, apart));
    const double floor_of_rate = 0.5 * least;
    __syncwarp();
    Change change;
#pragma unroll 1
    for (int q = 0; q < list.count; ++q) {
        change.parts = 1;
        change.spot[0] = list.place[q];
        change.amount[0] = list.bright[q];
        const Footprint print(change, grid, fine_columns);
#pragma unroll 1
        for (Walk at(print, lane); at.row < print.bottom && print.size() > 0; at.step())
            rate[at.row * cols + at.col] += print.of(at.row, at.col, change, grid, columns);
        __syncwarp();
    }

    unsigned mine = 0;  // lane k counts proposals of kind k, lane 8 + k those accepted
    const unsigned wanted = static_cast<unsigned>(proposals[t]);
    for (unsigned p = 0, turn = 0; p < wanted; ++p, turn = turn + 1 == TURNS ? 0 : turn + 1) {
        if (turn == 0) {
            __syncwarp();
            if (lane < 3 * TURNS) {
                const unsigned number = p + lane / 3;
                const Uniforms w = uniforms(make_uint4(number, numbers[t], stage + NEXT_BLOCK * (lane % 3), step), key);
                drawn[2 * lane] = w.u;
                drawn[2 * lane + 1] = w.v;
            }
            __syncwarp();
        }
        const double *u = drawn + 6 * turn;
        int kind = (u[0] >= births) + (u[0] >= deaths) + (u[0] >= places) + (u[0] >= turns) + (u[0] >= splits) + (u[0] >= mergers);
        if (law.fixed && (kind == BRIGHTNESS || kind == SPLIT || kind == MERGE)) kind = PLACE;
        mine += lane == kind;
        const int n = list.count;
        if ((n == 0 && kind != BIRTH) || (n == room && (kind == BIRTH || kind == SPLIT))) continue;
        const int q = min(static_cast<int>(u[1] * n), n - 1);
        const int k = propose(change, kind, q, list, intensity, law, steps, u, lane);
        if (change.parts == 0) continue;

        const Footprint print(change, grid, fine_columns);
        const int bottom = print.size() > 0 ? print.bottom : print.top;
        const Walk first(print, lane);
        double won = 0.0;
#pragma unroll 1
        for (Walk at = first; at.row < bottom; at.step()) {
            const int pixel = at.row * cols + at.col;
            const double old = rate[pixel], added = print.of(at.row, at.col, change, grid, columns);
            const double y = max(static_cast<double>(seen[pixel]) * scale + shift, 0.0);
            won += y * log(max(old + added, floor_of_rate) / old) - added;
        }
        won = over_lanes(won) + change.linear;
        if (!law.fixed) won += law.power * log(change.base);
        if (!(log(u[5] / change.factor) < won)) continue;

        mine += lane == 8 + kind;
#pragma unroll 1
        for (Walk at = first; at.row < bottom; at.step()) {
            const int pixel = at.row * cols + at.col;
            rate[pixel] = max(rate[pixel] + print.of(at.row, at.col, change, grid, columns), floor_of_rate);
        }
        if (kind == BIRTH || kind == SPLIT) {
            if (lane == 0) {
                list.place[n] = change.spot[0];
                list.bright[n] = change.amount[0];
                if (kind == SPLIT) {
                    list.place[q] = change.spot[2];
                    list.bright[q] = change.amount[2];
                }
            }
            list.count = n + 1;
        } else if (kind == DEATH || kind == MERGE) {
            if (lane == 0) {
                if (kind == MERGE) {
                    list.place[k] = change.spot[0];
                    list.bright[k] = change.amount[0];
                }
                list.place[q] = list.place[n - 1];
                list.bright[q] = list.bright[n - 1];
            }
            list.count = n - 1;
        } else if (lane == 0) {
            list.place[q] = change.spot[0];
            list.bright[q] = kind == BRIGHTNESS ? list.bright[q] + change.amount[0] : change.amount[0];
            if (kind == PAIR) {
                list.place[k] = change.spot[2];
                list.bright[k] = change.amount[2];
            }
        }
        __syncwarp();
    }

    double sum = 0.0;
#pragma unroll 1
    for (int at = lane; at < pixels; at += LANES) {
        const double now = rate[at], y = max(static_cast<double>(seen[at]) * scale + shift, 0.0);
        sum += y * log(now) - now;
        ratio[own + at] = y / now;
    }
    sum = over_lanes(sum);
    if (lane == 0) {
        count[t] = list.count;
        likelihood[t] = sum;
    }
    if (mine) atomicAdd(&made[lane], static_cast<unsigned long long>(mine));
}

extern "C" __global__ void __launch_bounds__(LANES)
emission_sums(const int *__restrict__ place, const double *__restrict__ bright, const int *__restrict__ count, int room,
              unsigned long long *__restrict__ image, double *__restrict__ sums) {
    const size_t t = blockIdx.x, first = t * room;
    double light = 0.0, logarithm = 0.0;
    for (int k = static_cast<int>(threadIdx.x); k < count[t]; k += LANES) {
        const double w = bright[first + k];
        light += w;
        logarithm += log(w);
        atomicAdd(&image[place[first + k]], static_cast<unsigned long long>(w * UNITS + 0.5));
    }
    light = over_lanes(light);
    logarithm = over_lanes(logarithm);
    if (threadIdx.x == 0) {
        sums[3 * t] = count[t];
        sums[3 * t + 1] = light;
        sums[3 * t + 2] = logarithm;
    }
}
