// What a proposal of the chains of emissions changes, and its odds besides the likelihood: the rules of
// fluogan_core.physics.emission_moves, in float64.
//
// Every lane of the warp computes the same here, on the same numbers: no branch parts the lanes.  Only the search for neighbours
// and for the place of a birth shares the work, an emission or a place for each lane.
//
// Odds are kept as factor * base^(shape - 1) * exp(linear), of which the logarithm is taken once, at the end: a logarithm in
// float64 is some 80 instructions, and what stands in many places does not stay in the cache of instructions.
#include "philox.cuh"

constexpr int LANES = 32;
constexpr unsigned ALL = 0xffffffffu;
constexpr int BIRTH = 0, DEATH = 1, PLACE = 2, BRIGHTNESS = 3, SPLIT = 4, MERGE = 5, PAIR = 6;
constexpr int PARTS = 4;  // of a change: the most emissions that a proposal adds, taking away being adding less than nothing

__device__ __forceinline__ double clipped(double x) { return min(max(x, -300.0), 300.0); }

// The law of a brightness: gamma, w^power exp(constant - decay w), or always the mean, with power, decay and constant 0.
// Births are proposed by a log-logistic law about the mean.
struct Law {
    double mean, power, decay, spread, constant;
    bool fixed;  // all are equal

    // One over the density that births are proposed by.
    __device__ __forceinline__ double rarity(double w) const {
        if (fixed) return 1.0;
        const double r = exp(clipped(log(w / mean) / spread));
        return spread * w / (r / ((1.0 + r) * (1.0 + r)));
    }
};

// Largest steps of a proposal: of a place by three scales, fine pixels, and of a split or a neighbour; of the logarithm of a
// brightness by three scales.
struct Steps {
    int near, middle, far, reach;
    double small, medium, large;
    __device__ __forceinline__ int place(double u) const {
        const int scale = static_cast<int>(3.0 * u);
        return scale == 0 ? near : scale == 1 ? middle : far;
    }
    __device__ __forceinline__ double turn(double u) const {
        const int scale = static_cast<int>(3.0 * u);
        return scale == 0 ? small : scale == 1 ? medium : large;
    }
};

// Expected emissions per fine pixel, and their sum up to each of them.
struct Intensity {
    const double *x, *cumulated;
    int rows, columns;
    double total;

    // The place so many fine pixels away, -1 where nothing emits.
    __device__ __forceinline__ int moved(int place, int down, int across) const {
        const int i = place / columns + down, j = place % columns + across;
        if (i < 0 || i >= rows || j < 0 || j >= columns || !(x[i * columns + j] > 0.0)) return -1;
        return i * columns + j;
    }

    // The first place up to which the sum is no less, by all lanes: each round leaves a 32nd of what is asked.
    __device__ __forceinline__ int found(double sum, int lane) const {
        int low = 0, high = rows * columns - 1;
        while (low < high) {
            const int stride = (high - low + LANES - 1) / LANES, last = low + (lane + 1) * stride - 1;
            const int passed = __popc(__ballot_sync(ALL, last < high && cumulated[last] < sum));
            low += passed * stride;
            high = min(low + stride - 1, high);
        }
        return low;
    }
};

// The emissions of the frame.  Only the first lane writes; after that the warp meets.
struct List {
    int *place;
    double *bright;
    int count, columns;  // of the fine grid

    // How many emissions but `own` lie within `reach` of a place, along both axes, and the one of the number `which`.
    __device__ __forceinline__ int near(int at, int own, int reach, int which, int lane, int &chosen) const {
        const int i = at / columns, j = at % columns;
        int found = 0;
#pragma unroll 1
        for (int first = 0; first < count; first += LANES) {
            const int k = first + lane;
            bool close = k < count && k != own;
            if (close) {
                const int down = place[k] / columns - i, across = place[k] % columns - j;
                close = down <= reach && down >= -reach && across <= reach && across >= -reach;
            }
            unsigned flags = __ballot_sync(ALL, close);
            const int more = __popc(flags);
            if (which >= found && which < found + more) {
#pragma unroll 1
                for (int skip = which - found; skip > 0; --skip) flags &= flags - 1;
                chosen = first + __ffs(static_cast<int>(flags)) - 1;
            }
            found += more;
        }
        return found;
    }
};

// What a proposal adds to the list and to the rate: spot[0] and amount[0] are the new state of emission q (the whole of a merger,
// the new part of a split), [1] its old one taken away, [2] the new one of the other emission or part, [3] the old one of that.
struct Change {
    int spot[PARTS];
    double amount[PARTS];
    int parts;  // 0: it is no proposal
    double factor, base, linear;
};

__device__ __forceinline__ int nearest(double distance) { return static_cast<int>(floor(distance + 0.5)); }

// The proposal of a kind.  q: the emission that it changes; u: its six uniforms.  Returns the other emission, or -1.
__device__ __forceinline__ int propose(Change &c, int kind, int q, const List &list, const Intensity &intensity, const Law &law,
                                       const Steps &steps, const double *u, int lane) {
    const double *x = intensity.x;
    const int n = list.count, width = intensity.columns;
    c.parts = 0;
    c.factor = c.base = 1.0;
    c.linear = 0.0;
    int old = 0;
    double w = 0.0;
    if (kind != BIRTH) {
        old = list.place[q];
        w = list.bright[q];
        c.spot[1] = old;
        c.amount[1] = -w;
    }
    if (kind == BIRTH || kind == DEATH) {
        if (kind == BIRTH) {
            old = intensity.found(u[1] * intensity.total, lane);
            w = law.fixed ? law.mean : law.mean * exp(clipped(law.spread * log(u[2] / (1.0 - u[2]))));
        }
        const double rarity = law.rarity(w), sign = kind == BIRTH ? 1.0 : -1.0;
        c.spot[0] = old;
        c.amount[0] = sign * w;
        c.factor = kind == BIRTH ? intensity.total / (n + 1) * rarity : n / intensity.total / rarity;
        c.base = kind == BIRTH ? w : 1.0 / w;
        c.linear = sign * (law.constant - law.decay * w);
        c.parts = 1;
        return -1;
    }
    if (kind == PLACE) {
        const int far = steps.place(u[2]), side = 2 * far + 1;
        c.spot[0] = intensity.moved(old, static_cast<int>(u[3] * side) - far, static_cast<int>(u[4] * side) - far);
        c.amount[0] = w;
        if (c.spot[0] < 0) return -1;
        c.factor = x[c.spot[0]] / x[old];
        c.parts = 2;
        return -1;
    }
    if (kind == BRIGHTNESS) {
        const double turn = steps.turn(u[2]) * (2.0 * u[3] - 1.0);
        c.spot[0] = old;
        c.amount[0] = w * exp(turn) - w;
        c.base = (w + c.amount[0]) / w;
        c.linear = turn - law.decay * c.amount[0];
        c.parts = 1;
        return -1;
    }

    // two emissions: parts of one, or neighbours
    const int reach = steps.reach, pair_side = 2 * steps.middle + 1;
    const double places = (2 * reach + 1) * (2 * reach + 1);
    int k = -1, near = 0, other = 0;
    double w_other = 0.0;
    if (kind != SPLIT) {
#pragma unroll 1
        for (int pass = 0; pass < 2; ++pass) {
            const int which = pass ? min(static_cast<int>(u[2] * near), near - 1) : -1;
            near = list.near(old, q, reach, which, lane, k);
        }
        if (near == 0) return -1;
        other = list.place[k];
        w_other = list.bright[k];
    }
    if (kind == MERGE) {
        const double whole = w + w_other, part = w / whole;
        const int down = old / width - other / width, across = old % width - other % width;
        c.spot[0] = intensity.moved(other, nearest(part * down), nearest(part * across));
        c.amount[0] = whole;
        c.spot[2] = other;
        c.amount[2] = -w_other;
        if (c.spot[0] < 0) return -1;
        c.factor = static_cast<double>(n) * near / ((n - 1) * places) / (x[old] * (x[other] / x[c.spot[0]]) * whole);
        c.base = 1.0 / (part * w_other);
        c.linear = -law.constant;
        c.parts = 3;
        return k;
    }
    const int side = kind == SPLIT ? 2 * reach + 1 : pair_side, far = side / 2;
    const int spot = min(static_cast<int>(u[kind == SPLIT ? 2 : 3] * side * side), side * side - 1);
    const int down = spot / side - far, across = spot % side - far;
    if (kind == SPLIT) {
        // both parts about the old place, at distances that keep the centre of the light, to the nearest fine pixel
        const double part = u[3];
        c.spot[2] = intensity.moved(old, -nearest(part * down), -nearest(part * across));
        if (c.spot[2] < 0) return -1;
        c.spot[0] = intensity.moved(c.spot[2], down, across);
        if (c.spot[0] < 0) return -1;
        c.amount[0] = part * w;
        c.amount[2] = w - c.amount[0];
        c.factor = x[c.spot[0]] * (x[c.spot[2]] / x[old]) * w * (n * places / (n + 1));
        c.base = part * c.amount[2];
        c.linear = law.constant;
    } else {
        c.spot[0] = intensity.moved(old, down, across);
        c.spot[2] = intensity.moved(other, -down, -across);
        c.spot[3] = other;
        c.amount[0] = w;
        c.amount[2] = w_other;
        c.amount[3] = -w_other;
        if (c.spot[0] < 0 || c.spot[2] < 0) return -1;
        if (!law.fixed) {
            const double whole = w + w_other, share = fabs(w / whole + steps.large * (2.0 * u[4] - 1.0));  // reflected at 0 and at 1
            c.amount[0] = whole * (share > 1.0 ? 2.0 - share : share);
            c.amount[2] = whole - c.amount[0];
            if (!(c.amount[0] > 0.0) || !(c.amount[2] > 0.0)) return -1;
        }
        const int rows_apart = c.spot[0] / width - c.spot[2] / width, columns_apart = c.spot[0] % width - c.spot[2] % width;
        if (rows_apart > reach || rows_apart < -reach || columns_apart > reach || columns_apart < -reach) return -1;
        c.factor = near * (x[c.spot[0]] / x[old]) * (x[c.spot[2]] / x[other]);
        c.base = c.amount[0] / w * (c.amount[2] / w_other);
    }
    // what moves with it (q of a split, k of a pair) is within reach in its old place as in its new one: the old place lies
    // between the two new ones, or the new one of q between the two others
    int unused = 0;
    c.factor /= list.near(c.spot[0], kind == SPLIT ? n : q, reach, -1, lane, unused);
    c.parts = kind == SPLIT ? 3 : 4;
    return k;
}
