"""What the trainer costs beside plain PyTorch; docs/engine_speed.md has the figures.

- `bench_engine`: measures all of it. `tables`: the page, from the raw results.
- `memory_run`: trainers, and loops by hand, on batches in memory. `step_times`: their steps, turn
  by turn, on each rank. `start_up`: a run's way to its first step, by part.
"""
