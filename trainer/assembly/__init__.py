"""From a recipe to a trainer that stands ready: the only place where the parts meet.

- `data`: images and what loads them. `model`: what is trained. `objective`: what is made smaller.
- `batch_size`: how a global batch is divided among the ranks.
- `trainer`: all parts together, where the newest checkpoint left them.
- `run`: a run from its start to its summary.
"""
