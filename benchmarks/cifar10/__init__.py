"""CIFAR-10 on a CPU: the authors' recipe of SplitMixer-II, shortened to what two cores do.

- `record`: what is kept of a run, with its machine and its curves.
- `tables`: the figures of docs/recipes.md and the README.
"""
