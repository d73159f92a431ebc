// Checks sets of photons and says in which order to take them: one thread per set, blocks of 256 along x.
//
// Sets sorted by the keys come in groups of frames, in each by class of size, then by frame and by first pixel, so that sets
// that are taken together need equal room and share the caches of their frame.
//
// Oracle: numpy.lexsort over the sets' boxes.
//
// Arguments (P sets of photons in compressed rows)
//   frame (P,), starts (P + 1,) int64, pixels (photons,) int32; frames, rows, columns: what they may name
//   frames_per_group; sides (classes,) int32: class 1 + k holds boxes of at most sides[k] pixels a side, class 1 single photons
//     alone, class 0 the empty sets; the last side is the field's, so that every set has a class
//   keys (P,) int64
//   counts (groups, classes + 1) uint64, raised: sets of each class
//   faults (3,) uint64, raised: starts that fall or leave the pixels, frames that do not exist, sets with pixels that do not

// Write the key of one set; return the number of its counter, -1 for a set that is faulty.
__device__ long long sorted(const long long *__restrict__ frame, const long long *__restrict__ starts, const int *__restrict__ pixels,
                            long long set, long long sets, long long photons, int frames, int rows, int columns,
                            int frames_per_group, const int *__restrict__ sides, int classes, long long *__restrict__ keys,
                            unsigned long long *__restrict__ faults)
{
    const long long start = starts[set], stop = starts[set + 1], owner = frame[set];
    const bool misplaced = start < 0 || stop < start || stop > photons || (set == 0 && start != 0) ||
                           (set == sets - 1 && stop != photons);
    if (misplaced) atomicAdd(faults, 1ull);
    if (owner < 0 || owner >= frames) atomicAdd(faults + 1, 1ull);
    if (misplaced || owner < 0 || owner >= frames) return -1;
    int top = rows, left = columns, bottom = -1, right = -1;
    bool outside = false;
    for (long long i = start; i < stop; ++i) {
        const int row = pixels[i] / columns, column = pixels[i] % columns;
        outside |= pixels[i] < 0 || row >= rows;
        top = min(top, row);
        left = min(left, column);
        bottom = max(bottom, row);
        right = max(right, column);
    }
    if (outside) {
        atomicAdd(faults + 2, 1ull);
        return -1;
    }
    const int side = max(bottom - top, right - left) + 1;
    int kind = stop > start;
    while (stop > start + 1 && (kind == 1 || sides[kind - 1] < side)) ++kind;
    const long long group = owner / frames_per_group;
    keys[set] = ((group * (classes + 1) + kind) * frames_per_group + owner % frames_per_group) * rows * columns +
                (stop > start ? pixels[start] : 0);
    return group * (classes + 1) + kind;
}

extern "C" __global__ void __launch_bounds__(256) sort_keys(
    const long long *__restrict__ frame, const long long *__restrict__ starts, const int *__restrict__ pixels, long long sets,
    long long photons, int frames, int rows, int columns, int frames_per_group, const int *__restrict__ sides, int classes,
    long long *__restrict__ keys, unsigned long long *__restrict__ counts, unsigned long long *__restrict__ faults)
{
    const long long set = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    long long place = -1;  // of the counter that this set belongs to
    if (set < sets)
        place = sorted(frame, starts, pixels, set, sets, photons, frames, rows, columns, frames_per_group, sides, classes, keys, faults);
    // all threads of the warp are here; one adds for those of its counter: they are few, and millions of sets would queue for them
    const unsigned alike = __match_any_sync(0xffffffffu, place);
    if (place >= 0 && (int)threadIdx.x % 32 == __ffs((int)alike) - 1) atomicAdd(counts + place, (unsigned long long)__popc(alike));
}
