"""Optimization: from batches to a checkpointed, measured model.

- `recipe`, `yaml_config`: what a run is told, and how it is read and checked. `recipe_keys`: what
  can be told, and how on a command line. `run_config`: bookkeeping.
- `batch_plan`: how a global batch is made of what the ranks hold. `capacity`: how much they hold.
- `input_spec`: what the pipeline has to make of images.
- `tuning`: what is fastest on this machine.
- `process`: this process among all of the run, and on its machine.
- `assembly`: the parts of a run, put together.
- `job`: what a trainer works on. `loop`: steps and saves. `evaluation`: scores.
- `engine`: DeepSpeed, and the state that it shards.
- `optimization`: what makes up an optimizer step. `objective`: from a micro-batch to its loss.
  `distillation`: a teacher's share in it.
- `watch`: what is odd in a step. `ema`: the average of the weights.
  `initial_weights`: what a run starts from.
- `record`: what a run leaves on disk. `events`: what it says of itself. `sinks`:
  where that goes beside.
"""
