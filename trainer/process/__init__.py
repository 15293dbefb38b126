"""This process among all of the run, and on its machine.

- `world`: ranks, devices, process group.
- `early_checks`: mistakes in a recipe that are found in a moment.
- `signals`: being told to stop.
- `launcher`: outliving one that kills.
- `data_clock`: waits for data, of all ranks.
- `speed`: how well the hardware is used. `step_profile`: a trace of some steps.
- `watchdog`: a rank that hangs or died.
- `allocator`: memory that is freed and taken again at each step. `tf32`: how products are rounded.
"""
