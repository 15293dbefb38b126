"""Samples to batches.

- `build`: the loader that a recipe asks for.
- `encoded`: which samples a batch holds, read ahead, with their crops drawn, for all loaders alike.
- `storage_threads`: threads that storage may keep for ever. `bad_images`: said and counted.
- `look_ahead`: work begun ahead of its use, for everything that reads or decodes.
- `draw_records`: what was drawn for a sample, as an object for people and programs.
- `token_targets`: labels of the tokens of a batch, from a file of maps.
- `regions`: which part of each image becomes the model's input.
- `host_loader`: decoded (`host_crops`) and augmented by the native extension, on the host's cores.
- `dali_loader`: by a DALI graph (`dali_graph`), which has the operations of `dali_operations` and
  takes the arrays of `dali_inputs`. `reference_loader`: by PIL, the oracle.
- `pil_images`: single images by PIL, for the reference and for what others leave to it.
"""
