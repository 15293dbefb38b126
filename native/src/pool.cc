#include "pool.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include <unistd.h>

namespace millstream {

// One call of `run`.
struct Pool::Job {
  Job(int count, const std::function<void(int)>& work) : count(count), work(work) {}

  const int count;
  const std::function<void(int)>& work;
  int next = 0;
  int finished = 0;
  std::exception_ptr error;
  std::condition_variable is_finished;
};

struct Pool::State {
  const pid_t owner = getpid();
  std::mutex mutex;  // of what follows
  std::condition_variable has_work;
  std::condition_variable has_no_calls;
  std::deque<Job*> jobs;  // those with items that no thread has taken
  int num_calls = 0;
  bool is_closed = false;

  std::mutex closing;  // of `threads`
  std::vector<std::thread> threads;
  int num_threads = 0;
};

Pool::Pool(int num_threads) : state_(std::make_unique<State>()) {
  state_->num_threads = num_threads;
  try {
    for (int i = 0; i < num_threads; ++i) state_->threads.emplace_back([this] { serve(); });
  } catch (...) {  // the system has no more threads for us
    close();
    throw;
  }
}

Pool::~Pool() {
  close();
  // A fork leaves threads and their locks behind: nothing of them can be ended or freed.
  if (getpid() != state_->owner) state_.release();
}

int Pool::num_threads() const { return state_->num_threads; }

void Pool::run(int count, const std::function<void(int)>& work) {
  State& state = own_state();
  if (count <= 0) return;
  Job job(count, work);
  std::unique_lock lock(state.mutex);
  if (state.is_closed) throw std::runtime_error("this pool is closed");
  state.jobs.push_back(&job);
  state.has_work.notify_all();
  job.is_finished.wait(lock, [&] { return job.finished == job.count; });
  if (job.error) std::rethrow_exception(job.error);
}

void Pool::close() {
  if (getpid() != state_->owner) return;
  std::lock_guard closing(state_->closing);
  std::unique_lock lock(state_->mutex);
  state_->is_closed = true;
  state_->has_work.notify_all();
  lock.unlock();
  for (std::thread& thread : state_->threads) thread.join();
  state_->threads.clear();
  lock.lock();
  state_->has_no_calls.wait(lock, [&] { return state_->num_calls == 0; });
}

Pool::Call::Call(Pool& pool) : pool_(pool) {
  State& state = pool.own_state();
  std::lock_guard lock(state.mutex);
  if (state.is_closed) throw std::runtime_error("this pool is closed");
  ++state.num_calls;
}

Pool::Call::~Call() {
  std::lock_guard lock(pool_.state_->mutex);
  if (--pool_.state_->num_calls == 0) pool_.state_->has_no_calls.notify_all();
}

Pool::State& Pool::own_state() const {
  if (getpid() != state_->owner) {
    throw std::runtime_error("this pool was made before the process forked; make one after it");
  }
  return *state_;
}

void Pool::serve() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  for (;;) {
    state.has_work.wait(lock, [&] { return state.is_closed || !state.jobs.empty(); });
    if (state.jobs.empty()) return;
    Job& job = *state.jobs.front();
    const int item = job.next++;
    if (job.next == job.count) state.jobs.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      job.work(item);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error && !job.error) job.error = error;
    // From here on, once the lock is free, the caller may destroy the job.
    if (++job.finished == job.count) job.is_finished.notify_one();
  }
}

}  // namespace millstream
