"""Samples to batches.

- `build`: the loader that a recipe asks for.
- `encoded`: which samples a batch holds, read ahead, with their crops drawn, for all loaders alike.
- `regions`: which part of each image becomes the model's input.
- `dali_loader`: decoded by a DALI graph. `reference_loader`: by PIL, the oracle.
"""
