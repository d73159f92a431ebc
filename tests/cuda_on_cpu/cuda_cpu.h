// The CUDA C++ that this project's kernels use, for a host compiler: put in front of an unchanged .cu.
//
// Threads, barriers and warp operations are those of scheduler.h.  One block runs at a time on one host thread, so atomics are
// plain operations.  Products and sums are fused where a card's compiler fuses them, and numbers below 1e-38 are flushed to zero.
// What a card does differently and this does not show: the last place of exp, log and their like, and the memory model beyond
// barriers.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "scheduler.h"

// -- keywords ---------------------------------------------------------------------------------------------------------------
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static __attribute__((section("cuda_shared")))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__ __attribute__((noinline))

// -- vectors and indices ----------------------------------------------------------------------------------------------------
#define CUDA_CPU_VECTORS(T, NAME)                                                                \
    struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                           \
    struct NAME##3 { T x, y, z; };                                                               \
    struct alignas(sizeof(T) < 8 ? 4 * sizeof(T) : 16) NAME##4 { T x, y, z, w; };                \
    static inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                            \
    static inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                    \
    static inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_CPU_VECTORS(int, int)
CUDA_CPU_VECTORS(unsigned, uint)
CUDA_CPU_VECTORS(float, float)
CUDA_CPU_VECTORS(double, double)

#define threadIdx cuda_cpu::thread_index
#define blockIdx cuda_cpu::block_index
#define blockDim cuda_cpu::block_size
#define gridDim cuda_cpu::grid_size
static constexpr int warpSize = 32;

// -- barriers and warp operations ---------------------------------------------------------------------------------------------
#define CUDA_CPU_LINE int line = __builtin_LINE()
static inline void __syncthreads(CUDA_CPU_LINE) { cuda_cpu::block_barrier(false, line); }
static inline int __syncthreads_count(int p, CUDA_CPU_LINE) { return cuda_cpu::block_barrier(p != 0, line); }
static inline int __syncthreads_or(int p, CUDA_CPU_LINE) { return cuda_cpu::block_barrier(p != 0, line) != 0; }
static inline int __syncthreads_and(int p, CUDA_CPU_LINE) { return cuda_cpu::block_barrier(p == 0, line) == 0; }

namespace cuda_cpu {
template <class T>
inline uint64_t to_bits(T value) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}
template <class T>
inline T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
inline int lane() { return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32); }
template <class T>
inline T shuffled(unsigned mask, T value, int source, int line) {
    return from_bits<T>(warp_exchange(WarpOp::SHUFFLE, mask, to_bits(value), source, line));
}
}  // namespace cuda_cpu

static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_CPU_LINE) {
    cuda_cpu::warp_exchange(cuda_cpu::WarpOp::SYNC, mask, 0, 0, line);
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_CPU_LINE) {
    int first = cuda_cpu::lane() & ~(width - 1);
    return cuda_cpu::shuffled(mask, value, first | (source & (width - 1)), line);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDA_CPU_LINE) {
    int lane = cuda_cpu::lane(), source = lane ^ bits;
    return cuda_cpu::shuffled(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_CPU_LINE) {
    int lane = cuda_cpu::lane(), source = lane + static_cast<int>(delta);
    return cuda_cpu::shuffled(mask, value, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_CPU_LINE) {
    int lane = cuda_cpu::lane(), source = lane - static_cast<int>(delta);
    return cuda_cpu::shuffled(mask, value, source < (lane & ~(width - 1)) ? lane : source, line);
}
static inline unsigned __ballot_sync(unsigned mask, int p, CUDA_CPU_LINE) {
    return static_cast<unsigned>(cuda_cpu::warp_exchange(cuda_cpu::WarpOp::BALLOT, mask, p != 0, 0, line));
}
static inline int __any_sync(unsigned mask, int p, CUDA_CPU_LINE) { return __ballot_sync(mask, p, line) != 0; }
static inline int __all_sync(unsigned mask, int p, CUDA_CPU_LINE) { return __ballot_sync(mask, p == 0, line) == 0; }
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, CUDA_CPU_LINE) {
    return static_cast<unsigned>(cuda_cpu::warp_exchange(cuda_cpu::WarpOp::MATCH, mask, cuda_cpu::to_bits(value), 0, line));
}
#define CUDA_CPU_REDUCTION(NAME, OP)                                                                                  \
    template <class T>                                                                                                \
    inline T NAME(unsigned mask, T value, CUDA_CPU_LINE) {                                                            \
        static_assert(std::is_integral_v<T> && sizeof(T) == 4);                                                       \
        auto wide = static_cast<uint64_t>(static_cast<int64_t>(value));                                               \
        return static_cast<T>(cuda_cpu::warp_exchange(cuda_cpu::WarpOp::OP, mask, wide, 0, line));                    \
    }
CUDA_CPU_REDUCTION(__reduce_add_sync, SUM)
CUDA_CPU_REDUCTION(__reduce_min_sync, MIN)
CUDA_CPU_REDUCTION(__reduce_max_sync, MAX)

// -- memory -------------------------------------------------------------------------------------------------------------------
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <class T>
inline T __ldg(const T *p) {
    return *p;
}
#define CUDA_CPU_ATOMIC(NAME, RESULT)                          \
    template <class T>                                         \
    inline T NAME(T *p, std::type_identity_t<T> v) {           \
        T old = *p;                                            \
        *p = RESULT;                                           \
        return old;                                            \
    }
CUDA_CPU_ATOMIC(atomicAdd, static_cast<T>(old + v))
CUDA_CPU_ATOMIC(atomicMax, old > v ? old : v)
CUDA_CPU_ATOMIC(atomicMin, old < v ? old : v)
CUDA_CPU_ATOMIC(atomicOr, static_cast<T>(old | v))
CUDA_CPU_ATOMIC(atomicAnd, static_cast<T>(old & v))
CUDA_CPU_ATOMIC(atomicExch, v)
CUDA_CPU_ATOMIC(atomicInc, old >= v ? T(0) : static_cast<T>(old + 1))
template <class T>
inline T atomicCAS(T *p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
    T old = *p;
    if (old == expected) *p = v;
    return old;
}

// -- arithmetic ---------------------------------------------------------------------------------------------------------------
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
    return std::common_type_t<A, B>(a) < std::common_type_t<A, B>(b) ? a : b;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
    return std::common_type_t<A, B>(a) > std::common_type_t<A, B>(b) ? a : b;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((static_cast<uint64_t>(a) * b) >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
static inline float __int_as_float(int x) { return cuda_cpu::from_bits<float>(cuda_cpu::to_bits(x)); }
static inline int __float_as_int(float x) { return cuda_cpu::from_bits<int>(cuda_cpu::to_bits(x)); }
static inline float __uint_as_float(unsigned x) { return cuda_cpu::from_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return cuda_cpu::from_bits<unsigned>(cuda_cpu::to_bits(x)); }
static inline double __hiloint2double(int high, int low) {
    return cuda_cpu::from_bits<double>(static_cast<uint64_t>(static_cast<unsigned>(high)) << 32 | static_cast<unsigned>(low));
}
static inline double __longlong_as_double(long long x) { return cuda_cpu::from_bits<double>(static_cast<uint64_t>(x)); }
static inline long long __double_as_longlong(double x) { return static_cast<long long>(cuda_cpu::to_bits(x)); }
// cos(pi x); the reduction to a quarter turn is exact, as on a card
static inline double cospi(double x) {
    double turn = std::fabs(std::fmod(x, 2.0));
    return std::sin(M_PI * (0.5 - (turn > 1.0 ? 2.0 - turn : turn)));
}

// -- what the loader appends per kernel ---------------------------------------------------------------------------------------
namespace cuda_cpu {

// A parameter's type as one word: "float32" style codes, "*" for a pointer that is written, "const*" for one that is read.
template <class T>
std::string type_code() {
    using U = std::remove_cv_t<T>;
    if constexpr (std::is_pointer_v<U>) {
        using Target = std::remove_pointer_t<U>;
        return (std::is_const_v<Target> ? "const*" : "*") + type_code<Target>();
    } else {
        const char *kind = std::is_same_v<U, bool>          ? "b"
                           : std::is_floating_point_v<U>    ? "f"
                           : !std::is_integral_v<U>         ? "V"
                           : std::is_signed_v<U>            ? "i"
                                                            : "u";
        return kind + std::to_string(sizeof(U));
    }
}

template <auto Kernel>
struct Exported;
template <class... Parameters, void (*Kernel)(Parameters...)>
struct Exported<Kernel> {
    static std::string signature() {
        std::string text;
        ((text += type_code<Parameters>() + " "), ...);
        return text;
    }
    template <size_t... I>
    static void spread(void **arguments, std::index_sequence<I...>) {
        Kernel(*static_cast<std::remove_cv_t<Parameters> *>(arguments[I])...);
    }
    static void call(void **arguments) { spread(arguments, std::index_sequence_for<Parameters...>{}); }
};

}  // namespace cuda_cpu

#define CUDA_CPU_EXPORT(NAME)                                                                                       \
    extern "C" __attribute__((visibility("default"))) const char *NAME##_signature() {                              \
        static const std::string text = cuda_cpu::Exported<&NAME>::signature();                                     \
        return text.c_str();                                                                                        \
    }                                                                                                               \
    extern "C" __attribute__((visibility("default"))) const char *NAME##_launch(const cuda_cpu::Launch *launch, void **arguments) { \
        return cuda_cpu::run(*launch, &cuda_cpu::Exported<&NAME>::call, arguments);                                 \
    }
