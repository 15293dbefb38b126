"""How many images this machine holds at once (`batch.per_gpu: auto`).

- `memory`: what this process may still take, and what something takes.
- `trial`: steps of the real model on images that are none. `search`: the largest that fits.
"""
