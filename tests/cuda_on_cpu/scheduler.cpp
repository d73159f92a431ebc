// Runs the threads of a CUDA block as fibers of one host thread.
//
// A fiber runs until its kernel ends or waits (a barrier, a warp operation); then the next one runs.  When none can run, what
// the waiting ones wait for is looked at: a warp operation whose lanes have all come is carried out, a barrier that all threads
// have reached is opened, and if neither is there the block is deadlocked, which a card would answer by hanging.  Between two
// such points threads run one after another, so that a missing barrier makes results depend on the order: that is how races show.
#include "scheduler.h"

#include <algorithm>
#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <vector>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Bounds of the section that holds every `__shared__` variable; absent where a program has none.
extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

namespace cuda_cpu {

Index thread_index, block_index, block_size, grid_size;
void *dynamic_shared;

namespace {

constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 256 * 1024;
constexpr unsigned char POISON = 0xFF;  // a NaN as a float, -1 as an integer
// Behind dynamic shared memory, to see writes past its end; the address sanitizer sees them by itself.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t CANARY_BYTES = 0;
#else
constexpr size_t CANARY_BYTES = 256;
#endif

enum class State { READY, AT_BARRIER, AT_WARP_OP, ENDED };

struct Fiber {
    char *stack = nullptr;  // the lowest page is a guard
    ucontext_t context;
    jmp_buf place;
    bool entered = false;
};

struct Thread {
    State state = State::READY;
    Fiber *fiber = nullptr;
    int line = 0;
    bool predicate = false;
    WarpOp op = WarpOp::SYNC;
    unsigned mask = 0;
    int source = 0;
    uint64_t value = 0, result = 0;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber *> idle;
std::vector<Thread> threads;
Thread *current;
jmp_buf scheduler_place;
void (*kernel_body)(void **);
void **kernel_arguments;
std::string error;
Launch shape;
std::mt19937 shuffler;

#if defined(__SANITIZE_ADDRESS__)
const void *host_stack;
size_t host_stack_bytes;
void before_switch(const void *bottom, size_t bytes) { __sanitizer_start_switch_fiber(nullptr, bottom, bytes); }
void after_switch(const void **bottom, size_t *bytes) { __sanitizer_finish_switch_fiber(nullptr, bottom, bytes); }
#endif

[[gnu::noinline]] void to_scheduler() {
#if defined(__SANITIZE_ADDRESS__)
    before_switch(host_stack, host_stack_bytes);
#endif
    if (!_setjmp(current->fiber->place)) _longjmp(scheduler_place, 1);
#if defined(__SANITIZE_ADDRESS__)
    after_switch(nullptr, nullptr);
#endif
}

[[gnu::noinline]] void to_fiber(Fiber *fiber) {
#if defined(__SANITIZE_ADDRESS__)
    before_switch(fiber->stack, STACK_BYTES);
#endif
    if (!_setjmp(scheduler_place)) {
        if (fiber->entered) _longjmp(fiber->place, 1);
        fiber->entered = true;
        setcontext(&fiber->context);
    }
#if defined(__SANITIZE_ADDRESS__)
    after_switch(nullptr, nullptr);
#endif
}

// Numbers that are not normal count as zero and become zero meanwhile, as with -ftz=true, which CuPy always adds.  A card does so
// with float32 alone; that doubles below 1e-308 go the same way here matters to none of these kernels.
struct FlushToZero {
#if defined(__SSE2__)
    unsigned before = _mm_getcsr();
    FlushToZero() { _mm_setcsr(before | 0x8040); }
    ~FlushToZero() { _mm_setcsr(before); }
#endif
};

// What every fiber runs: one kernel thread after another, whichever it is given.
void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    after_switch(&host_stack, &host_stack_bytes);
#endif
    FlushToZero flush;  // a fiber starts with the settings of the moment when it was prepared
    for (;;) {
        kernel_body(kernel_arguments);
        current->state = State::ENDED;
        to_scheduler();
    }
}

void prepare(Fiber *fiber) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(fiber->stack, STACK_BYTES);
#endif
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, fiber_main, 0);
    fiber->entered = false;
}

Fiber *take_fiber() {
    if (idle.empty()) {
        auto fiber = std::make_unique<Fiber>();
        size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        void *room = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED) std::abort();
        mprotect(room, page, PROT_NONE);
        fiber->stack = static_cast<char *>(room) + page;
        prepare(fiber.get());
        idle.push_back(fiber.get());
        fibers.push_back(std::move(fiber));
    }
    Fiber *fiber = idle.back();
    idle.pop_back();
    return fiber;
}

// After a failure fibers stand in the middle of kernels that never go on.
void reset_fibers() {
    idle.clear();
    for (auto &fiber : fibers) {
        prepare(fiber.get());
        idle.push_back(fiber.get());
    }
}

std::string coordinates(const Index &i) {
    return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

std::string who_waits() {
    int at_barrier = 0, at_warp_op = 0, ended = 0;
    std::set<int> lines;
    for (const Thread &thread : threads) {
        at_barrier += thread.state == State::AT_BARRIER;
        at_warp_op += thread.state == State::AT_WARP_OP;
        ended += thread.state == State::ENDED;
        if (thread.state != State::ENDED) lines.insert(thread.line);
    }
    std::string text = std::to_string(at_barrier) + " threads at a barrier, " + std::to_string(at_warp_op) +
                       " at a warp operation, " + std::to_string(ended) + " ended; lines";
    for (int line : lines) text += " " + std::to_string(line);
    return text;
}

void note(const std::string &message) {
    if (error.empty()) error = message + " [block " + coordinates(block_index) + "]";
}

Index position(unsigned flat, const Index &size) {
    return {flat % size.x, flat / size.x % size.y, flat / size.x / size.y};
}

template <class T>
void arrange(std::vector<T> &items) {
    if (shape.order == REVERSE) std::reverse(items.begin(), items.end());
    if (shape.order == RANDOM) std::shuffle(items.begin(), items.end(), shuffler);
}

void run_thread(unsigned number) {
    current = &threads[number];
    thread_index = position(number, block_size);
    if (!current->fiber) current->fiber = take_fiber();
    to_fiber(current->fiber);
    if (current->state == State::ENDED) {
        idle.push_back(current->fiber);
        current->fiber = nullptr;
    }
}

uint64_t folded(WarpOp op, const std::vector<Thread *> &lanes) {
    uint64_t result = lanes.front()->value;
    for (size_t i = 1; i < lanes.size(); ++i) {
        auto other = lanes[i]->value;
        if (op == WarpOp::SUM) result += other;
        if (op == WarpOp::MIN) result = static_cast<uint64_t>(std::min<int64_t>(result, other));
        if (op == WarpOp::MAX) result = static_cast<uint64_t>(std::max<int64_t>(result, other));
    }
    return result;
}

// Carry out the operation that lanes of one warp wait for under one mask, if all have come.
void try_warp_op(unsigned first, unsigned mask, std::vector<unsigned> &released) {
    std::vector<Thread *> lanes;
    std::vector<unsigned> numbers;
    unsigned present = 0, ballot = 0;
    for (unsigned lane = 0; lane < WARP && first + lane < threads.size(); ++lane) {
        Thread &thread = threads[first + lane];
        if (!(mask >> lane & 1) || thread.state == State::ENDED) continue;
        if (thread.state != State::AT_WARP_OP || thread.mask != mask) return;
        lanes.push_back(&thread);
        numbers.push_back(first + lane);
        present |= 1u << lane;
        if (thread.predicate) ballot |= 1u << lane;
    }
    WarpOp op = lanes.front()->op;
    for (Thread *lane : lanes)
        if (lane->op != op || lane->line != lanes.front()->line) return note("lanes of one mask are at different operations: " + who_waits());
    for (Thread *lane : lanes) {
        switch (op) {
        case WarpOp::SHUFFLE:
            if (!(present >> lane->source & 1))
                return note("line " + std::to_string(lane->line) + ": a shuffle reads lane " + std::to_string(lane->source) +
                            ", which is outside the mask or has ended");
            lane->result = threads[first + lane->source].value;
            break;
        case WarpOp::BALLOT: lane->result = ballot; break;
        case WarpOp::MATCH:
            lane->result = 0;
            for (size_t i = 0; i < lanes.size(); ++i)
                if (lanes[i]->value == lane->value) lane->result |= 1u << (numbers[i] - first);
            break;
        case WarpOp::SYNC: break;
        default: lane->result = folded(op, lanes);
        }
    }
    for (unsigned number : numbers) {
        threads[number].state = State::READY;
        released.push_back(number);
    }
}

// Threads that may go on once no thread can: none means that the block is deadlocked.
std::vector<unsigned> release() {
    std::vector<unsigned> released;
    for (unsigned first = 0; first < threads.size(); first += WARP)
        for (unsigned lane = first; lane < first + WARP && lane < threads.size(); ++lane)
            if (threads[lane].state == State::AT_WARP_OP && error.empty()) try_warp_op(first, threads[lane].mask, released);
    if (!released.empty() || !error.empty()) return released;
    int line = 0, count = 0;
    for (unsigned number = 0; number < threads.size(); ++number) {
        Thread &thread = threads[number];
        if (thread.state == State::ENDED) continue;
        if (thread.state != State::AT_BARRIER) {
            note("deadlock: " + who_waits());
            return {};
        }
        if (line && thread.line != line) {
            note("threads of one block wait at different barriers: " + who_waits());
            return {};
        }
        line = thread.line;
        count += thread.predicate;
        released.push_back(number);
    }
    for (unsigned number : released) {
        threads[number].state = State::READY;
        threads[number].result = static_cast<uint64_t>(count);
    }
    return released;
}

void run_block() {
    if (__start_cuda_shared) std::memset(__start_cuda_shared, POISON, static_cast<size_t>(__stop_cuda_shared - __start_cuda_shared));
    std::memset(dynamic_shared, POISON, shape.shared_bytes + CANARY_BYTES);
    threads.assign(static_cast<size_t>(block_size.x) * block_size.y * block_size.z, Thread{});
    std::vector<unsigned> ready(threads.size());
    for (unsigned i = 0; i < ready.size(); ++i) ready[i] = i;
    size_t ended = 0;
    for (;;) {
        arrange(ready);
        for (unsigned number : ready) {
            run_thread(number);
            if (!error.empty()) return;
            ended += threads[number].state == State::ENDED;
        }
        if (ended == threads.size()) break;
        ready = release();
        if (!error.empty()) return;
    }
    const unsigned char *behind = static_cast<unsigned char *>(dynamic_shared) + shape.shared_bytes;
    for (size_t i = 0; i < CANARY_BYTES; ++i)
        if (behind[i] != POISON)
            return note("a write past the end of dynamic shared memory (" + std::to_string(shape.shared_bytes) + " bytes)");
}

}  // namespace

int block_barrier(bool predicate, int line) {
    Thread *self = current;
    self->state = State::AT_BARRIER;
    self->predicate = predicate;
    self->line = line;
    to_scheduler();
    return static_cast<int>(self->result);
}

uint64_t warp_exchange(WarpOp op, unsigned mask, uint64_t value, int source_lane, int line) {
    Thread *self = current;
    unsigned lane = static_cast<unsigned>(self - threads.data()) % WARP;
    if (!(mask >> lane & 1)) fail("line " + std::to_string(line) + ": a lane is not in the mask that it gives");
    self->state = State::AT_WARP_OP;
    self->op = op;
    self->mask = mask;
    self->value = value;
    self->predicate = value != 0;
    self->source = source_lane;
    self->line = line;
    to_scheduler();
    return self->result;
}

void fail(const std::string &message) {
    note("thread " + coordinates(thread_index) + ": " + message);
    to_scheduler();
    std::abort();  // a failed thread is never run again
}

const char *run(const Launch &launch, void (*kernel)(void **), void **arguments) {
    shape = launch;
    kernel_body = kernel;
    kernel_arguments = arguments;
    grid_size = launch.grid;
    block_size = launch.block;
    shuffler.seed(launch.seed);
    error.clear();
    dynamic_shared = std::malloc(launch.shared_bytes + CANARY_BYTES);
    std::vector<unsigned> blocks(static_cast<size_t>(grid_size.x) * grid_size.y * grid_size.z);
    for (unsigned i = 0; i < blocks.size(); ++i) blocks[i] = i;
    arrange(blocks);
    FlushToZero flush;
    for (unsigned number : blocks) {
        block_index = position(number, grid_size);
        run_block();
        if (!error.empty()) break;
    }
    std::free(dynamic_shared);
    if (error.empty()) return nullptr;
    reset_fibers();
    return error.c_str();
}

}  // namespace cuda_cpu
