"""Weights from elsewhere and for elsewhere.

- `checkpoints`, `checkpoint_files`: the authors' weights, in every layout they came in.
- `description`: what weights are of. `hub`: folders as the hub has them.
"""
