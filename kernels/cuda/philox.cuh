// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011), counters laid out as in fluogan_core.backend.random:
// (pixel, frame, stage + 256 * block, step) under a key of two words gives four words, hence two uniforms.
//
// About 100 integer instructions per counter, no state, no memory.

// What a further block of one draw adds to the third counter word.
constexpr unsigned NEXT_BLOCK = 256u;

struct Uniforms {
    double u, v;
};

__device__ __forceinline__ uint4 philox4x32(uint4 counter, uint2 key) {
    constexpr unsigned M0 = 0xD2511F53u, M1 = 0xCD9E8D57u;  // multipliers and key increments of the paper
    constexpr unsigned W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        unsigned high0 = __umulhi(M0, counter.x), low0 = M0 * counter.x;
        unsigned high1 = __umulhi(M1, counter.z), low1 = M1 * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += W0;
        key.y += W1;
    }
    return counter;
}

// (m + 1/2) / 2**52 for the 52 high bits m of two words: inside (0, 1), exact in float64.
// The bits become the mantissa of a number in [1, 2), which costs less than converting a 64-bit integer.
__device__ __forceinline__ double unit(unsigned high, unsigned low) {
    unsigned upper = 0x3FF00000u | high >> 12, lower = high << 20 | low >> 12;
    return __hiloint2double(static_cast<int>(upper), static_cast<int>(lower)) - (1.0 - 0x1p-53);
}

__device__ __forceinline__ Uniforms uniforms(uint4 counter, uint2 key) {
    uint4 words = philox4x32(counter, key);
    return {unit(words.x, words.y), unit(words.z, words.w)};
}

// The standard normal of two uniforms (Box-Muller, the cosine branch).
__device__ __forceinline__ double box_muller(Uniforms w) { return sqrt(-2.0 * log(w.u)) * cospi(2.0 * w.v); }
