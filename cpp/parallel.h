// The thread pool: the caller takes part, workers spin briefly and then sleep.
//
// One region at a time. A second caller, or a call from inside a region, runs its tasks itself, so
// that nothing waits for a lock: the workers are never more than were asked for, each caller beside
// them is its own. A forked child starts with a new, empty pool.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace tidegate {

constexpr int kMaxThreads = 256;

// Flushes denormal floats to zero while it lives: they cost hundreds of cycles each, and a
// fading gradient is full of them.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned long long saved_;
};

// Tells the processor that this thread waits for another one.
void relax();

class ThreadPool {
 public:
  static ThreadPool& instance();

  int threads() const { return threads_.load(std::memory_order_relaxed); }
  // 1 to kMaxThreads; takes effect at the next region.
  void set_threads(int threads) { threads_.store(threads, std::memory_order_relaxed); }

  // Calls body(task) once for each task in [0, tasks), from several threads, and returns when all
  // are done. If bodies throw, tasks that have not begun are dropped, and one exception is thrown
  // on when no body runs any more.
  template <class F>
  void run(long tasks, F&& body) {
    using Body = std::remove_reference_t<F>;
    run_erased(tasks, [](void* context, long task) { (*static_cast<Body*>(context))(task); },
               const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, long task);

  ThreadPool() = default;
  static void after_fork();
  void run_erased(long tasks, Call call, void* context);
  // What one worker waits on. Only the workers of a region are told of it; others sleep on.
  struct Worker {
    alignas(64) std::atomic<unsigned long long> generation{0};
    std::atomic<bool> asleep{false};
    std::mutex sleep;
    std::condition_variable wake;
    std::thread thread;
  };

  void work(Worker& worker);
  bool enter(unsigned long long number);
  void drain(Call call, void* context, long tasks);
  void grow(int workers);

  std::atomic<int> threads_{1};
  std::atomic<bool> in_region_{false};  // while the workers run some thread's tasks
  std::vector<std::unique_ptr<Worker>> workers_;

  // One region's work: read by workers that have entered it, and it ends when they have left.
  Call call_ = nullptr;
  void* context_ = nullptr;
  long tasks_ = 0;
  unsigned long long number_ = 0;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;  // the first task's that failed
  alignas(64) std::atomic<long> next_{0};
  alignas(64) std::atomic<unsigned long long> state_{0};
};

}  // namespace tidegate
