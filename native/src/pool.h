// Threads that share out the images of a batch.

#pragma once

#include <functional>
#include <memory>

namespace millstream {

// Runs the work of several callers at once, first come first served, item by item. What a thread
// needs again for the next item it keeps in `thread_local` variables, which die with the thread.
class Pool {
 public:
  explicit Pool(int num_threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Calls work(0) ... work(count - 1) on the threads, in any order, and returns when all have
  // returned. Throws the first exception of `work` (the other items are still worked on), and
  // std::runtime_error in a closed pool and in a process forked from the pool's.
  void run(int count, const std::function<void(int)>& work);

  // Ends the threads, after the work that has begun, and returns when no `Call` is left. May be
  // called again, from any thread.
  void close();

  int num_threads() const;

  // A stay in the pool, which outlasts `run` until its caller holds the interpreter's lock again:
  // a thread that wants that lock after the interpreter has ended never comes back.
  class Call {
   public:
    explicit Call(Pool& pool);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Pool& pool_;
  };

 private:
  struct Job;
  struct State;
  void serve();
  State& own_state() const;  // throws in a forked process

  std::unique_ptr<State> state_;
};

}  // namespace millstream
