"""Optimization: from batches to a checkpointed, measured model.

- `recipe`, `yaml_config`: what a run is told, and how it is read and checked. `recipe_keys`: what
  can be told.
- `input_spec`: what the pipeline has to make of images. `world`: ranks, devices, signals.
- `assembly`: the parts of a run, put together.
- `loop`: steps, evaluations, saves.
- `engine`, `zero_state`: DeepSpeed, and the state that it shards.
- `schedule`, `optim`, `optimizer_names`, `parameter_groups`, `loss`, `distillation`, `ema`,
  `metrics`: one part of an optimizer step each. `initial_weights`: what a run starts from.
- `checkpoint`, `run_folder`: what a run leaves on disk. `events`: what it says of itself.
"""
