// The photons of one more emission, P(C_i), for many fine pixels and frames: how many stay in the field, then where each falls.
//
// count_photons   -> kept (sets) int64.  The sum of it is where each set starts; it is taken between the two kernels.
// place_photons   starts (sets + 1) int64 -> pixels (starts[sets]) int32, flat camera pixels in the order in which they are drawn.
//
// Both take: totals (L * L) float64 and cumulative (L * L, places) float64, per phase the expected photons and the distribution
// function over the places of the polyphase table; rows, columns (places) int32, offsets from the emitter's camera pixel;
// indices (emitters) uint32, flat fine pixels; numbers (frames) uint32.  Set f * emitters + p is emitter p in frame f.
//
// Photons that fall outside the field are lost.  An emitter whose table lies inside loses none, and its number is all that the
// first pass draws; only near the border are places drawn twice, which costs less than writing photons loosely and closing gaps.
//
// Launch      THREADS threads in x, one set each, with a stride where the grid is smaller.  No shared memory: the tables of all
//             phases (some ten KB) stay in the first-level cache.  A place is sought by bisection, seven steps for 81 places.
// Occupancy   54 registers let nine blocks of count_photons share a multiprocessor, 28 let sixteen of place_photons fill it.
// Oracle      fluogan_core.physics.photons.draw_photons in array code: equal, order included.
#include "poisson.cuh"

constexpr int THREADS = 128;

struct Camera {
    int rows, columns, factor;
};

// Where a fine pixel lies: its camera pixel, and its phase inside it.
struct Emitter {
    int top, left, phase;
    __device__ Emitter(unsigned index, Camera camera) {
        unsigned width = static_cast<unsigned>(camera.columns * camera.factor), factor = static_cast<unsigned>(camera.factor);
        unsigned n1 = index / width, n2 = index % width;
        top = static_cast<int>(n1 / factor);
        left = static_cast<int>(n2 / factor);
        phase = static_cast<int>(n1 % factor * factor + n2 % factor);
    }
};

// The places of the table, and the corners of the rectangle of camera pixels that they are in.
struct Places {
    const double *cumulative;  // of one phase
    const int *rows, *columns;
    int count;

    __device__ bool all_inside(const Emitter &e, Camera camera) const {
        int last = count - 1;  // rows first: the table's first and last place are its corners
        return e.top + rows[0] >= 0 && e.left + columns[0] >= 0 && e.top + rows[last] < camera.rows &&
               e.left + columns[last] < camera.columns;
    }

    // The camera pixel of the next photon, or -1 if it leaves the field; the counter moves on to the next photon's block.
    __device__ int draw(const Emitter &e, Camera camera, uint4 &counter, uint2 key) const {
        double u = uniforms(counter, key).u;
        counter.z += NEXT_BLOCK;
        int low = 0, high = count - 1;  // the last entry is 1, above any u
        while (low < high) {
            int middle = (low + high) / 2;
            if (cumulative[middle] < u) low = middle + 1;
            else high = middle;
        }
        int row = e.top + rows[low], column = e.left + columns[low];
        bool inside = row >= 0 && row < camera.rows && column >= 0 && column < camera.columns;
        return inside ? row * camera.columns + column : -1;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
count_photons(const double *__restrict__ totals, const double *__restrict__ cumulative, const int *__restrict__ rows,
              const int *__restrict__ columns, int places, int camera_rows, int camera_columns, int factor,
              const unsigned *__restrict__ indices, unsigned emitters, const unsigned *__restrict__ numbers, long long sets,
              unsigned k0, unsigned k1, unsigned count_stage, unsigned place_stage, unsigned step,
              long long *__restrict__ kept) {
    const Camera camera = {camera_rows, camera_columns, factor};
    const uint2 key = make_uint2(k0, k1);
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long set = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; set < sets; set += stride) {
        unsigned index = indices[set % emitters], number = numbers[set / emitters];
        Emitter e(index, camera);
        Places table = {cumulative + static_cast<size_t>(e.phase) * places, rows, columns, places};
        long long drawn = static_cast<long long>(poisson(totals[e.phase], make_uint4(index, number, count_stage, step), key));
        long long inside = drawn;
        if (!table.all_inside(e, camera)) {
            inside = 0;
            uint4 counter = make_uint4(index, number, place_stage, step);
            for (long long k = 0; k < drawn; ++k) inside += table.draw(e, camera, counter, key) >= 0;
        }
        kept[set] = inside;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
place_photons(const double *__restrict__ cumulative, const int *__restrict__ rows, const int *__restrict__ columns, int places,
              int camera_rows, int camera_columns, int factor, const unsigned *__restrict__ indices, unsigned emitters,
              const unsigned *__restrict__ numbers, long long sets, unsigned k0, unsigned k1, unsigned place_stage,
              unsigned step, const long long *__restrict__ starts, int *__restrict__ pixels) {
    const Camera camera = {camera_rows, camera_columns, factor};
    const uint2 key = make_uint2(k0, k1);
    const long long stride = static_cast<long long>(gridDim.x) * THREADS;
    for (long long set = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; set < sets; set += stride) {
        unsigned index = indices[set % emitters], number = numbers[set / emitters];
        Emitter e(index, camera);
        Places table = {cumulative + static_cast<size_t>(e.phase) * places, rows, columns, places};
        uint4 counter = make_uint4(index, number, place_stage, step);
        // the first pass has counted how many stay: those that leave are passed over until the last that stays is found
        for (long long at = starts[set]; at < starts[set + 1];) {
            int pixel = table.draw(e, camera, counter, key);
            if (pixel >= 0) pixels[at++] = pixel;
        }
    }
}
