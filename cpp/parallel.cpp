#include "parallel.h"

#include <exception>
#include <new>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace tidegate {
namespace {

// Some 20 to 200 microseconds, as long as the processor's pause takes: the time between two kernels
// of a training step is shorter, so workers sleep only when training pauses.
constexpr int kSpins = 4000;

// The low bits of a region's state count the workers inside, those above are its number.
constexpr unsigned long long kNumber = 1 << 16;
static_assert(kMaxThreads < kNumber);

ThreadPool* the_pool = nullptr;

}  // namespace

void relax() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

FlushDenormals::FlushDenormals() {
#if defined(__x86_64__) || defined(_M_X64)
  saved_ = _mm_getcsr();
  _mm_setcsr(static_cast<unsigned>(saved_) | 0x8040);  // flush to zero, denormals are zero
#elif defined(__aarch64__)
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" ::"r"(saved_ | (1ull << 24)));
#else
  saved_ = 0;
#endif
}

FlushDenormals::~FlushDenormals() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_setcsr(static_cast<unsigned>(saved_));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" ::"r"(saved_));
#endif
}

// Never destroyed: workers may still be asleep in it when the process ends.
ThreadPool& ThreadPool::instance() {
  static const bool ready = [] {
    the_pool = new ThreadPool;
#if defined(__unix__) || defined(__APPLE__)
    pthread_atfork(nullptr, nullptr, &ThreadPool::after_fork);
#endif
    return true;
  }();
  (void)ready;
  return *the_pool;
}

// The child has no workers, and the parent's locks may be held for ever: leave the old pool.
void ThreadPool::after_fork() {
  const int threads = the_pool->threads();
  the_pool = new ThreadPool;
  the_pool->set_threads(threads);
}

void ThreadPool::drain(Call call, void* context, long tasks) {
  try {
    for (long task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks;)
      call(context, task);
  } catch (...) {
    next_.store(tasks, std::memory_order_relaxed);  // the tasks that nobody has taken are dropped
    if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
  }
}

// False when the region with this number is closed: its tasks are all taken, or long done.
bool ThreadPool::enter(unsigned long long number) {
  unsigned long long state = state_.load(std::memory_order_acquire);
  while (state / kNumber == number)
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void ThreadPool::work(Worker& worker) {
  const FlushDenormals flush;
  unsigned long long seen = 0;
  for (;;) {
    unsigned long long now = worker.generation.load(std::memory_order_acquire);
    for (int spin = 0; now == seen && spin < kSpins; ++spin) {
      relax();
      now = worker.generation.load(std::memory_order_acquire);
    }
    if (now == seen) {
      std::unique_lock<std::mutex> lock(worker.sleep);
      worker.asleep.store(true);
      worker.wake.wait(lock, [&] { return worker.generation.load() != seen; });
      worker.asleep.store(false);
      now = worker.generation.load(std::memory_order_acquire);
    }
    seen = now;
    if (!enter(now)) continue;
    drain(call_, context_, tasks_);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::grow(int workers) {
  while (static_cast<int>(workers_.size()) < workers) {
    workers_.push_back(std::make_unique<Worker>());
    Worker& worker = *workers_.back();
    try {
      worker.thread = std::thread([this, &worker] { work(worker); });
    } catch (...) {
      workers_.pop_back();
      throw;
    }
  }
}

void ThreadPool::run_erased(long tasks, Call call, void* context) {
  const FlushDenormals flush;
  int helpers = static_cast<int>(tasks - 1 < threads() - 1 ? tasks - 1 : threads() - 1);
  if (helpers <= 0 || in_region_.exchange(true, std::memory_order_acquire)) {
    for (long task = 0; task < tasks; ++task) call(context, task);
    return;
  }
  try {
    grow(helpers);
  } catch (...) {  // no more threads to be had: those that there are do the work
    helpers = static_cast<int>(workers_.size());
  }
  call_ = call;
  context_ = context;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  number_ += 2;  // odd numbers: closed
  state_.store(number_ * kNumber, std::memory_order_release);
  for (int i = 0; i < helpers; ++i) {
    Worker& worker = *workers_[i];
    worker.generation.store(number_);
    if (worker.asleep.load()) {
      const std::lock_guard<std::mutex> lock(worker.sleep);
      worker.wake.notify_one();
    }
  }
  drain(call, context, tasks);
  // Who has not come by now would find nothing to do, and is not waited for.
  unsigned long long state = state_.fetch_add(kNumber, std::memory_order_acq_rel);
  for (int spin = 0; state % kNumber > 0; ++spin) {
    if (spin < kSpins)
      relax();
    else
      std::this_thread::yield();
    state = state_.load(std::memory_order_acquire);
  }
  // Read here, after the workers have left, and before another caller's region may begin.
  const std::exception_ptr error = std::exchange(error_, nullptr);
  failed_.store(false, std::memory_order_relaxed);
  in_region_.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

}  // namespace tidegate
