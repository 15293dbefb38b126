"""Training images as a model sees them.

- `drawn`: the images of a run, by epoch and batch or by sample, with the numbers drawn for them.
- `picture`: a grid of them, each with its title. `dump_folder`: where their pixels and draws go.
"""
