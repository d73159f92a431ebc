// One Poisson count by the rules of fluogan_core.backend.random.poisson, in float64 and in its order of operations, so that counts are
// equal wherever exp and log agree: inversion below a mean of 32, Hoermann's transformed rejection PTRS (1993) up to 2**24, a
// rounded normal above.
//
// float64 costs half the rate of float32 on the cards this is made for (compute capability 8.0 and 9.0) and is what makes the
// counts those of the CPU; on cards with 1/32 or 1/64 of it these draws are slower by about that much.
#include "philox.cuh"

constexpr double POISSON_INVERSION_BELOW = 32.0;
constexpr double POISSON_NORMAL_ABOVE = 16777216.0;  // 2**24: float32 holds every whole number up to here
constexpr double HALF_LOG_TWO_PI = 0.9189385332046727;

__constant__ double LOG_FACTORIALS[10] = {
    0.0,
    0.0,
    0.6931471805599453,
    1.791759469228055,
    3.1780538303479458,
    4.787491742782046,
    6.579251212010101,
    8.525161361065415,
    10.60460290274525,
    12.801827480081469,
};

// log(k!): a table below 10, Stirling's series above.
__device__ __forceinline__ double log_factorial(double k) {
    if (k < 10.0) return LOG_FACTORIALS[static_cast<int>(k)];
    double r = 1.0 / k, r2 = r * r;
    double tail = r * (1.0 / 12 - r2 * (1.0 / 360 - r2 * (1.0 / 1260 - r2 / 1680)));
    return (k + 0.5) * log(k) - k + HALF_LOG_TWO_PI + tail;
}

// 1 / k, rounded as the definition does: a division in float64 takes longer than all the rest of a term.  The threads of a warp
// are at the same k, so that constant memory serves them all at once.
constexpr int TERMS = 128;  // means below 32 end well before
struct Reciprocals {
    double of[TERMS];
    constexpr Reciprocals() : of{} {
        for (int k = 1; k < TERMS; ++k) of[k] = 1.0 / k;
    }
};
__constant__ Reciprocals RECIPROCALS = Reciprocals();

// Sequential search in the distribution function of a mean below 32, given zero = exp(-mean).  Where rounding stops the sum
// short of 1, the tail that is left goes to the last k that moved it.
__device__ __forceinline__ double inverted(double mean, double zero, double u) {
    if (!(u > zero)) return 0.0;
    double total = zero, term = zero;
    int k = 1;
    for (; k < TERMS; ++k) {
        term = term * (mean * RECIPROCALS.of[k]);
        double grown = total + term;
        if (!(u > grown && grown > total)) break;
        total = grown;
    }
    return k;
}

// PTRS for means from 32 to 2**24; a rejected candidate takes the next block of the same counter.
__device__ __forceinline__ double transformed(double mean, uint4 counter, uint2 key) {
    double b = 0.931 + 2.53 * sqrt(mean);
    double a = -0.059 + 0.02483 * b;
    double v_r = 0.9277 - 3.6224 / (b - 2.0);
    for (;; counter.z += NEXT_BLOCK) {
        Uniforms w = uniforms(counter, key);
        double u = w.u - 0.5;
        double us = 0.5 - fabs(u);
        double k = floor((2.0 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && w.v <= v_r) return k;
        if (k < 0.0 || (us < 0.013 && w.v > us)) continue;
        double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        double left = log(w.v * inverse_alpha / (a / (us * us) + b));
        if (left <= k * log(mean) - mean - log_factorial(k)) return k;
    }
}

// Means from 32 on.
__device__ __forceinline__ double poisson_large(double mean, uint4 counter, uint2 key) {
    if (mean <= POISSON_NORMAL_ABOVE) return transformed(mean, counter, key);
    return floor(mean + sqrt(mean) * box_muller(uniforms(counter, key)) + 0.5);
}

// Any mean; 0 gives 0.
__device__ __forceinline__ double poisson(double mean, uint4 counter, uint2 key) {
    if (!(mean > 0.0)) return 0.0;
    if (mean >= POISSON_INVERSION_BELOW) return poisson_large(mean, counter, key);
    return inverted(mean, exp(-mean), uniforms(counter, key).u);
}
